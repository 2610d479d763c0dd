// Every page in every state on a cluster that runs: the console's own program and page, with what it says when there is
// nothing, when one may not look, and when it or the operator or the API server is gone.
//   npm run states -- --console ../../../target/release/console [--kubeconfig <file>] [--namespace shop] [--account console-demo]
// The account is one that may look; `default` of the same namespace is to have no rights. The cluster stays as it is. SCREENSHOTS names a folder for a picture of each page, KUBECTL the program that reads the kubeconfig.
import { parseArgs } from "node:util";
import { launch } from "./browser.mjs";
import { look } from "./look.mjs";
import { begin } from "./program.mjs";
import { stand } from "./seam.mjs";

const { values } = parseArgs({ options: { console: { type: "string" }, kubeconfig: { type: "string" }, namespace: { type: "string", default: "shop" }, account: { type: "string", default: "console-demo" }, lease: { type: "string", default: "valerix-system/valerix-operator" } } });
if (!values.console) {
  console.error("--console is not given: name the program of the console");
  process.exit(2);
}
/** How soon the page says that something is gone. Unit: milliseconds. */
const AT_ONCE = { timeout: 5_000 };
const { namespace, console: program } = values;
const seam = await stand(values.kubeconfig);
const browser = await launch();
const wrong = [];
const left = [];
let looked = 0;

/** The first object of a kind, as a page's address. */
async function first(kind, page) {
  const { items } = await seam.ask(`/apis/resilience.valerix.io/v1alpha1/namespaces/${namespace}/${kind}`);
  if (items.length > 0) return [`/${page}/${namespace}/${items[0].metadata.name}`];
  left.push(`/${page}: there is no object of ${kind} in ${namespace}`);
  return [];
}
const [service, experiment, restore] = [await first("resilientservices", "services"), await first("chaosexperiments", "chaos"), await first("restores", "restores")];
// What the stream fills, and what is asked for beside it.
const told = ["/", ...service, "/chaos", ...experiment, "/backups", ...restore, "/metrics"];
const asked = [...service, "/chaos", ...experiment, ...restore, "/events"];
const all = ["/", ...service, "/chaos", ...experiment, "/orders", "/backups", ...restore, "/metrics", "/events", "/none"];

/** A console that follows the cluster. */
async function started(env = {}, port = undefined) {
  const running = await begin(program, seam.port, { env: { ANONYMOUS_READ: "true", OPERATOR_LEASE: values.lease, ...env }, port });
  for (const end = Date.now() + 30_000; ; ) {
    const answer = await fetch(`${running.url}/api/session`).catch(() => undefined);
    if (answer?.ok) return running;
    if (running.ended || Date.now() > end) throw new Error(running.ended ?? "the console does not answer");
    await new Promise((done) => setTimeout(done, 100));
  }
}

/** A token of an account. */
async function token(account) {
  const { status } = await seam.ask(`/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`, { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: { expirationSeconds: 600 } });
  return status.token;
}

const signIn = (url, token) => async (context) => {
  const answer = await context.request.post(`${url}/api/session`, { data: { token }, headers: { origin: url } });
  if (!answer.ok()) throw new Error(`nobody is signed in: ${answer.status()} ${await answer.text()}`);
};

/** Looks at pages of a console, narrow and wide. `before` prepares the browser, `also` is done when a page is there. */
async function see(state, pages, running, { before, also } = {}) {
  const begun = looked;
  for (const width of [360, 1440]) {
    const context = await browser.newContext({ viewport: { width, height: 900 } });
    await before?.(context);
    const page = await context.newPage();
    for (const path of pages) looked += await look(page, `${running.url}${path}`, { state, also, say: (text) => wrong.push(text) });
    await context.close();
  }
  console.log(`${state || "well"}: ${looked - begun} pictures of ${pages.length} pages`);
}

const failing = (detail) => (route) => route.fulfill({ status: 500, contentType: "application/json", body: JSON.stringify({ detail }) });
const unanswered = () => undefined;
const beside = /\/api\/(services|schemas|happened)\b/;

let running = await started();
const somebody = await token(values.account);
/** Signed in, before a console that answers some questions in another way. */
const where = (path, answer) => async (context) => {
  await signIn(running.url, somebody)(context);
  await context.route(path, answer);
};
await see("", all, running, { before: signIn(running.url, somebody) });
await see("held", told, running, { before: where("**/api/events", unanswered) });
await see("slow", asked, running, { before: where(beside, unanswered) });
await see("error", asked, running, { before: where(beside, failing("failed to ask the API server")) });
await see("down", ["/"], running, { before: (context) => context.route("**/api/**", failing("the console is starting")) });
const nobody = await token("default");
await see("forbidden", ["/", "/chaos", "/backups"], running, { before: signIn(running.url, nobody) });

/** A page that stays open says within five seconds what is gone, and is as before when it is back. */
async function comesAndGoes(what, words, go, back) {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  await page.goto(running.url);
  await page.locator("main table tbody tr").first().waitFor();
  const said = page.locator("main").getByText(words).first();
  const begun = Date.now();
  await go();
  const seen = await said.waitFor(what === "operator" ? { timeout: 15_000 } : AT_ONCE).then(() => true, () => false);
  if (!seen) wrong.push(`${what} is gone: "${words}" is not said in time`);
  const [gone, again] = [Date.now() - begun, Date.now()];
  await back();
  const well = await said.waitFor({ state: "detached", timeout: 30_000 }).then(() => true, () => false);
  if (!well) wrong.push(`${what} is back: "${words}" still stands there`);
  console.log(`${what}: told after ${(gone / 1000).toFixed(1)} s, as before ${((Date.now() - again) / 1000).toFixed(1)} s after it was back`);
  await page.close();
}
const be = (mode) => () => seam.be(mode);
await comesAndGoes("API server", "the API server does not answer", be("silent"), be("open"));
// The Lease has to stand still for a while before anybody may call it abandoned.
await comesAndGoes("operator", "the operator does not renew its Lease any more", be("frozen"), be("open"));
await comesAndGoes("console", "Disconnected since", () => running.end(), async () => (running = await started({}, running.port)));

seam.be("silent");
await see("late", ["/", "/backups"], running);
running.end();
running = await started();
await see("away", told, running);
running.end();
seam.be("open");
running = await started();
seam.be("frozen");
await see("gone", ["/", ...service, "/backups"], running);
seam.be("open");
await see("open", ["/chaos"], running);
for (const width of [360, 1440]) {
  const cut = await started();
  const context = await browser.newContext({ viewport: { width, height: 900 } });
  looked += await look(await context.newPage(), `${cut.url}/`, { state: "cut", arrived: () => cut.end(), say: (text) => wrong.push(text) });
  await context.close();
}
running.end();
running = await started({ ANONYMOUS_READ: "false" });
await see("closed", ["/"], running);
running.end();
running = await started({ WATCH_NAMESPACES: "kube-node-lease" });
await see("empty", ["/", "/chaos", "/backups", "/metrics", "/events"], running);
running.end();
seam.close();
await browser.close();
for (const text of left) console.log(`NOT LOOKED AT: ${text}`);
console.log(wrong.length === 0 ? `${looked} pages are well` : [...new Set(wrong)].join("\n"));
process.exit(wrong.length === 0 ? 0 : 1);
