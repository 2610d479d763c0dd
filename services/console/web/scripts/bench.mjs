// The console and its page under load, as they are: an API server of made-up services that change all the time, the real
// backend in front of it, a real browser before that. Prints a table of Markdown, and fails where a bound is not held.
//   npm run bench -- --console ../../../target/release/valerix-console
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { launch } from "./browser.mjs";

const SERVICES = 1_000;
/** Changes of services. Unit: per second. */
const RATE = 1_000;
/** How long changes come. Unit: milliseconds. */
const LASTS = 15_000;
const GROUP = "/apis/resilience.valerix.io/v1alpha1";
const MIB = 1024 * 1024;

const { values } = parseArgs({ options: { console: { type: "string" } } });
if (!values.console) {
  console.error("--console is not given: name the program, as cargo build --release -p valerix-console makes it");
  process.exit(2);
}

let version = 1;
const condition = (type, status, reason, message) => ({ type, status, reason, message, lastTransitionTime: "2026-11-27T10:00:00Z", observedGeneration: 1 });
const name = (number) => `service-${String(number).padStart(4, "0")}`;
const service = (number, message) => ({
  apiVersion: "resilience.valerix.io/v1alpha1",
  kind: "ResilientService",
  metadata: { name: name(number), namespace: `team-${number % 20}`, uid: `u-${number}`, generation: 1, resourceVersion: String(version++), creationTimestamp: "2026-11-27T09:00:00Z" },
  spec: { image: `registry.example/service-${number}:1.2.3`, replicas: 2, ports: [{ name: "http", containerPort: 8080 }], chaos: { admission: "Allowed" }, resilience: { targets: [{ name: "stock", service: "stock" }, { name: "ledger", service: "ledger" }] } },
  status: {
    observedGeneration: 1,
    conditions: [condition("Ready", "True", "AllPodsCurrent", message), condition("Available", "True", "MinimumReplicasAvailable", "2 of 2 pods are ready"), condition("ConfigApplied", "True", "AllPodsCurrent", message), condition("CircuitsClosed", "True", "AllClosed", "no circuit is open"), condition("ResourcesReady", "True", "AllApplied", "every owned object stands as desired"), condition("Progressing", "False", "RolloutComplete", "every pod is of the current template")],
  },
});
const objects = Array.from({ length: SERVICES }, (_, number) => service(number, "first"));
const watches = new Set();

/** The API server: lists in pages, watches that end when they are asked to, and nothing else. */
const api = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://api");
  const json = (body) => response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
  if (pathname === "/version") return json({ major: "1", minor: "36", gitVersion: "v1.36.0" });
  const own = pathname === `${GROUP}/resilientservices`;
  if (searchParams.get("watch")) {
    response.writeHead(200, { "content-type": "application/json" });
    if (own) watches.add(response);
    const end = setTimeout(() => response.end(), 1000 * Number(searchParams.get("timeoutSeconds") ?? 10));
    return response.on("close", () => watches.delete(response) && clearTimeout(end));
  }
  const from = Number(searchParams.get("continue") ?? 0);
  const limit = Number(searchParams.get("limit") ?? SERVICES);
  const more = own && from + limit < SERVICES ? String(from + limit) : undefined;
  return json({ apiVersion: "v1", kind: "List", metadata: { resourceVersion: String(version), continue: more }, items: own ? objects.slice(from, from + limit) : [] });
});
const port = await new Promise((done) => api.listen(0, "127.0.0.1", () => done(api.address().port)));

const folder = mkdtempSync(join(tmpdir(), "console-bench-"));
const kubeconfig = join(folder, "kubeconfig");
writeFileSync(kubeconfig, JSON.stringify({ apiVersion: "v1", kind: "Config", "current-context": "c", clusters: [{ name: "c", cluster: { server: `http://127.0.0.1:${port}` } }], users: [{ name: "c", user: {} }], contexts: [{ name: "c", context: { cluster: "c", user: "c" } }] }));
const [listen, report] = await Promise.all([free(), free()]);
const backend = spawn(values.console, [], { env: { PATH: process.env.PATH, KUBECONFIG: kubeconfig, LISTEN_ADDRESS: `127.0.0.1:${listen}`, VALERIX_REPORT_PORT: String(report), VALERIX_STATE_DIR: folder, VALERIX_POLICY_DIR: folder, ANONYMOUS_READ: "true", RUST_LOG: "warn" }, stdio: ["ignore", "ignore", "inherit"] });
backend.on("error", (error) => stop(`failed to start ${values.console}: ${error.message}`));
const url = `http://127.0.0.1:${listen}`;

