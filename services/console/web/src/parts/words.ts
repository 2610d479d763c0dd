/** Numbers and times in words. Pure. */

export function age(from: string | null | undefined, now: number): string {
  if (!from) return "–";
  const seconds = Math.max(0, Math.round((now - Date.parse(from)) / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** Time until `to`, `0 s` once it has passed. */
export const until = (to: string | null | undefined, now: number): string =>
  to ? age(new Date(now).toISOString(), Math.max(now, Date.parse(to))) : "–";

export function seconds(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  return value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(value < 10 ? 2 : 1)} s`;
}

export function percent(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  const percent = value * 100;
  return `${percent > 0 && percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
}

/** What tells an id from others at a glance. The beginning of one that begins with its time is that of all of the same moment. */
export const shortId = (id: string): string => (id.length > 20 ? `${id.slice(0, 8)}…${id.slice(-8)}` : id);

export const rate = (value: number | null | undefined): string =>
  value === null || value === undefined ? "–" : `${value.toFixed(value < 10 ? 1 : 0)}/s`;

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let rest = value;
  while (rest >= 1024 && unit < units.length - 1) {
    rest /= 1024;
    unit += 1;
  }
  return `${rest < 10 && unit > 0 ? rest.toFixed(1) : Math.round(rest)} ${units[unit]}`;
}

/** The moment on the reader's own clock. */
export const clock = (time: string | null | undefined): string =>
  time
    ? new Date(time).toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" })
    : "–";

/** `podKill` as a person writes it. */
export const spaced = (name: string): string => name.replace(/([A-Z])/g, (letter) => ` ${letter.toLowerCase()}`).trim();
