/** Faults to begin with, and the specs that the form makes. Pure. */

export interface Preset {
  title: string;
  explanation: string;
  target: string;
  fault: Fault;
  fields: Fields;
}

export const FAULTS = [
  "latency",
  "errors",
  "podKill",
  "abort",
  "refuse",
  "partition",
  "crash",
  "cpuStress",
  "memoryStress",
] as const;
export type Fault = (typeof FAULTS)[number];

/** What the form holds, as it was typed. */
export interface Fields {
  duration: string;
  count: string;
  delay: string;
  percent: string;
  status: string;
  routes: string;
  method: string;
  peer: string;
  direction: string;
  times: string;
  workers: string;
  size: string;
  schedule: string;
  dryRun: boolean;
}

export const DEFAULTS: Fields = {
  duration: "60s",
  count: "100%",
  delay: "2s",
  percent: "100",
  status: "503",
  routes: "",
  method: "Evict",
  peer: "",
  direction: "Both",
  times: "1",
  workers: "1",
  size: "64Mi",
  schedule: "",
  dryRun: false,
};

export const PRESETS: Preset[] = [
  {
    title: "Latency 2 s on auth",
    explanation: "Holds every request to auth for two seconds, for a minute.",
    target: "auth",
    fault: "latency",
    fields: DEFAULTS,
  },
  {
    title: "Payment fails 70 %",
    explanation: "Seven of ten requests to payment are answered with 503, for a minute.",
    target: "payment",
    fault: "errors",
    fields: { ...DEFAULTS, percent: "70" },
  },
  {
    title: "Kill payment",
    explanation: "Evicts one pod of payment, as far as its disruption budget allows.",
    target: "payment",
    fault: "podKill",
    fields: { ...DEFAULTS, count: "1" },
  },
];

/** Which of the fields a fault has. */
export const OF: Record<Fault, (keyof Fields)[]> = {
  latency: ["delay", "percent", "routes"],
  errors: ["percent", "status", "routes"],
  podKill: ["method"],
  abort: ["percent", "routes"],
  refuse: [],
  partition: ["peer", "direction"],
  crash: ["times"],
  cpuStress: ["percent", "workers"],
  memoryStress: ["size"],
};

/** The spec of a ChaosExperiment. What is wrong with it is for the API server to say. */
export function spec(target: string, fault: Fault, fields: Fields): Record<string, unknown> {
  const routes = fields.routes.split(/[\n,]/).map((route) => route.trim()).filter(Boolean);
  const shared = routes.length > 0 ? { routes } : {};
  const percent = Number(fields.percent);
  const settings: Record<Fault, unknown> = {
    latency: { delay: fields.delay, percent, ...shared },
    errors: { percent, status: Number(fields.status), ...shared },
    podKill: { method: fields.method },
    abort: { percent, ...shared },
    refuse: {},
    partition: { peer: fields.peer, direction: fields.direction },
    crash: { times: Number(fields.times) },
    cpuStress: { loadPercent: percent, workers: Number(fields.workers) },
    memoryStress: { size: fields.size },
  };
  return {
    target: { service: target },
    [fault]: settings[fault],
    count: /^\d+$/.test(fields.count) ? Number(fields.count) : fields.count,
    ...(fault === "podKill" ? {} : { duration: fields.duration }),
    ...(fields.schedule ? { schedule: fields.schedule } : {}),
    ...(fields.dryRun ? { dryRun: true } : {}),
  };
}

/** A name that nobody has used: what it is, and when. */
export function freshName(target: string, fault: Fault, now: Date): string {
  const two = (number: number) => String(number).padStart(2, "0");
  const time = [now.getHours(), now.getMinutes(), now.getSeconds()].map(two).join("");
  const when = `${fault.toLowerCase()}-${two(now.getMonth() + 1)}${two(now.getDate())}-${time}`;
  return `${target.slice(0, 62 - when.length)}-${when}`;
}