/** A port that nobody has. */
function free() {
  return new Promise((done) => {
    const taken = createServer().listen(0, "127.0.0.1", () => {
      const { port } = taken.address();
      taken.close(() => done(port));
    });
  });
}
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
function stop(error) {
  backend.kill();
  rmSync(folder, { recursive: true, force: true });
  if (error) console.error(error);
  process.exit(error ? 1 : 0);
}
/** Resident memory of the backend, and the most that it has been. Unit: MiB. */
function memory() {
  const status = readFileSync(`/proc/${backend.pid}/status`, "utf8");
  const of = (field) => Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)?.[1]) / 1024;
  return { now: of("VmRSS"), most: of("VmHWM") };
}
const processor = () => {
  const parts = readFileSync(`/proc/${backend.pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(parts[11]) + Number(parts[12])) / 100;
};

for (let tries = 0; ; tries += 1) {
  const answer = await fetch(`${url}/api/session`).catch(() => undefined);
  if (answer?.ok && watches.size > 0) break;
  if (tries > 300) stop("the console did not begin to follow within 30 s");
  await pause(100);
}
const rows = [];
const row = (what, figure, unit, bound, holds) => rows.push({ what, figure: figure.toFixed(unit === "frames/s" || unit === "messages/s" ? 0 : 2), unit, bound, holds });
await pause(2_000);
const listed = memory();
row("backend, 1,000 services listed: memory", listed.now, "MiB", "< 25", listed.now < 25);

const browser = await launch();
const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
await page.addInitScript(() => {
  // What the stream says is counted where it arrives.
  window.arrived = 0;
  const Own = window.EventSource;
  window.EventSource = class extends Own {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", () => (window.arrived += 1));
    }
  };
});
await page.goto(url);
await page.getByText(name(0), { exact: true }).first().waitFor({ timeout: 60_000 });
const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime / 1000);
const whole = await page.evaluate(() => performance.now() / 1000);
row("page: first paint", paint, "s", "< 1", paint < 1);
row("page: 1,000 services shown", whole, "s", "< 3", whole < 3);

const session = await page.context().newCDPSession(page);
const heap = async () => {
  await session.send("HeapProfiler.collectGarbage");
  return (await session.send("Runtime.getHeapUsage")).usedSize / MIB;
};
/** Frames of some seconds, while somebody scrolls. */
const frames = (milliseconds) =>
  page.evaluate(async (milliseconds) => {
    const begun = performance.now();
    const [from, times] = [window.arrived, []];
    let last = begun;
    while (last - begun < milliseconds) {
      const now = await new Promise(requestAnimationFrame);
      times.push(now - last);
      last = now;
      scrollBy(0, times.length % 200 < 100 ? 12 : -12);
    }
    times.sort((one, other) => one - other);
    const seconds = (last - begun) / 1000;
    return { rate: times.length / seconds, late: times[Math.floor(times.length * 0.99)], messages: (window.arrived - from) / seconds };
  }, milliseconds);
const still = await frames(3_000);
row("page at rest: frames", still.rate, "frames/s", "", true);
const heapBefore = await heap();

let changed = 0;
const begun = Date.now();
const changes = setInterval(() => {
  // As many as are due by now, so that a timer that is late loses none.
  for (const due = ((Date.now() - begun) / 1000) * RATE; changed < due; changed += 1) {
    const number = changed % SERVICES;
    objects[number] = service(number, `change ${changed}`);
    const line = `${JSON.stringify({ type: "MODIFIED", object: objects[number] })}\n`;
    for (const watch of watches) watch.write(line);
  }
}, 10);
const cpu = processor();
await pause(1_000);
const busy = await frames(LASTS - 1_000);
clearInterval(changes);
const spent = (processor() - cpu) / (LASTS / 1000);
row("changes made", changed / ((Date.now() - begun) / 1000), "messages/s", "", true);
row("page: messages that arrive", busy.messages, "messages/s", "> 900", busy.messages > 900);
row("page under changes, scrolled: frames", busy.rate, "frames/s", "as at rest", busy.rate > 0.9 * still.rate);
row("page under changes: the latest of a hundred frames", busy.late, "ms", "< 50", busy.late < 50);
// What was said last is what is shown.
const last = await page.evaluate(() => document.querySelector("main td.why[title]")?.title);
const shown = await page.waitForFunction((least) => Number(/\d+/.exec(document.querySelector("main td.why[title]")?.title ?? "")?.[0]) >= least, changed - SERVICES, { timeout: 5_000 }).then(() => true, () => false);
if (!shown) console.error(`the page shows "${last}" at last, and the newest is change ${changed - 1}`);
const heapAfter = await heap();
row("page: memory after them, above before", heapAfter - heapBefore, "MiB", "< 20", heapAfter - heapBefore < 20);
const after = memory();
row("backend under changes: processor", spent, "cores", "", true);
row("backend: the most memory", after.most, "MiB", "< 40", after.most < 40);

console.log("| what | measured | bound |\n|---|---|---|");
for (const { what, figure, unit, bound, holds } of rows) console.log(`| ${what} | ${figure} ${unit} | ${bound && `${bound}: ${holds ? "held" : "**not held**"}`} |`);
await browser.close();
api.closeAllConnections();
stop(rows.every(({ holds }) => holds) && shown ? undefined : "a bound is not held");
