// Every page in a real browser, light and dark, narrow and wide: no error, no violation of accessibility rules, no
// scrolling sideways, hostile words shown as words, and all of it by the keyboard alone. CHROMIUM names the browser;
// SCREENSHOTS a folder for a picture of each page; README_IMAGES the folder for those of the README,
// which are painted in any case.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launch } from "./browser.mjs";
import { start } from "./fixture.mjs";
import { broken } from "./words.mjs";
import { keyboard } from "./keyboard.mjs";
import { paint } from "./paint.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PAGES = ["/", "/services/shop/auth", "/services/shop/order", "/chaos", "/chaos/shop/auth-slow-1127", "/orders", "/backups", "/restores/shop/orders-back", "/restores/shop/orders-damaged", "/metrics", "/events", "/none"];
const STATES = [["", PAGES], ["late", ["/", "/backups"]], ["gone", ["/", "/services/shop/order", "/backups"]], ["forbidden", ["/", "/chaos", "/backups"]], ["empty", ["/", "/chaos", "/backups", "/metrics", "/events"]], ["cut", ["/"]], ["open", ["/chaos"]], ["closed", ["/"]]];
// What the stream fills, and what is asked for beside it.
const TOLD = ["/", "/services/shop/order", "/chaos", "/chaos/shop/auth-slow-1127", "/backups", "/restores/shop/orders-back", "/metrics"];
const ASKED = ["/services/shop/order", "/chaos", "/chaos/shop/auth-slow-1127", "/restores/shop/orders-back", "/events"];
STATES.push(["held", TOLD], ["away", TOLD], ["slow", ASKED], ["error", ASKED], ["down", ["/"]]);
// What a page has to say of its state.
const WORDS = { held: "Loading", slow: "Loading", away: "The cluster does not answer.", error: "failed to ask the API server", down: "the console is starting", late: "the API server does not answer", gone: "the operator does not renew its Lease any more", forbidden: "You may not list", cut: "Disconnected since" };
// Why lights are late, beside each of them.
const LATE = { late: WORDS.late, gone: WORDS.gone, cut: "the console does not answer" };
const browser = await launch();
const wrong = [];
let looked = 0;
for (const [state, pages] of STATES) {
  const server = await start(0, state);
  const { port } = server.address();
  for (const width of [360, 1440]) {
    const context = await browser.newContext({ viewport: { width, height: 900 } });
    const page = await context.newPage();
    for (const path of pages) {
      let where = `${state || "well"} ${path} ${width}`;
      const say = (text) => wrong.push(`${where}: ${text}`);
      const onError = (error) => say(error.message);
      // What breaks off is an error of the browser's too; the page has to live with it.
      const onConsole = (message) => message.type() === "error" && !["cut", "error", "down"].includes(state) && say(message.text());
      const onDialog = (dialog) => say(`a dialog: ${dialog.message()}`) && dialog.dismiss();
      page.on("pageerror", onError).on("console", onConsole).on("dialog", onDialog);
      await page.goto(`http://127.0.0.1:${port}${path}`);
      await page.locator("main h1, main .notice").first().waitFor();
      const loads = WORDS[state] === "Loading";
      if (!loads) await page.waitForFunction(() => !document.querySelector(".loading"), undefined, { timeout: 10_000 });
      // What is folded is looked at too.
      await page.evaluate(() => document.querySelectorAll("main details").forEach((folded) => (folded.open = true)));
      if (state in WORDS) await page.locator("main").getByText(WORDS[state]).first().waitFor({ state: "attached", timeout: 10_000 }).catch(() => say(`"${WORDS[state]}" is not said`));
      if (loads && !(await page.locator("main .loading").first().isVisible())) say("it is not seen to load");
      const silent = await page.locator("main .light").evaluateAll((lights, words) => lights.filter((light) => light.textContent === "late" && !(light.closest("tr") ?? light.closest("main")).textContent.includes(words)).length, LATE[state]);
      if (silent > 0) say(`${silent} lights are late and do not say why`);
      // A while of answers as expected and one of others.
      if (!state && path === "/chaos/shop/auth-slow-1127") await page.locator(".probe svg .failed").first().waitFor({ state: "attached", timeout: 10_000 });
      const sideways = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (sideways > 0) say(`${sideways} pixels too wide`);
      if (await page.locator("main img[src=x]").count()) say("hostile words became elements");
      await page.evaluate(axe);
      for (const theme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme: theme });
        where = `${state || "well"} ${path} ${width} ${theme}`;
        const { violations } = await page.evaluate(() => axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"] }));
        for (const { id, nodes } of violations) say(`${id}: ${nodes.slice(0, 3).map((node) => `${node.target} ${node.any[0]?.message ?? ""}`).join("; ")}`);
        if (process.env.SCREENSHOTS) {
          const name = `${state || "well"}-${path.replaceAll("/", "_")}-${theme}-${width}`;
          await page.screenshot({ path: `${process.env.SCREENSHOTS}/${name}.png`, fullPage: true });
        }
        looked += 1;
      }
      page.off("pageerror", onError).off("console", onConsole).off("dialog", onDialog);
    }
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
