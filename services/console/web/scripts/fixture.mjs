// A backend of made-up data, for looking at the page without a cluster: node scripts/fixture.mjs [port]
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname } from "node:path";

const dist = new URL("../dist/", import.meta.url);
const headers = readFileSync(new URL("../../src/headers.rs", import.meta.url), "utf8");
// The policy that the real one sends: what it forbids is forbidden here too.
const policy = /const POLICY: &str = "([^;][^"]*)"/.exec(headers)[1].replace(/\\\n\s*/g, "");
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const ago = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();
const schema = JSON.parse(readFileSync(new URL("chaos-schema.json", import.meta.url), "utf8"));
// What a browser must not take for code; for pictures it is what the operator would say.
const HOSTILE = "<img src=x onerror=alert(1)> payment: upstream connect error";
const CALM = "payment answered 503 to 20 of 20 requests";
let hostile = HOSTILE;
const day = (ago) => new Date(Date.now() - ago * 86_400_000).toISOString().slice(0, 10);

const names = ["analytics", "auth", "gateway", "inventory", "notification", "order", "payment", "processor"];
const wrong = () => ({
  payment: { light: "Red", reason: "MinimumReplicasUnavailable", message: hostile, replicas: "0/2", since: ago(40) },
  order: { light: "Yellow", reason: "CircuitOpen", message: "the circuit to payment is open in 2 of 2 pods", circuits: "1 open", since: ago(31) },
  analytics: { light: "Grey", reason: "Outdated", message: "the operator has not seen the newest change yet", since: ago(3) },
});
const condition = (type, status, reason, message = "") => ({ type, status, reason, message, since: ago(4000) });
export const service = (name) => ({
  kind: "ResilientService", namespace: "shop", name, light: "Green", reason: "AllIsWell", message: "every pod is ready",
  since: ago(5400), replicas: "2/2", config: "2/2", circuits: "closed", image: `${name}:0123456789abcdef`, chaosAllowed: true,
  breakers: name === "order" ? [{ target: "inventory", closed: 2, open: 0, halfOpen: 0 }, { target: "payment", closed: 0, open: 2, halfOpen: 0 }] : [],
  faults: name === "auth" ? [{ run: "r-1", type: "Latency", pods: 2 }] : [],
  conditions: [condition("Ready", "True", "AllIsWell"), condition("Available", "True", "MinimumReplicasAvailable", "2 of 2 pods are ready"), condition("ConfigApplied", "True", "Reported")],
  ...wrong()[name],
  ...(name === "payment" && { conditions: [condition("Ready", "False", "MinimumReplicasUnavailable", hostile), condition("Available", "False", "ProgressDeadlineExceeded", "no pod of 2 is ready"), condition("ConfigApplied", "Unknown", "CreateContainerConfigError", "secret \"payment-database\" was not found")] }),
});
const experiment = (name, change) => ({
  kind: "ChaosExperiment", namespace: "shop", name, createdAt: ago(60), fault: "latency", settings: { delay: "2s" }, target: "auth",
  count: "100%", duration: "60s", schedule: null, desired: "Run", phase: "Completed", active: false, waiting: false, verdict: "Pass", reason: "SteadyStateHeld",
  message: "the probes passed before, during and after the fault", run: name, targets: [], probes: [{ name: "orders-accepted", passed: 41, failed: 2, firstFailure: "status 503" }],
  intentAt: ago(300), injectedAt: ago(298), endsAt: null, faultEndedAt: ago(238), steadyAgainAt: ago(237), timeToRecover: "1.4s", completedAt: ago(236),
  nextRunAt: null, history: [{ run: "a", type: "latency", at: ago(9000), verdict: "Fail", reason: "ProbeFailed", recovery: "3.2s" }], ...change,
});
const backup = (before, change) => ({
  kind: "Backup", namespace: "shop", name: `shop-${day(before).replaceAll("-", "")}`, policy: "shop", slot: day(before), phase: "Completed", reason: "", message: "", verified: "Restored",
  bytes: 1_360_000 - before * 20_000, size: `1.${3 - before} MiB`, sha256: "9f2c".repeat(16), scheduledAt: ago(90_000 + before * 86_400), startedAt: ago(89_990 + before * 86_400), completedAt: ago(89_900 + before * 86_400), trial: null, ...change,
});
const restore = (name, change) => ({
  kind: "Restore", namespace: "shop", name, createdAt: ago(900), policy: "shop", slot: day(0), archive: `shop/shop/${day(0).replaceAll("-", "")}.tar.zst`, mode: "NewDatabase", phase: "Completed", over: true,
  reason: "Restored", message: "1 database, 7 tables compared", tables: 7, startedAt: ago(890), completedAt: ago(850),
  databases: [{ name: "orders", target: "orders_look", phase: "Completed", bytes: 812_000, tables: 7, seconds: 12, previous: "orders_before_20261127", previousUntil: ago(-500_000), note: "everything belongs to the role of the connection" }], conditions: [], ...change,
});
const everything = () => [
  ...names.map(service),
  experiment("auth-slow-1127", { phase: "Running", active: true, verdict: "Awaited", run: "r-1", reason: "FaultActive", message: "the fault is on in 2 of 2 pods", injectedAt: ago(12), endsAt: ago(-48), faultEndedAt: null, steadyAgainAt: null, completedAt: null, intentAt: ago(14), timeToRecover: null, targets: [{ pod: "auth-1", state: "Active", message: null }, { pod: "auth-2", state: "Active", message: null }] }),
  experiment("payment-errors-1126", { fault: "errors", target: "payment", verdict: "Fail", reason: "ProbeFailed", message: hostile, timeToRecover: "12s" }),
  { kind: "BackupPolicy", namespace: "shop", name: "shop", schedule: "00:00 Europe/Berlin", databases: ["auth", "orders", "payments"], secrets: ["postgres-shop", "postgres-admin"], suspended: false, nextRunAt: ago(-30_000), lastSuccess: day(0), size: "1.3 MiB", lastRun: null, conditions: [] },
  backup(-1, { phase: "Scheduled", verified: null, bytes: null, size: null, completedAt: null, scheduledAt: ago(-30_000) }), backup(0), backup(1, hostile === CALM ? {} : { verified: "Failed", trial: "orders: 7 rows are missing" }), backup(2, { phase: "Missed", verified: null, bytes: null, size: null, message: "the day passed without a run" }),
  ...Array.from({ length: 18 }, (_, index) => backup(index + 3, { bytes: 1_300_000 - index * 9_000, size: "1.2 MiB", verified: index % 4 === 0 ? "Restored" : "Local", ...(index === 7 && { phase: "Failed", reason: "DumpFailed", message: "payments: the server closed the connection", verified: null, bytes: null, size: null, sha256: null }) })),
  restore("orders-look", {}), restore("orders-back", { mode: "ReplaceDatabase", phase: "Restoring", over: false, reason: "Restoring", message: "orders is being restored", completedAt: null, tables: null, databases: [{ name: "orders", target: "orders", phase: "Restoring", bytes: 812_000, tables: null, seconds: null, previous: null, previousUntil: null, note: null }] }),
  restore("orders-damaged", { phase: "Failed", reason: "ArchiveDamaged", message: hostile, tables: null }),
  ...names.flatMap((name) => [1, 2].map((number) => ({ kind: "Pod", namespace: "shop", name: `${name}-${number}`, service: name, phase: "Running", ready: name !== "payment", node: "node-1", restarts: 0, since: ago(5000) }))),
];
const moment = (age, slow) => ({ at: ago(age), rate: 12.4 + Math.sin(age / 20) * 3, errors: slow ? 0.034 : 0, mean: slow ? 1.6 + Math.sin(age / 30) / 4 : 0.024, p50: slow ? 1.5 + Math.sin(age / 30) / 4 : 0.018, p95: slow ? 2.3 : 0.06, p99: slow ? 2.9 : 0.11 });
const vitals = () => names.map((name) => ({
  namespace: "shop", name, ...moment(0, name === "auth"), slow: name === "auth", leftOut: name === "analytics" && hostile !== CALM ? "3 of its pods are not asked: 300 are at most, in order of their namespaces and names" : null, guarded: name === "inventory",
  pods: [1, 2].map((number) => ({ pod: `${name}-${number}`, answered: name !== "payment", cpu: 0.031, memory: 21_000_000, threads: 6, uptime: 5000 })),
}));
const kinds = ["ResilientService", "ChaosExperiment", "BackupPolicy", "Backup", "Restore", "Pod"];
const asOf = (state) => (state === "away" ? null : ago(state === "late" ? 95 : 2));
const streams = (state) => kinds.map((kind) => ({ kind, asOf: asOf(state), late: ["late", "away"].includes(state), error: ["late", "away"].includes(state) ? "the API server does not answer" : null, truncated: false, forbidden: state === "forbidden" }));
const report = (pod) => ({ pod, error: pod.name.endsWith("2") ? "the pod did not report in time" : null, report: pod.name.endsWith("2") ? null : {
  podUID: "u", service: pod.service, now: ago(0), policy: { versions: [1], hash: "9f2c41d07aa1b2c3", source: "Document", loadedAt: ago(700) },
  circuitBreakers: [{ target: "inventory", state: "Closed", calls: 40, failures: 1, slow: 0 }, { target: "payment", state: "Open", calls: 20, failures: 20, slow: 0, nextProbeAt: ago(-4) }],
  limits: [{ name: "inventory", kind: "Bulkhead", limit: 100, inUse: 3, allowed: 900, refused: 0, degraded: false }], faults: [] } });

