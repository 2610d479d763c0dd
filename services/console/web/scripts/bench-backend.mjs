// The backend before an API server of a thousand services that change a thousand times a second, with one who reads.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { begin } from "./program.mjs";

const SERVICES = 1_000;
/** Changes. Unit: per second. */
const RATE = 1_000;
const LASTS = 15_000;
const GROUP = "/apis/resilience.valerix.io/v1alpha1";

let version = 1;
const condition = (type, status, reason, message) => ({ type, status, reason, message, lastTransitionTime: "2026-11-27T10:00:00Z", observedGeneration: 1 });
const service = (number, message) => ({
  apiVersion: "resilience.valerix.io/v1alpha1",
  kind: "ResilientService",
  metadata: { name: `service-${number}`, namespace: `team-${number % 20}`, uid: `u-${number}`, generation: 1, resourceVersion: String(version++), creationTimestamp: "2026-11-27T09:00:00Z" },
  spec: { image: `registry.example/service-${number}:1.2.3`, replicas: 2, ports: [{ name: "http", containerPort: 8080 }], chaos: { admission: "Allowed" }, resilience: { targets: [{ name: "stock", service: "stock" }, { name: "ledger", service: "ledger" }] } },
  status: {
    observedGeneration: 1,
    conditions: [condition("Ready", "True", "AllPodsCurrent", message), condition("Available", "True", "MinimumReplicasAvailable", "2 of 2 pods are ready"), condition("ConfigApplied", "True", "AllPodsCurrent", message), condition("CircuitsClosed", "True", "AllClosed", "no circuit is open"), condition("ResourcesReady", "True", "AllApplied", "every owned object stands as desired"), condition("Progressing", "False", "RolloutComplete", "every pod is of the current template")],
  },
});
const told = (object) => `${JSON.stringify({ type: "MODIFIED", object })}\n`;

/** Lists in pages, watches that end when they are asked to, and nothing else. */
function server(objects, watches) {
  return createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url, "http://api");
    const json = (body) => response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
    if (pathname === "/version") return json({ major: "1", minor: "36", gitVersion: "v1.36.0" });
    const own = pathname === `${GROUP}/resilientservices`;
    if (searchParams.get("watch")) {
      response.writeHead(200, { "content-type": "application/json" });
      if (own) {
        // What changed between two watches is told first.
        const since = Number(searchParams.get("resourceVersion"));
        const missed = objects.filter(({ metadata }) => Number(metadata.resourceVersion) > since);
        missed.sort((one, other) => one.metadata.resourceVersion - other.metadata.resourceVersion);
        for (const object of missed) response.write(told(object));
        watches.add(response);
      }
      const leave = () => {
        watches.delete(response);
        clearTimeout(end);
      };
      const end = setTimeout(() => {
        leave();
        response.end();
      }, 1000 * Number(searchParams.get("timeoutSeconds") ?? 10));
      return response.on("close", leave);
    }
    const from = Number(searchParams.get("continue") ?? 0);
    const limit = Number(searchParams.get("limit") ?? SERVICES);
    const more = own && from + limit < SERVICES ? String(from + limit) : undefined;
    return json({ apiVersion: "v1", kind: "List", metadata: { resourceVersion: String(version), continue: more }, items: own ? objects.slice(from, from + limit) : [] });
  });
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** Reads the stream, and notes how many messages came and the newest change that was told. */
async function follow(url, seen) {
  const answer = await fetch(`${url}/api/events`);
  let text = "";
  for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
    text += part;
    const whole = text.split("\n\n");
    text = whole.pop();
    for (const message of whole) {
      seen.messages += 1;
      // The newest change stands in an upserted object, or among those of a snapshot.
      for (const [, number] of message.matchAll(/change (\d+)/g)) seen.newest = Math.max(seen.newest, Number(number));
    }
  }
}

export async function measureBackend(program, note) {
  const objects = Array.from({ length: SERVICES }, (_, number) => service(number, "first"));
  const watches = new Set();
  const api = server(objects, watches);
  const port = await new Promise((done) => api.listen(0, "127.0.0.1", () => done(api.address().port)));
  const backend = await begin(program, port, { env: { ANONYMOUS_READ: "true" } });
  try {
    for (let tries = 0; watches.size === 0; tries += 1) {
      if (backend.ended || tries > 300) throw new Error(backend.ended ?? "the backend did not begin to follow within 30 s");
      await pause(100);
    }
    await pause(2_000);
    const memory = (field) => Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(readFileSync(`/proc/${backend.pid}/status`, "utf8"))[1]) / 1024;
    const processor = () => {
      const parts = readFileSync(`/proc/${backend.pid}/stat`, "utf8").split(") ")[1].split(" ");
      return (Number(parts[11]) + Number(parts[12])) / 100;
    };
    // A debug build has ten times as many pages of its program: the bound is of a build for release.
    note("backend, a thousand services listed: with its program's pages", memory("VmRSS"), "MiB", { most: 25_000_000 / 1_048_576 });
    note("its own memory alone", memory("RssAnon"), "MiB");
    const seen = { messages: 0, newest: 0 };
    follow(backend.url, seen).catch(() => {});
    await pause(1_000);
    let changed = 0;
    const [begun, spent] = [Date.now(), processor()];
    while (Date.now() - begun < LASTS) {
      for (const due = ((Date.now() - begun) / 1000) * RATE; changed < due; changed += 1) {
        objects[changed % SERVICES] = service(changed % SERVICES, `change ${changed}`);
        for (const watch of watches) watch.write(told(objects[changed % SERVICES]));
      }
      await pause(10);
    }
    const seconds = (Date.now() - begun) / 1000;
    note("backend under changes: messages told", seen.messages / seconds, "messages/s", { least: 900 });
    note("behind what was said", Math.max(0, changed - 1 - seen.newest) / RATE, "s", { most: 1 });
    note("processor", (processor() - spent) / seconds, "cores", { most: 1 });
    note("its own memory then", memory("RssAnon"), "MiB", { most: 40 });
  } finally {
    backend.end();
    api.closeAllConnections();
    api.close();
  }
}
