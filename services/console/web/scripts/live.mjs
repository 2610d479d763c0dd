// The two minutes of docs/guide/demo.md, clicked through on a console that runs: what the guide says is seen, or this fails.
//   npm run live -- --url http://127.0.0.1:8081 --shop http://127.0.0.1:8080
// TOKEN (or --token) is what a person signs in with. --shop is the gateway's address: with it somebody signs in at the shop
// while auth is slow; without it that one sentence is not looked at, and the last line says so. SCREENSHOTS names a folder
// for a picture of each step.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { launch } from "./browser.mjs";
import { steps } from "./live-steps.mjs";

const USAGE = "usage: TOKEN=$(kubectl --namespace shop create token console-demo) npm run live -- --url <console> [--shop <gateway>] [--token <token>]";

/** What was asked for; what is wrong with it in words, and the way out. */
function wanted() {
  const fail = (text) => {
    console.error(`${text}\n${USAGE}`);
    process.exit(2);
  };
  let values;
  try {
    ({ values } = parseArgs({ options: { url: { type: "string" }, shop: { type: "string" }, token: { type: "string" } } }));
  } catch (error) {
    fail(error.message);
  }
  for (const name of ["url", "shop"])
    if (values[name] !== undefined && !URL.canParse(values[name])) fail(`--${name} is no address: ${values[name]}`);
  if (!values.url) fail("--url is not given: name the address of the console");
  return { ...values, token: values.token ?? process.env.TOKEN };
}

/** The moments of the guide's table: a row without a step here would be a promise that nobody keeps. */
function promised() {
  const guide = readFileSync(new URL("../../../../docs/guide/demo.md", import.meta.url), "utf8");
  return [...guide.matchAll(/^\| (\d+:\d\d) \|/gm)].map(([, at]) => at);
}

const asked = wanted();
const differing = promised().join(" ") !== steps.map(({ at }) => at).join(" ");
if (differing) {
  console.error(`docs/guide/demo.md tells of ${promised().join(" ")}, and the steps here are ${steps.map(({ at }) => at).join(" ")}: bring them together`);
  process.exit(1);
}
const browser = await launch();
const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
// The first window goes on with its orders while the second one shows the rest, as the guide has it.
const [first, second] = [await context.newPage(), await context.newPage()];
const errors = [];
for (const page of [first, second]) {
  page.setDefaultTimeout(15_000);
  page.on("pageerror", (error) => errors.push(`an error of the page's own: ${error.message}`));
}
const left = [];
const failed = [];
const stage = { ...asked, first, second, context, leave: (text) => left.push(text) };
for (const { at, title, work } of steps) {
  const begun = Date.now();
  const spent = () => `${((Date.now() - begun) / 1000).toFixed(1)} s`;
  try {
    const seen = await work(stage);
    console.log(`${at}  ${title}: seen in ${spent()}${seen ? `, ${seen}` : ""}`);
  } catch (error) {
    failed.push(at);
    // The first lines of a browser's error say what was looked for; the rest is its call log.
    console.log(`${at}  ${title}: NOT SEEN after ${spent()}: ${error.message.split("\n").slice(0, 2).join(" ")}`);
  }
  for (const [name, page] of Object.entries(process.env.SCREENSHOTS ? { first, second } : {}))
    await page.screenshot({ path: `${process.env.SCREENSHOTS}/live-${at.replace(":", "")}-${name}.png`, fullPage: true });
}
await browser.close();
for (const error of new Set(errors)) console.log(error);
for (const text of left) console.log(`NOT LOOKED AT: ${text}`);
const well = failed.length === 0 && errors.length === 0;
console.log(well ? `all ${steps.length} steps of the guide are as it says` : `not as the guide says: ${[...failed, ...errors.slice(0, 1)].join(", ")}`);
process.exit(well ? 0 : 1);
