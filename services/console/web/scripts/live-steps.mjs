// What docs/guide/demo.md says to click and to look for, row by row. A step throws where something is not seen.

const QUICK = { timeout: 10_000 };
/** Pods roll, circuits close and databases come back: not at once. Unit: milliseconds. */
const MINUTE = 60_000;

/** Waits until `look` says yes. What it said last stands in the error. */
async function until(what, look, timeout = MINUTE) {
  const end = Date.now() + timeout;
  let last;
  for (;;) {
    last = await look();
    if (last === true) return;
    if (Date.now() > end) throw new Error(`${what}; last seen: ${last === false ? "nothing of it" : last}`);
    await new Promise((done) => setTimeout(done, 200));
  }
}

const go = (page, name) => page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name }).click();
const service = (page, name) => page.locator("main table tr").filter({ has: page.locator("th[scope=row] a", { hasText: new RegExp(`^${name}$`) }) });
const cell = (row, label) => row.locator(`[data-label="${label}"]`);
const words = async (locator) => (await locator.allInnerTexts()).map((text) => text.replace(/\s+/g, " ").trim());
/** A tile's content, by its title. */
const tile = (page, title) => page.locator(".tiles > *", { hasText: title });

async function signIn({ url, token, first, second }) {
  await first.goto(url);
  const field = first.getByLabel("Token of the API server");
  const inside = first.getByRole("heading", { name: "Overview" });
  await field.or(inside).first().waitFor();
  if (await field.isVisible()) {
    if (!token) throw new Error("the console asks for a token: name one in TOKEN");
    await field.fill(token);
    await first.getByRole("button", { name: "Sign in" }).click();
    await inside.or(first.getByRole("alert")).first().waitFor();
    const refused = first.locator(".sign-in [role=alert]");
    if (await refused.isVisible()) throw new Error(`the console refuses the token: ${await refused.innerText()}`);
  }
  // One cookie for both windows, and a place of its own for the second.
  await second.goto(url);
  await second.getByRole("heading", { name: "Overview" }).waitFor();
}

async function overview(stage) {
  await signIn(stage);
  const page = stage.first;
  const rows = page.locator("main table tbody tr");
  await rows.first().waitFor();
  await until("every light is green", async () => {
    const lights = await words(cell(rows, "Light"));
    const names = await words(rows.locator("th a"));
    const others = names.filter((_, index) => lights[index] !== "well").map((name) => `${name} ${lights[names.indexOf(name)]}`);
    return others.length === 0 || others.join(", ");
  });
  const why = await words(cell(rows, "Why"));
  const unsaid = why.find((text) => !/^\S+ for \d/.test(text));
  if (unsaid !== undefined) throw new Error(`a light says no reason with its time: "${unsaid}"`);
  const config = await words(cell(rows, "Config"));
  if (!config.includes("2/2")) throw new Error(`no service runs its configuration in 2 of 2 pods: ${config.join(", ")}`);
  const asOf = page.locator(".as-of", { hasText: /^data as of \d+ s ago/ });
  await asOf.first().waitFor(QUICK);
  return `${config.length} services`;
}

const status = (row) => cell(row, "Status");

async function oneOrder({ first }) {
  await go(first, "Orders");
  await first.getByRole("button", { name: "Order", exact: true }).click();
  const row = first.locator("main table tbody tr").first();
  await status(row).getByText("CONFIRMED").waitFor(QUICK);
  const took = Number.parseFloat(await cell(row, "Took").innerText());
  if (!(took < 1)) throw new Error(`the order was confirmed after ${took} s, not in under a second`);
  return `${took} s`;
}

/** How many orders of the page are in each state; `placed` are all of them. */
async function counted(page) {
  const text = await page.locator("main .panel header .faint", { hasText: "placed" }).innerText();
  const [placed, confirmed, cancelled, under] = text.match(/\d+/g).map(Number);
  return { placed, confirmed, cancelled, under, text };
}

async function manyOrders({ first }) {
  await first.getByRole("button", { name: "A hundred orders" }).click();
  await until("eight orders are under way", async () => {
    const { under, text } = await counted(first);
    return under === 8 || text;
  }, 15_000);
  await status(first.locator("main table tbody tr")).getByText(/^ASKED TO WAIT/).first().waitFor({ timeout: 20_000 });
}

