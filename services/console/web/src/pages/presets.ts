/** Faults to begin with by one button, and names for what is begun. Pure. */
import type { Json } from "../parts/schema";

export interface Preset {
  title: string;
  explanation: string;
  target: string;
  fault: string;
  spec: Record<string, Json>;
}

export const PRESETS: Preset[] = [
  {
    title: "Latency 2 s on auth",
    explanation: "Holds every request to auth for two seconds, for a minute.",
    target: "auth",
    fault: "latency",
    spec: { latency: { delay: "2s", percent: 100 }, count: "100%", duration: "60s" },
  },
  {
    title: "Payment fails 70 %",
    explanation: "Seven of ten requests to payment are answered with 503, for a minute.",
    target: "payment",
    fault: "errors",
    spec: { errors: { percent: 70, status: 503 }, count: "100%", duration: "60s" },
  },
  {
    title: "Kill payment",
    explanation: "Evicts one pod of payment, as far as its disruption budget allows.",
    target: "payment",
    fault: "podKill",
    spec: { podKill: { method: "Evict" }, count: 1 },
  },
];

/** What the form begins with: values that the API server takes, of the faults whose fields have no default. */
const SETTINGS: Record<string, Json> = {
  latency: { delay: "2s" },
  memoryStress: { size: "64Mi" },
};

/** The form's first spec for a fault. */
export const begun = (fault: string): Record<string, Json> => ({
  [fault]: SETTINGS[fault] ?? {},
  ...(fault === "podKill" ? {} : { duration: "60s" }),
});

/** A name that nobody has used: what it is, and when. At most `longest` characters. */
export function freshName(subject: string, what: string, now: Date, longest = 63): string {
  const two = (number: number) => String(number).padStart(2, "0");
  const time = [now.getHours(), now.getMinutes(), now.getSeconds()].map(two).join("");
  const when = `${what.toLowerCase()}-${two(now.getMonth() + 1)}${two(now.getDate())}-${time}`;
  return `${subject.slice(0, longest - 1 - when.length)}-${when}`;
}
