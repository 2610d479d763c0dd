import { cleanup, fireEvent, screen, within } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";
import { backup, keep, policy, show } from "../testing";
import { dayInWords, today, weeks } from "./days";

vi.mock("uplot", () => ({ default: class {} }));
afterEach(cleanup);

/** A Friday. */
const TODAY = "2026-11-27";
const record = (slot: string, change = {}) => backup({ name: `daily-${slot.replaceAll("-", "")}`, slot, ...change });
const states = (...records: ReturnType<typeof backup>[]) => {
  const all = weeks(records, TODAY).flat();
  return Object.fromEntries(all.filter((day) => day.records.length > 0).map((day) => [day.slot, day.state]));
};

describe("the days of a policy", () => {
  it("are whole weeks, that of today and four before", () => {
    const rows = weeks([], TODAY);
    expect(rows.map((row) => row.length)).toEqual([7, 7, 7, 7, 7]);
    const all = rows.flat();
    expect([all[0]?.slot, all.at(-1)?.slot]).toEqual(["2026-10-26", "2026-11-29"]);
    expect(all.slice(-4).map((day) => day.state)).toEqual(["none", "none", "ahead", "ahead"]);
  });

  it("reach into the next week where a run is planned there, and no further than a week", () => {
    const planned = { phase: "Scheduled", verified: null };
    expect(weeks([record("2026-11-30", planned)], TODAY)).toHaveLength(6);
    expect(weeks([record("2099-01-01", planned)], TODAY)).toHaveLength(5);
  });

  it("are told apart by phase and trial", () => {
    const told = states(
      record("2026-11-20", { verified: "Restored" }),
      record("2026-11-21", { verified: "Local" }),
      record("2026-11-22", { verified: "Failed" }),
      record("2026-11-23", { phase: "Failed", verified: null }),
      record("2026-11-24", { phase: "Missed", verified: null }),
      record("2026-11-25", { phase: "Unknown", verified: null }),
      record("2026-11-26", { phase: "Uploading", verified: "Local" }),
      record("2026-11-27", { phase: "Scheduled", verified: null }),
    );
    expect(Object.values(told)).toEqual(["verified", "stored", "failed", "failed", "missed", "unclear", "running", "due"]);
  });

  it("are as bad as the worst of their records", () => {
    expect(states(record("2026-11-20"), record("2026-11-20", { name: "b", phase: "Failed" }))).toEqual({ "2026-11-20": "failed" });
  });

  it("begin where the schedule's clock is, not the reader's", () => {
    const late = Date.parse("2026-11-27T23:30:00Z");
    expect([today("00:00 Europe/Berlin", late), today("00:00 Etc/UTC", late), today("00:00 Nowhere/Else", late)]).toEqual(["2026-11-28", TODAY, TODAY]);
    expect(dayInWords(TODAY)).toBe("Friday, 27 November 2026");
  });
});

describe("the calendar", () => {
  const now = () => new Date().toISOString().slice(0, 10);
  const before = (days: number) => new Date(Date.now() - days * 86_400_000).toISOString().slice(0, 10);
  const open = () =>
    show("/backups", { known: { objects: keep([policy(), record(before(1), { verified: "Failed", trial: "orders: 7 rows are missing" }), record(now())]) } });
  const day = (slot: string) => within(screen.getByRole("grid")).getByRole("button", { name: new RegExp(`^${dayInWords(slot)}: `) });

  it("says each day in words, and shows its record when it is chosen", async () => {
    await open();
    expect(day(now()).getAttribute("aria-label")).toMatch(/: stored, and restored on trial$/);
    expect(day(before(2)).getAttribute("aria-label")).toMatch(/: nothing was due, or its record is not kept any more$/);
    expect(day(now()).textContent).toContain("✔ verified");
    fireEvent.click(day(before(1)));
    expect(day(before(1)).getAttribute("aria-pressed")).toBe("true");
    const shown = screen.getByRole("heading", { level: 3, name: dayInWords(before(1)) }).parentElement as HTMLElement;
    expect(shown.getAttribute("aria-live")).toBe("polite");
    expect(within(shown).getByText(/orders: 7 rows are missing/)).toBeTruthy();
    fireEvent.click(day(before(3)));
    expect(within(shown).getByText("There is no record of this day.")).toBeTruthy();
    fireEvent.click(day(before(3)));
    expect(within(shown).getByText("Choose a day to see its record.")).toBeTruthy();
  });

  it("is one stop of the tabulator, and the arrows lead to every day", async () => {
    await open();
    const stops = () => within(screen.getByRole("grid")).getAllByRole("button").filter((button) => button.tabIndex === 0);
    expect(stops()).toEqual([day(now())]);
    day(now()).focus();
    fireEvent.keyDown(day(now()), { key: "ArrowLeft" });
    expect(document.activeElement).toBe(day(before(1)));
    fireEvent.keyDown(day(before(1)), { key: "ArrowUp" });
    expect(document.activeElement).toBe(day(before(8)));
    expect(stops()).toEqual([day(before(8))]);
    fireEvent.keyDown(day(before(8)), { key: "Home" });
    const first = document.activeElement as HTMLElement;
    fireEvent.keyDown(first, { key: "ArrowLeft" });
    expect(document.activeElement, "nothing is before the first").toBe(first);
  });
});
