import { cleanup, screen, within } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";
import { observe } from "../live/probes";
import { type Answers, experiment, keep, show } from "../testing";

vi.mock("uplot", () => ({ default: class {} }));
afterEach(cleanup);

const at = (second: number) => new Date(Date.parse("2026-11-27T10:00:00Z") + second * 1000).toISOString();
const answers: Answers = (path) => (path.endsWith("/readiness") ? { body: { turns: [] } } : { body: { events: [] } });
const counted = (passed: number, failed: number, active: boolean) =>
  experiment({ active, intentAt: at(0), injectedAt: at(10), faultEndedAt: at(40), completedAt: active ? null : at(60), probes: [{ name: "orders", passed, failed, firstFailure: failed > 0 ? "status 503" : null }] });
const panel = async () => within((await screen.findByRole("heading", { name: "Probes over the run" })).closest("section") as HTMLElement);

describe("the probes of an experiment", () => {
  it("are drawn over the run from when on the page saw it, beside the fault's window", async () => {
    let seen = observe(undefined, counted(40, 0, true), Date.parse(at(5)));
    seen = observe(seen, counted(44, 0, true), Date.parse(at(15)));
    seen = observe(seen, counted(45, 2, true), Date.parse(at(30)));
    const run = counted(45, 2, false);
    await show("/chaos/shop/slow", { known: { objects: keep([run]), runs: new Map([["ChaosExperiment/shop/slow", seen as NonNullable<typeof seen>]]) }, answers });
    const strip = await (await panel()).findByRole("img", { name: /^orders, since .*: 5 answers as expected, 2 not$/ });
    const places = (name: string) => [...strip.querySelectorAll(name)].map((rect) => [Number(rect.getAttribute("x")), Number(rect.getAttribute("width"))]);
    // From 15 s before the run to 15 s after it: 90 s.
    expect(places(".unseen")).toEqual([[0, 222]]);
    expect(places(".passed")).toEqual([[222, 111]]);
    expect(places(".failed")).toEqual([[333, 167]]);
    expect(places(".window")).toEqual([[278, 333]]);
    expect((await panel()).getByText(/^seen by this page since /)).toBeTruthy();
    expect((await panel()).getByText(/45 passed, 2 failed/), "the numbers are those of the whole run").toBeTruthy();
  });

  it("are numbers alone where the page was not open", async () => {
    await show("/chaos/shop/slow", { known: { objects: keep([counted(45, 2, false)]) }, answers });
    expect((await panel()).getByText(/^This page was not open while the probes were asked/)).toBeTruthy();
    expect((await panel()).getByText(/45 passed, 2 failed/)).toBeTruthy();
    expect((await panel()).getByText("status 503")).toBeTruthy();
    expect((await panel()).queryByRole("img")).toBeNull();
  });

  it("say since when nothing came", async () => {
    const seen = observe(undefined, counted(1, 0, true), Date.parse(at(5)));
    await show("/chaos/shop/slow", { known: { objects: keep([counted(1, 0, true)]), runs: new Map([["ChaosExperiment/shop/slow", seen as NonNullable<typeof seen>]]) }, answers });
    expect((await panel()).getByText(/^Seen by this page since .*; nothing was answered since\.$/)).toBeTruthy();
  });
});
