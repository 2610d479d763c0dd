/** The days of a policy's backups, week by week. Pure. */
import type { Backup } from "../api/types";

/** How a day ended, or stands. */
export type State = "verified" | "stored" | "failed" | "missed" | "unclear" | "running" | "due" | "none" | "ahead";

export interface Day {
  /** `yyyy-mm-dd`. */
  slot: string;
  state: State;
  records: Backup[];
}

/** What is drawn of a day, the word under it, and what that means. */
export const STATES: Record<State, { sign: string; word: string; meaning: string }> = {
  verified: { sign: "✔", word: "verified", meaning: "stored, and restored on trial" },
  stored: { sign: "●", word: "stored", meaning: "stored, not restored on trial" },
  failed: { sign: "✖", word: "failed", meaning: "not stored, or it could not be restored on trial" },
  missed: { sign: "○", word: "missed", meaning: "the day passed without a run" },
  unclear: { sign: "?", word: "unclear", meaning: "it is not known whether it was stored" },
  running: { sign: "▸", word: "running", meaning: "a run is under way" },
  due: { sign: "…", word: "due", meaning: "a run is due" },
  none: { sign: "·", word: "", meaning: "nothing was due, or its record is not kept any more" },
  ahead: { sign: "", word: "", meaning: "still ahead" },
};

/** Whole weeks before that of today. */
const WEEKS = 4;
/** A record further ahead is nobody's plan. Unit: days. */
const AHEAD = 7;
const DAY = 86_400_000;

const time = (slot: string) => Date.parse(`${slot}T00:00:00Z`);
const slotOf = (time: number) => new Date(time).toISOString().slice(0, 10);
/** Days since Monday. */
const weekday = (time: number) => (new Date(time).getUTCDay() + 6) % 7;

/** The day that it is in the zone of a schedule such as `00:00 Europe/Berlin`; in UTC where the browser does not know the zone. */
export function today(schedule: string, now: number): string {
  try {
    // Swedes write a day as slots are written.
    return new Intl.DateTimeFormat("sv-SE", { timeZone: schedule.split(" ").at(-1) || "UTC" }).format(now);
  } catch {
    return slotOf(now);
  }
}

/** The gravest of what its records say. */
function state(records: readonly Backup[], isAhead: boolean): State {
  const states = records.map(({ phase, verified }): State => {
    if (phase === "Completed") return verified === "Restored" ? "verified" : verified === "Failed" ? "failed" : "stored";
    if (phase === "Failed") return "failed";
    if (phase === "Missed") return "missed";
    if (phase === "Scheduled" || phase === "") return "due";
    return ["Dumping", "Archiving", "Verifying", "Uploading"].includes(phase) ? "running" : "unclear";
  });
  const gravest = (["failed", "missed", "unclear", "running", "due", "stored", "verified"] as const).find((state) => states.includes(state));
  return gravest ?? (isAhead ? "ahead" : "none");
}

/** Weeks from Monday on: that of `today`, or of a record that is planned after it, and four before. */
export function weeks(records: readonly Backup[], today: string): Day[][] {
  const now = time(today);
  const planned = records.map((record) => time(record.slot)).filter((at) => at > now && at <= now + AHEAD * DAY);
  const last = Math.max(now, ...planned);
  const first = now - (weekday(now) + 7 * WEEKS) * DAY;
  const bySlot = new Map<string, Backup[]>();
  for (const record of records) bySlot.set(record.slot, [...(bySlot.get(record.slot) ?? []), record]);
  const rows = Math.floor((last - first) / (7 * DAY)) + 1;
  return Array.from({ length: rows }, (_, week) =>
    Array.from({ length: 7 }, (_, day) => {
      const at = first + (7 * week + day) * DAY;
      const slot = slotOf(at);
      const own = bySlot.get(slot) ?? [];
      return { slot, state: state(own, at > now), records: own };
    }),
  );
}

/** The day in words, such as `Friday, 27 November 2026`. */
export const dayInWords = (slot: string): string =>
  new Date(time(slot)).toLocaleDateString("en-GB", { weekday: "long", day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });
