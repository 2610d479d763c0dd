import { describe, expect, it, vi } from "vitest";
import type { Experiment, Item, Message } from "../api/types";
import { experiment } from "../testing";
import { MOST_RUNS, observe } from "./probes";
import { NOTHING, learn, seenRun } from "./reducer";

vi.mock("uplot", () => ({ default: class {} }));

const AT = Date.parse("2026-11-27T10:00:00Z");
/** A run that is under way, whose probe was answered so often. */
const counted = (passed: number, failed = 0, change: Partial<Experiment> = {}): Experiment =>
  experiment({ active: true, phase: "Running", probes: [{ name: "orders", passed, failed, firstFailure: null }], ...change });
const snapshot = (objects: Item[], now: number): Message => ({ type: "snapshot", objects, vitals: [], streams: [], operatorSilence: null, now: new Date(now).toISOString() });
const drawn = (known: typeof NOTHING, of = counted(0)) => seenRun(known, of)?.probes.get("orders")?.answers.map(({ from, to, passed, failed }) => [from - AT, to - AT, passed, failed]);

describe("the probes of a run", () => {
  it("are what was counted anew from one sight to the next, and not what was counted before", () => {
    let known = learn(NOTHING, [snapshot([counted(41, 2)], AT)], AT);
    expect(drawn(known)).toEqual([]);
    known = learn(known, [{ type: "upserted", object: counted(44, 2) }], AT + 2_000);
    known = learn(known, [{ type: "upserted", object: counted(44, 2) }], AT + 4_000);
    known = learn(known, [{ type: "upserted", object: counted(45, 3) }], AT + 5_000);
    expect(drawn(known)).toEqual([[0, 2_000, 3, 0], [4_000, 5_000, 1, 1]]);
    expect(seenRun(known, counted(0))?.since).toBe(AT);
  });

  it("go on after the connection was lost, over the whole of that time", () => {
    let known = learn(NOTHING, [snapshot([counted(1)], AT)], AT);
    known = learn(known, [snapshot([counted(9, 1)], AT + 60_000)], AT + 60_000);
    expect(drawn(known)).toEqual([[0, 60_000, 8, 1]]);
  });

  it("stand at the times of the console's clock", () => {
    const known = learn(NOTHING, [snapshot([counted(1)], AT), { type: "upserted", object: counted(2) }], AT - 90_000);
    expect(drawn(known)).toEqual([[0, 0, 1, 0]]);
  });

  it("are kept when the run is over, and make room for the next", () => {
    let known = learn(NOTHING, [snapshot([counted(0)], AT)], AT);
    const over = { active: false, phase: "Completed" };
    known = learn(known, [{ type: "upserted", object: counted(3, 0, over) }], AT + 1_000);
    expect(drawn(known)).toEqual([[0, 1_000, 3, 0]]);
    known = learn(known, [{ type: "upserted", object: counted(0, 0, { run: "r-2" }) }], AT + 9_000);
    expect(drawn(known, counted(0)), "what was of another run").toBeUndefined();
    expect(seenRun(known, counted(0, 0, { run: "r-2" }))?.since).toBe(AT + 9_000);
  });

  it("are not known of a run that was over before", () => {
    const known = learn(NOTHING, [snapshot([counted(3, 0, { active: false })], AT)], AT);
    expect(known.runs.size).toBe(0);
  });

  it("have a beginning for one that appears in the middle of the run", () => {
    const before = observe(undefined, counted(0, 0, { probes: [] }), AT);
    const after = observe(before, counted(2), AT + 1_000);
    expect(after?.probes.get("orders")?.answers).toEqual([{ from: AT + 1_000, to: AT + 1_000, passed: 2, failed: 0 }]);
  });

  it("are bounded, and say from when on they are kept", () => {
    let seen = observe(undefined, counted(0), AT);
    for (let second = 1; second <= 400; second += 1) seen = observe(seen, counted(second), AT + second * 1_000);
    expect(seen?.probes.get("orders")?.answers).toHaveLength(300);
    expect(seen?.since).toBe(AT + 100_000);
    const many = Array.from({ length: MOST_RUNS + 5 }, (_, number) => counted(0, 0, { name: `slow-${number}` }));
    const known = learn(NOTHING, [snapshot(many, AT)], AT);
    expect([known.runs.size, known.runs.has("ChaosExperiment/shop/slow-4"), known.runs.has("ChaosExperiment/shop/slow-5")]).toEqual([MOST_RUNS, false, true]);
  });
});