const gone = (state) => (state === "gone" ? { since: ago(12), reason: "the operator does not renew its Lease any more" } : null);

/** A thousand services, and the stream in which each of them changes once a second. */
const MANY = 1_000;
const ofMany = (number, message) => ({ ...service(`service-${String(number).padStart(4, "0")}`), message });
function changes(say) {
  const begun = Date.now();
  let made = 0;
  return setInterval(() => {
    // As many as are due by now, so that a timer that is late loses none.
    for (const due = Date.now() - begun; made < due; made += 1) say({ type: "upserted", object: ofMany(made % MANY, `change ${made}`) });
  }, 10);
}

/** The probes of what runs, answered twice a second and for a while not as they should be. */
function answers(running, say) {
  let asked = 0;
  return setInterval(() => {
    asked += 1;
    const failed = Math.max(0, Math.min(3, asked - 3));
    say({ type: "upserted", object: { ...running, probes: running.probes.map((probe) => ({ ...probe, passed: probe.passed + asked - failed, failed: probe.failed + failed })) } });
  }, 500);
}

/** What is asked for beside the stream. */
const isAsked = (pathname) => /^\/api\/(services|schemas|happened)\b/.test(pathname);

/** `state` chooses what the pages see: held (the stream says nothing), slow (what is asked for is not answered), down (nothing is told who looks), away (the cluster does not answer), error (what is asked for fails), late, gone (nobody writes status), forbidden, empty, cut (the stream breaks off), calm (nothing hostile), many (a thousand services that change), open (not signed in) or closed. */
export function start(port, state = "") {
  let cut = false;
  hostile = state === "calm" ? CALM : HOSTILE;
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://console");
    const json = (body, status = 200) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    response.setHeader("content-security-policy", policy);
    if (state === "down" && pathname.startsWith("/api/")) return json({ detail: "the console is starting" }, 500);
    if (state === "error" && isAsked(pathname)) return json({ detail: "failed to ask the API server" }, 500);
    if (state === "slow" && isAsked(pathname)) return;
    if (pathname === "/api/session") return json({ user: ["open", "closed"].includes(state) ? null : "system:serviceaccount:shop:console-demo", csrf: "c", anonymousRead: state === "open", orders: true, version: "0.1.0" });
    if (pathname === "/api/events") {
      if (state === "cut" && cut) return request.socket.destroy();
      response.writeHead(200, { "content-type": "text/event-stream" });
      if (state === "held") return response.flushHeaders();
      const say = (message) => response.write(`data: ${JSON.stringify(message)}\n\n`);
      const nothing = ["forbidden", "empty", "away"].includes(state);
      const many = state === "many" ? Array.from({ length: MANY }, (_, number) => ofMany(number, "first")) : [];
      const objects = nothing ? [] : state === "many" ? many : everything();
      say({ type: "snapshot", objects, vitals: nothing ? [] : vitals(), streams: streams(state), operatorSilence: gone(state), now: ago(0) });
      if (state === "cut") {
        cut = true;
        return setTimeout(() => response.destroy(), 300);
      }
      const timer = setInterval(() => {
        say({ type: "heartbeat", now: ago(0), streams: streams(state), operatorSilence: gone(state) });
        if (!nothing) say({ type: "vitals", services: vitals() });
      }, 1000);
      const changing = state === "many" ? changes(say) : undefined;
      const running = objects.find((object) => object.active);
      const answered = running && answers(running, say);
      return request.on("close", () => [timer, changing, answered].forEach(clearInterval));
    }
    if (pathname === "/api/schemas/ChaosExperiment") return json(schema);
    if (pathname.endsWith("/moments")) return json({ moments: Array.from({ length: 60 }, (_, index) => moment(300 - index * 5, index > 30 && pathname.includes("/auth/"))) });
    if (pathname.endsWith("/readiness")) return json({ turns: [["auth-1", 900, "Ready"], ["auth-2", 900, "Ready"], ["auth-2", 9, "Unready"], ["auth-2", 4, "Ready"]].map(([pod, at, state]) => ({ pod, at: ago(at), state })) });
    if (pathname.endsWith("/pods")) return json({ pods: everything().filter((object) => object.kind === "Pod" && object.service === pathname.split("/")[4]).map(report) });
    if (pathname === "/api/happened") return state === "empty" ? json({ events: [], truncated: false }) : json({ truncated: false, events: [{ at: ago(20), type: "Warning", reason: "CircuitOpened", message: hostile, kind: "ResilientService", namespace: "shop", name: "order", times: 3 }, { at: ago(80), type: "Normal", reason: "ConfigApplied", message: "2 of 2 pods run it", kind: "ResilientService", namespace: "shop", name: "auth", times: 1 }] });
    if (pathname === "/api/orders" || pathname.startsWith("/api/orders/")) return json({ status: 201, circuitOpen: false, retryAfter: null, body: { order_id: crypto.randomUUID(), status: "CONFIRMED" } });
    if (request.method === "POST" && (pathname === "/api/experiments" || pathname === "/api/restores")) {
      let text = "";
      return request.on("data", (part) => (text += part)).on("end", () => {
        const { namespace, name, spec, check } = JSON.parse(text);
        const refused = "delay must be between 1ms and 5m";
        if (spec.latency && /h$/.test(spec.latency.delay)) return json({ detail: `spec.latency.delay: ${refused}`, errors: [{ field: "spec.latency.delay", detail: refused }] }, 422);
        json({ namespace, name }, check ? 200 : 201);
      });
    }
    if (pathname.startsWith("/api/")) return json({ detail: "experiments is forbidden: User \"console-demo\" cannot create it" }, 403);
    let file;
    try {
      file = pathname === "/" ? undefined : readFileSync(new URL(`.${pathname}`, dist));
    } catch {
      file = undefined;
    }
    const type = file ? TYPES[extname(pathname)] : "text/html";
    return response.writeHead(200, { "content-type": type ?? "application/octet-stream" }).end(file ?? readFileSync(new URL("index.html", dist)));
  });
  return new Promise((done) => server.listen(port, "127.0.0.1", () => done(server)));
}

if (import.meta.url === `file://${process.argv[1]}`) await start(Number(process.argv[2] ?? 8090), process.argv[3]);
