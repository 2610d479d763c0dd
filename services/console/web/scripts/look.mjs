// One page in one state, at one width, looked at as whoever has it before them: light and dark.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** The rules of accessibility that a page keeps to. */
const RULES = { runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"] };
/** What a page has to say of its state. */
const WORDS = { held: "Loading", slow: "Loading", away: "The cluster does not answer.", error: "failed to ask the API server", down: "the console is starting", late: "the API server does not answer", gone: "the operator does not renew its Lease any more", forbidden: "You may not list", cut: "Disconnected since" };
/** Why lights are late, beside each of them. */
const LATE = { late: WORDS.late, gone: WORDS.gone, cut: "the console does not answer" };
/** What breaks off is an error of the browser's too; the page has to live with it. */
const BREAKS = ["cut", "error", "down"];
/** How soon a page has to say what it has to say. Unit: milliseconds. */
const SOON = { timeout: 10_000 };

/**
 * Awaits that the page shows its state, and tells `say` of everything that is wrong with it. `arrived` is done when its objects
 * are there, `also` when its state is. How many pictures of it were looked at.
 */
export async function look(page, url, { state, arrived, also, say }) {
  const { pathname } = new URL(url);
  const { width } = page.viewportSize();
  let where = `${state || "well"} ${pathname} ${width}`;
  const tell = (text) => say(`${where}: ${text}`);
  const onError = (error) => tell(error.message);
  const onConsole = (message) => message.type() === "error" && !BREAKS.includes(state) && tell(message.text());
  const onDialog = (dialog) => tell(`a dialog: ${dialog.message()}`) && dialog.dismiss();
  page.on("pageerror", onError).on("console", onConsole).on("dialog", onDialog);
  await page.goto(url);
  await page.locator("main h1, main .notice").first().waitFor();
  if (arrived) {
    await page.locator("main table tbody tr").first().waitFor();
    arrived();
  }
  const loads = WORDS[state] === "Loading";
  if (!loads) await page.waitForFunction(() => !document.querySelector(".loading"), undefined, SOON).catch(() => tell("it loads without an end"));
  // What is folded is looked at too.
  await page.evaluate(() => document.querySelectorAll("main details").forEach((folded) => (folded.open = true)));
  if (state in WORDS) await page.locator("main").getByText(WORDS[state]).first().waitFor({ state: "attached", ...SOON }).catch(() => tell(`"${WORDS[state]}" is not said`));
  if (loads && !(await page.locator("main .loading").first().isVisible())) tell("it is not seen to load");
  const silent = await page.locator("main .light").evaluateAll((lights, words) => lights.filter((light) => light.textContent === "late" && !(light.closest("tr") ?? light.closest("main")).textContent.includes(words)).length, LATE[state]);
  if (silent > 0) tell(`${silent} lights are late and do not say why`);
  await also?.(page);
  const sideways = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (sideways > 0) tell(`${sideways} pixels too wide`);
  if (await page.locator("main img[src=x]").count()) tell("hostile words became elements");
  await page.evaluate(axe);
  const themes = ["light", "dark"];
  for (const theme of themes) {
    await page.emulateMedia({ colorScheme: theme });
    where = `${state || "well"} ${pathname} ${width} ${theme}`;
    const { violations } = await page.evaluate((rules) => axe.run(rules), RULES);
    for (const { id, nodes } of violations) tell(`${id}: ${nodes.slice(0, 3).map((node) => `${node.target} ${node.any[0]?.message ?? ""}`).join("; ")}`);
    if (process.env.SCREENSHOTS) {
      const name = `${state || "well"}-${pathname.replaceAll("/", "_")}-${theme}-${width}`;
      await page.screenshot({ path: `${process.env.SCREENSHOTS}/${name}.png`, fullPage: true });
    }
  }
  page.off("pageerror", onError).off("console", onConsole).off("dialog", onDialog);
  return themes.length;
}
