import { cleanup, screen, within } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Turn } from "../api/types";
import { experiment, keep, show } from "../testing";
import { ready, spans } from "./Readiness";

vi.mock("uplot", () => ({ default: class {} }));
afterEach(cleanup);

const at = (second: number) => new Date(Date.parse("2026-11-27T10:00:00Z") + second * 1000).toISOString();
const turn = (pod: string, second: number, state: Turn["state"]): Turn => ({ pod, at: at(second), state });
const between = (from: number, to: number, ...turns: Turn[]) => Object.fromEntries(spans(turns, Date.parse(at(from)), Date.parse(at(to))));

describe("the readiness of pods", () => {
  it("is drawn from turn to turn, and from the left where it was so before", () => {
    expect(between(0, 100, turn("a", -500, "Ready"), turn("a", 20, "Unready"), turn("a", 30, "Ready"))).toEqual({
      a: [
        { from: 0, to: 200, state: "Ready" },
        { from: 200, to: 300, state: "Unready" },
        { from: 300, to: 1000, state: "Ready" },
      ],
    });
  });

  it("ends with the pod, and leaves out who was not there", () => {
    const drawn = between(0, 100, turn("old", -50, "Ready"), turn("old", -40, "Gone"), turn("victim", -50, "Ready"), turn("victim", 50, "Gone"), turn("next", 55, "Unready"), turn("late", 200, "Ready"));
    expect(drawn).toEqual({ victim: [{ from: 0, to: 500, state: "Ready" }], next: [{ from: 550, to: 1000, state: "Unready" }] });
  });

  it("is said in words too", () => {
    expect(ready([{ from: 0, to: 750, state: "Ready" }, { from: 750, to: 1000, state: "Unready" }])).toBe("ready for 75 % of the time that it was there");
  });

  it("is as old as it is, whatever the reader's own clock says", async () => {
    const run = experiment({ intentAt: at(0), completedAt: at(60) });
    const answers = (path: string) => (path.endsWith("/readiness") ? { body: { turns: [] } } : { body: { events: [] } });
    await show("/chaos/shop/slow", { known: { objects: keep([run]), skew: 60_000 }, answers });
    const panel = (await screen.findByRole("heading", { name: "Readiness over the run" })).closest("section") as HTMLElement;
    expect((await within(panel).findByText(/as of \d+ s ago$/)).textContent).toMatch(/^as of \d s ago$/);
  });

  it("stands on the page beside the fault's window", async () => {
    const run = experiment({ intentAt: at(0), injectedAt: at(10), faultEndedAt: at(40), completedAt: at(60) });
    const turns = [turn("order-1", -100, "Ready"), turn("order-1", 12, "Unready"), turn("order-1", 20, "Ready")];
    await show("/chaos/shop/slow", { known: { objects: keep([run]) }, answers: (path) => (path.endsWith("/readiness") ? { body: { turns } } : { body: { events: [] } }) });
    const drawn = await within(screen.getByRole("main")).findByRole("img", { name: /^order-1: ready for 91 %/ });
    const window = drawn.querySelector(".window");
    expect([window?.getAttribute("x"), window?.getAttribute("width")]).toEqual(["278", "333"]);
    expect(drawn.querySelectorAll(".unready")).toHaveLength(1);
  });
});
