// Every page in a real browser, light and dark, narrow and wide: no error, no violation of accessibility rules, no
// scrolling sideways, hostile words shown as words, and all of it by the keyboard alone. CHROMIUM names the browser;
// SCREENSHOTS a folder for a picture of each page; README_IMAGES the folder for those of the README,
// which are painted in any case.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launch } from "./browser.mjs";
import { start } from "./fixture.mjs";
import { keyboard } from "./keyboard.mjs";
import { look } from "./look.mjs";
import { paint } from "./paint.mjs";
import { broken } from "./words.mjs";

const PAGES = ["/", "/services/shop/auth", "/services/shop/order", "/chaos", "/chaos/shop/auth-slow-1127", "/orders", "/backups", "/restores/shop/orders-back", "/restores/shop/orders-damaged", "/metrics", "/events", "/none"];
const STATES = [["", PAGES], ["late", ["/", "/backups"]], ["gone", ["/", "/services/shop/order", "/backups"]], ["forbidden", ["/", "/chaos", "/backups"]], ["empty", ["/", "/chaos", "/backups", "/metrics", "/events"]], ["cut", ["/"]], ["open", ["/chaos"]], ["closed", ["/"]]];
// What the stream fills, and what is asked for beside it.
const TOLD = ["/", "/services/shop/order", "/chaos", "/chaos/shop/auth-slow-1127", "/backups", "/restores/shop/orders-back", "/metrics"];
const ASKED = ["/services/shop/order", "/chaos", "/chaos/shop/auth-slow-1127", "/restores/shop/orders-back", "/events"];
STATES.push(["held", TOLD], ["away", TOLD], ["slow", ASKED], ["error", ASKED], ["down", ["/"]]);
/** The probes of what runs in the made-up data: a while of answers as expected and one of others. */
async function answers(page) {
  if (page.url().endsWith("/chaos/shop/auth-slow-1127")) await page.locator(".probe svg .failed").first().waitFor({ state: "attached", timeout: 10_000 });
}
const browser = await launch();
const wrong = [];
let looked = 0;
for (const [state, pages] of STATES) {
  const server = await start(0, state);
  const { port } = server.address();
  for (const width of [360, 1440]) {
    const context = await browser.newContext({ viewport: { width, height: 900 } });
    const page = await context.newPage();
    const also = state ? undefined : answers;
    for (const path of pages) looked += await look(page, `http://127.0.0.1:${port}${path}`, { state, also, say: (text) => wrong.push(text) });
    await context.close();
  }
  server.closeAllConnections();
  server.close();
}
// Between a telephone and a wide screen the words of conditions are whole.
const narrower = await start(0);
for (const path of ["/", "/services/shop/payment", "/chaos", "/chaos/shop/payment-errors-1126", "/backups", "/restores/shop/orders-damaged", "/events"]) {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  await page.goto(`http://127.0.0.1:${narrower.address().port}${path}`);
  await page.locator("main .panel").first().waitFor();
  await page.waitForFunction(() => !document.querySelector(".loading"));
  for (const width of [1440, 1280, 1100, 1024, 900, 360]) {
    await page.setViewportSize({ width, height: 900 });
    for (const word of await broken(page, width < 900)) wrong.push(`well ${path} ${width}: ${word} is broken inside`);
  }
  await page.close();
}
narrower.closeAllConnections();
narrower.close();
const server = await start(0);
const origin = `http://127.0.0.1:${server.address().port}`;
for (const text of await keyboard(browser, origin)) wrong.push(`keyboard: ${text}`);
server.closeAllConnections();
server.close();
// Nobody's pictures change because a page was looked at; that they can be painted, and are no larger than they may be, is
// seen all the same.
const images = process.env.README_IMAGES ?? mkdtempSync(join(tmpdir(), "valerix-images-"));
wrong.push(...(await paint(browser, images)));
if (!process.env.README_IMAGES) rmSync(images, { recursive: true });
await browser.close();
console.log(wrong.length === 0 ? `${looked} pages are well, and all that can be done is done by the keyboard alone` : [...new Set(wrong)].join("\n"));
process.exit(wrong.length === 0 ? 0 : 1);
