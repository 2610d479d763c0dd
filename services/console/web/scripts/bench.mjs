// The page and the backend under load, each by itself. Prints a table of Markdown, and fails where a bound is not held.
//   npm run build && npm run bench                                          the page, before a stream of made-up changes
//   npm run bench -- --console ../../../target/release/console              the backend too, behind it an API server of made-up services
import { parseArgs } from "node:util";
import { measureBackend } from "./bench-backend.mjs";
import { measurePage } from "./bench-page.mjs";

const { values } = parseArgs({ options: { console: { type: "string" } } });
const rows = [];
/** Notes a figure and, where there is one, its bound: `most` or `least`. */
const note = (what, figure, unit, { most, least } = {}) => {
  const holds = (most === undefined || figure <= most) && (least === undefined || figure >= least);
  const bound = most !== undefined ? `at most ${most}` : least !== undefined ? `at least ${Math.round(least)}` : "";
  rows.push({ holds, line: `| ${what} | ${figure.toFixed(figure < 10 ? 2 : 0)} ${unit} | ${bound && `${bound}: ${holds ? "held" : "**not held**"}`} |` });
};
let failure;
try {
  await measurePage(note);
  if (values.console) await measureBackend(values.console, note);
} catch (error) {
  failure = error.message;
}
console.log("| what | measured | bound |\n|---|---|---|");
for (const { line } of rows) console.log(line);
if (failure) console.error(failure);
process.exit(!failure && rows.every(({ holds }) => holds) ? 0 : 1);
