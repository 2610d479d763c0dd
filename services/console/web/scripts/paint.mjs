// The pictures of the README, light and dark, of data that looks like the demo's: node scripts/paint.mjs <folder>
import { launch } from "./browser.mjs";
import { start } from "./fixture.mjs";

/** Pictures that are larger make a page of text heavy. Unit: bytes. */
const LARGEST = 150_000;
/** Name, path, height, and what has to be there before it is painted. */
const PICTURES = [
  ["overview", "/", 812, ".panel"],
  ["experiment", "/chaos/shop/auth-slow-1127", 860, ".answers .failed"],
];

/** Paints them into `folder`; what is wrong, in words. */
export async function paint(browser, folder) {
  const wrong = [];
  const server = await start(0, "calm");
  for (const [name, path, height, awaited] of PICTURES)
    for (const theme of ["light", "dark"]) {
      const page = await browser.newPage({ viewport: { width: 1100, height }, colorScheme: theme });
      await page.goto(`http://127.0.0.1:${server.address().port}${path}`);
      await page.locator(`main ${awaited}`).first().waitFor({ state: "attached" });
      await page.waitForFunction(() => !document.querySelector(".loading"));
      const { length } = await page.screenshot({ path: `${folder}/console-${name}-${theme}.png` });
      if (length > LARGEST) wrong.push(`console-${name}-${theme}.png has ${length} bytes, more than ${LARGEST}`);
      await page.close();
    }
  server.closeAllConnections();
  server.close();
  return wrong;
}

if (import.meta.url === `file://${process.argv[1]}`) {
  const browser = await launch();
  const wrong = await paint(browser, process.argv[2] ?? "../../../docs/images");
  await browser.close();
  if (wrong.length > 0) console.error(wrong.join("\n"));
  process.exit(wrong.length === 0 ? 0 : 1);
}