/** Begins a fault by its button, and waits for the page of its experiment. */
async function begin(page, button) {
  await go(page, /^Chaos/);
  await page.getByRole("button", { name: new RegExp(`^${button}`) }).click();
  const refused = page.locator("main [role=alert].failure");
  const begun = page.getByRole("heading", { name: "Timeline" });
  await begun.or(refused).first().waitFor();
  if (await refused.isVisible()) throw new Error(`"${button}" was refused: ${await refused.innerText()}`);
}

const step = (page, title) => page.locator("ol.timeline > li", { hasText: title });

async function injected(page, pods) {
  await step(page, "Injected").getByText(pods).waitFor({ timeout: 30_000 });
  await page.locator(".countdown").waitFor(QUICK);
}

async function latency({ second }) {
  await begin(second, "Latency 2 s on auth");
  await injected(second, "2 of 2 pods");
  const countdown = second.locator(".countdown");
  const before = await countdown.innerText();
  await until("the countdown goes on by itself", async () => (await countdown.innerText()) !== before, 5_000);
}

/** Registers somebody at the shop, and signs in: auth answers that. */
async function visit(shop) {
  const person = { email: `live-${Date.now()}@example.com`, password: "correct horse battery staple" };
  const post = (path) => fetch(new URL(path, shop), { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(person) });
  const made = await post("/auth/register");
  if (!made.ok) throw new Error(`the shop registers nobody: ${made.status} ${await made.text()}`);
  const inside = await post("/auth/login");
  if (!inside.ok) throw new Error(`the shop signs nobody in: ${inside.status} ${await inside.text()}`);
}

async function slow({ first, second, shop, leave }) {
  const experiment = second.url();
  await go(second, "Overview");
  await service(second, "auth").locator(".badge.fault", { hasText: "Latency in 2" }).waitFor(QUICK);
  if (shop) {
    await visit(shop);
    const alert = second.getByRole("alert").filter({ hasText: /^One service answers slowly/ });
    await alert.getByText(/^auth.*in the mean/).waitFor({ timeout: 25_000 });
  } else leave("the red alert while auth is slow: give --shop, the gateway's address, so that somebody signs in there");
  const { confirmed } = await counted(first);
  await until("orders go on meanwhile", async () => {
    const now = await counted(first);
    return now.confirmed > confirmed || now.text;
  }, 30_000);
  await second.goto(experiment);
}

async function stop({ second }) {
  await second.getByRole("button", { name: "Stop and recover" }).click();
  await second.locator("main .lead").getByText("Stopped", { exact: true }).first().waitFor({ timeout: 30_000 });
  await until("the fault is read back as gone", async () => {
    const [text] = await words(step(second, "Fault over"));
    return !text.includes("not yet") || text;
  }, 20_000);
  await go(second, "Overview");
  await service(second, "auth").locator(".badge.fault").waitFor({ state: "detached", timeout: 15_000 });
  await second.getByText(/answers? slowly/).waitFor({ state: "detached", timeout: 40_000 });
}

async function paymentFails(stage) {
  const { first, second } = stage;
  await begin(second, "Payment fails 70 %");
  await injected(second, /^\d+ of \d+ pods$/);
  stage.payment = second.url();
  await status(first.locator("main table tbody tr")).getByText("QUEUED").first().waitFor({ timeout: 45_000 });
  await first.locator("main h1 .badge", { hasText: "CIRCUIT OPEN" }).waitFor({ timeout: 45_000 });
  await go(second, "Overview");
  const order = service(second, "order");
  await cell(order, "Circuits").getByText("1 open").waitFor(QUICK);
  await cell(order, "Light").getByText("look").waitFor(QUICK);
}

async function paymentIsBack({ first, second, payment }) {
  if (!payment) throw new Error("the step before has not begun its experiment");
  await second.goto(payment);
  const button = second.getByRole("button", { name: "Stop and recover" });
  const over = second.locator("main .lead").getByText(/^(Completed|Stopped)$/).first();
  await button.or(over).first().waitFor();
  if (await button.isVisible()) await button.click();
  await over.waitFor({ timeout: 90_000 });
  await first.locator("main h1 .badge").waitFor({ state: "detached", timeout: 90_000 });
  await until("every order that was queued is confirmed", async () => {
    const queued = await status(first.locator("main table tbody tr")).getByText("QUEUED").count();
    return queued === 0 || `${queued} queued`;
  }, 90_000);
}

