/** For tests: objects of every kind, and every page with what it knows given. */
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider, createMemoryHistory, createRouter } from "@tanstack/react-router";
import { configure, render, screen } from "@testing-library/react";
import { vi } from "vitest";
import type { Backup, Experiment, Item, Kind, Pod, Policy, Restore, SeenStream, Service, Session, Vitals } from "./api/types";
import { type Connection, Given } from "./live/live";
import { type Known, NOTHING } from "./live/reducer";
import { tree } from "./router";

// A busy machine draws a page late.
configure({ asyncUtilTimeout: 10_000 });

const AT = "2026-11-27T10:00:00Z";

export const service = (change: Partial<Service> = {}): Service => ({
  kind: "ResilientService", namespace: "shop", name: "order", light: "Green", reason: "AllIsWell", message: "", since: AT,
  replicas: "2/2", config: "2/2", circuits: "closed", image: "order:1", chaosAllowed: true, breakers: [], faults: [],
  conditions: [{ type: "Ready", status: "True", reason: "AllIsWell", message: "", since: AT }], ...change,
});
export const experiment = (change: Partial<Experiment> = {}): Experiment => ({
  kind: "ChaosExperiment", namespace: "shop", name: "slow", createdAt: AT, fault: "latency", settings: { delay: "2s" }, target: "order",
  count: "100%", duration: "60s", schedule: null, desired: "Run", phase: "Completed", active: false, waiting: false, verdict: "Pass", reason: "Held",
  message: "", run: "r-1", targets: [{ pod: "order-1", state: "Recovered", message: null }],
  probes: [{ name: "orders", passed: 3, failed: 1, firstFailure: "status 503" }], intentAt: AT, injectedAt: AT, endsAt: null,
  faultEndedAt: AT, steadyAgainAt: AT, timeToRecover: "1.4s", completedAt: AT, nextRunAt: null,
  history: [{ run: "r-0", type: "latency", at: AT, verdict: "Fail", reason: "ProbeFailed", recovery: "3.2s" }], ...change,
});
export const policy = (change: Partial<Policy> = {}): Policy => ({
  kind: "BackupPolicy", namespace: "shop", name: "daily", schedule: "00:00 Etc/UTC", databases: ["orders", "payments"], secrets: ["db"],
  suspended: false, nextRunAt: null, lastSuccess: "2026-11-26", size: "1 MiB", lastRun: null, conditions: [], ...change,
});
export const backup = (change: Partial<Backup> = {}): Backup => ({
  kind: "Backup", namespace: "shop", name: "daily-20261126", policy: "daily", slot: "2026-11-26", phase: "Completed", reason: "Stored",
  message: "", verified: "Restored", trial: null, bytes: 9, size: "9 B", sha256: "ab", scheduledAt: AT, startedAt: AT, completedAt: AT, ...change,
});
export const restore = (change: Partial<Restore> = {}): Restore => ({
  kind: "Restore", namespace: "shop", name: "look", createdAt: AT, policy: "daily", slot: "2026-11-26", archive: "k", mode: "NewDatabase",
  phase: "Completed", over: true, reason: "Restored", message: "", tables: 7, startedAt: AT, completedAt: AT,
  databases: [{ name: "orders", target: "orders_look", phase: "Completed", bytes: 9, tables: 7, seconds: 1, previous: null, previousUntil: null, note: null }],
  conditions: [], ...change,
});
export const pod = (change: Partial<Pod> = {}): Pod => ({
  kind: "Pod", namespace: "shop", name: "order-1", service: "order", phase: "Running", ready: true, node: "n", restarts: 0, since: AT, ...change,
}) as Pod;
export const vitals = (change: Partial<Vitals> = {}): Vitals => ({
  namespace: "shop", name: "order", at: new Date().toISOString(), rate: 10, errors: 0, mean: 0.02, p50: 0.02, p95: 0.02, p99: 0.02, slow: false, leftOut: null, guarded: false,
  pods: [{ pod: "order-1", answered: true, cpu: 0.1, memory: 1, threads: 2, uptime: 3 }], ...change,
});

export const KINDS: Kind[] = ["ResilientService", "ChaosExperiment", "BackupPolicy", "Backup", "Restore", "Pod"];
export const streams = (change: Partial<SeenStream> = {}): SeenStream[] =>
  KINDS.map((kind) => ({ kind, asOf: new Date().toISOString(), late: false, error: null, truncated: false, forbidden: false, ...change }));
export const everything = (): Item[] => [service(), experiment(), policy(), backup(), restore(), pod()];
export const keep = (items: Item[]): Known["objects"] => new Map(items.map((item) => [`${item.kind}/${item.namespace}/${item.name}`, item]));
export const SESSION: Session = { user: "ann", csrf: "c", anonymousRead: false, orders: true, version: "1" };

/** What the backend answers, by path; nothing is a request that never ends. */
export type Answers = (path: string, request: RequestInit | undefined) => { status?: number; body: unknown } | undefined;

export interface Told {
  known?: Partial<Known>;
  connection?: Connection;
  lostAt?: number | null;
  session?: Session | undefined;
  answers?: Answers;
}

/** Shows the page at `path`. */
export async function show(path: string, { known = {}, connection = "live", lostAt = null, session = SESSION, answers = () => undefined }: Told = {}) {
  // What a browser has and the window of the tests has not.
  vi.stubGlobal("scrollTo", () => {});
  vi.stubGlobal("ResizeObserver", class { observe() {} disconnect() {} });
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener() {}, removeEventListener() {}, addListener() {}, removeListener() {} }));
  vi.stubGlobal("fetch", async (url: string, request?: RequestInit) => {
    const answer = answers(url, request);
    if (!answer) return new Promise(() => {});
    return new Response(answer.body === undefined ? "" : JSON.stringify(answer.body), { status: answer.status ?? 200 });
  });
  const given = { known: { ...NOTHING, ready: true, streams: streams(), ...known }, connection, lostAt, session, error: null };
  const router = createRouter({ routeTree: tree, history: createMemoryHistory({ initialEntries: [path] }) });
  const queries = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  render(
    <QueryClientProvider client={queries}>
      <Given value={given}>
        <RouterProvider router={router} />
      </Given>
    </QueryClientProvider>,
  );
  // The router looks up its first page before it shows anything.
  await screen.findByRole("main");
  return router;
}
