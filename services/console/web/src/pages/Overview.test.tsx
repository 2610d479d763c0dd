import { cleanup, screen, within } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";
import { keep, service, show, streams, vitals } from "../testing";

vi.mock("uplot", () => ({ default: class {} }));
afterEach(cleanup);

const row = () => within(screen.getByRole("main")).getByRole("row", { name: /order/ });
const slow = (mean: number) => vitals({ mean, slow: mean > 1 });

describe("the overview", () => {
  it("shows a service with its light, its reason and its figures", async () => {
    const open = service({ breakers: [{ target: "payment", closed: 0, open: 2, halfOpen: 0 }], circuits: "1 open" });
    await show("/", { known: { objects: keep([open]), vitals: [slow(0.02)] } });
    for (const words of ["well", "AllIsWell", "1 open", "20 ms"]) expect(row().textContent).toContain(words);
    expect(screen.queryByRole("alert")).toBeNull();
  });

  it.each([["late" as const, streams({ late: true }), "live" as const], ["lost" as const, streams(), "lost" as const]])(
    "turns lights grey when what it knows is %s",
    async (_, state, connection) => {
      await show("/", { known: { objects: keep([service()]), streams: state }, connection });
      expect(row().textContent).toContain("late");
      expect(row().textContent).not.toContain("well");
      expect(screen.getByText(/LATE/)).toBeTruthy();
    },
  );

  it("says beside a light that is late why that is so, and what was said before", async () => {
    await show("/", { known: { objects: keep([service()]), streams: streams({ late: true, error: "no route to host" }) } });
    expect(row().textContent).toContain("no route to host before: AllIsWell");
    expect(row().textContent).not.toContain(" for ");
    expect(screen.getByText(/^LATE, data as of \d+ s ago: no route to host/)).toBeTruthy();
  });

  it("shows the median, the 95th and the 99th of a hundred", async () => {
    await show("/", { known: { objects: keep([service()]), vitals: [vitals({ p50: 0.011, p95: 0.022, p99: 0.033 })] } });
    const shown = [...row().querySelectorAll("td")].map((cell) => `${cell.dataset["label"]} ${cell.textContent}`);
    expect(shown.slice(-3)).toEqual(["p50 11 ms", "p95 22 ms", "p99 33 ms"]);
  });

  it("alarms when requests take more than a second in the mean", async () => {
    await show("/", { known: { objects: keep([service()]), vitals: [slow(1.4)] } });
    expect(screen.getByRole("alert").textContent).toMatch(/One service answers slowly.*order.*1.40 s/);
  });
});