async function gremlin({ second }) {
  await go(second, "Orders");
  await second.getByRole("button", { name: "Order with a gremlin" }).click();
  const row = second.locator("main table tbody tr").first();
  await row.locator(".badge.fault", { hasText: "gremlin" }).waitFor(QUICK);
  // The orders of the first window are of the same client, so that this one may be asked to wait first.
  await status(row).getByText("QUEUED").waitFor({ timeout: MINUTE });
  await status(row).getByText("CONFIRMED").waitFor({ timeout: MINUTE });
}

async function kill({ second }) {
  await begin(second, "Kill payment");
  await step(second, "Injected").getByText("1 of 1 pods").waitFor({ timeout: 90_000 });
  await second.locator("main .lead").getByText("Completed", { exact: true }).first().waitFor({ timeout: 120_000 });
  const [lead] = await words(second.locator("main .lead"));
  if (/^Completed (Fail|Error|Skipped)/.test(lead)) throw new Error(`the verdict: ${lead}`);
  await until("the time to recover", async () => {
    const [text] = await words(tile(second, "Recovery"));
    return /\d/.test(text) || text;
  }, 10_000);
  const strips = second.locator(".readiness svg");
  await strips.first().waitFor(QUICK);
  if (!(await second.locator(".readiness rect.window").count())) throw new Error("the strips do not show when the fault was on");
  return `${lead.slice(0, 60)}`;
}

async function giveBack({ second }) {
  await go(second, "Backups");
  await second.getByText("Give databases back").first().click();
  await second.getByLabel("Databases").selectOption("orders");
  // A name that is there is refused, and the walk may be done again.
  const name = `orders_look_${Date.now() % 1_000_000}`;
  await second.getByLabel("Name on the server").fill(name);
  await second.getByLabel("Secret of the server").fill("order-database");
  await second.getByLabel("Secret of an administrator").fill("postgres");
  await second.getByRole("button", { name: "Check" }).click();
  await second.getByText("The API server would accept it. Nothing was written.").waitFor(QUICK);
  await second.getByRole("button", { name: "Restore", exact: true }).click();
  await second.waitForURL(/\/restores\//, QUICK);
  await second.locator("main .lead").getByText(/^(Completed|Failed)$/).first().waitFor({ timeout: 180_000 });
  const [lead] = await words(second.locator("main .lead"));
  if (!lead.startsWith("Completed")) throw new Error(lead);
  await second.locator("main table").getByText(name).first().waitFor(QUICK);
}

async function events({ first, second }) {
  await go(second, "Events");
  const rows = second.locator("main table tbody tr");
  await rows.first().waitFor(QUICK);
  const objects = (await words(cell(rows, "Object"))).join("\n");
  for (const kind of ["ChaosExperiment", "Restore"]) if (!objects.includes(kind)) throw new Error(`no event of a ${kind}`);
  // Last of all: what became of the hundred orders of the first window.
  await until("a hundred orders come to their end", async () => {
    const { placed, under, text } = await counted(first);
    return (placed === 101 && under === 0) || text;
  }, 300_000);
  const lost = (await words(status(first.locator("main table tbody tr")))).filter((word) => /^(REFUSED|GAVE UP)/.test(word));
  if (lost.length > 0) throw new Error(`${lost.length} orders were given up or refused`);
  const ids = await words(first.locator("main table tbody tr th code"));
  if (new Set(ids).size !== ids.length) throw new Error("an order is there twice");
  return (await counted(first)).text;
}

export const steps = [
  { at: "0:00", title: "the overview, every light green", work: overview },
  { at: "0:10", title: "an order is confirmed", work: oneOrder },
  { at: "0:20", title: "a hundred orders, most asked to wait", work: manyOrders },
  { at: "0:35", title: "latency on auth, in 2 of 2 pods", work: latency },
  { at: "0:45", title: "auth has its badge and its alert, orders go on", work: slow },
  { at: "0:55", title: "stopped, read back as gone", work: stop },
  { at: "1:05", title: "payment fails, orders are queued, the circuit opens", work: paymentFails },
  { at: "1:30", title: "the circuit closes, what was queued is confirmed", work: paymentIsBack },
  { at: "1:40", title: "an order with a gremlin is queued, then confirmed", work: gremlin },
  { at: "1:45", title: "a pod of payment is killed and back", work: kill },
  { at: "1:50", title: "a database is given back", work: giveBack },
  { at: "2:00", title: "the events, and the end of the hundred orders", work: events },
];
