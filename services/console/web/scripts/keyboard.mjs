// What a person does who has no mouse: every stop of the tabulator is seen, none is left out, none is a trap, and a fault,
// a restore and the sign-in are reached and done.

// What has -1 is reached by the arrows from a stop beside it.
const STOPS = ":is(a[href], button, input, select, textarea, summary):not(:disabled, [tabindex='-1'])";

/** Walks through a page and its forms; what is wrong, in words. */
export async function keyboard(browser, origin) {
  const wrong = [];
  const page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
  page.setDefaultTimeout(5_000);
  const open = async (path) => {
    await page.goto(`${origin}${path}`);
    await page.locator("main .panel").first().waitFor();
    await page.waitForFunction(() => !document.querySelector(".loading"));
  };
  for (const path of ["/", "/chaos", "/orders", "/backups", "/services/shop/order"]) {
    await open(path);
    wrong.push(...(await walk(page, path)));
  }

  await open("/chaos");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  const inside = await page.evaluate(() => document.activeElement?.id === "content" || location.hash === "#content");
  if (!inside) wrong.push("the first stop does not lead to the content");

  await reach(page, "summary", /An experiment of your own/);
  await page.keyboard.press("Enter");
  await reach(page, "input", /^Delay/);
  await page.keyboard.press("Control+A");
  await page.keyboard.type("9h");
  await page.keyboard.press("Enter");
  // The fixture refuses it as the API server would: what is refused is read out, and stands at its field.
  await page.getByRole("alert").filter({ hasText: "delay must be between" }).waitFor().catch(() => wrong.push("a refusal of the form is not told"));
  if ((await page.getByLabel(/^Delay/).getAttribute("aria-invalid")) !== "true") wrong.push("the refused field is not marked");

  await open("/backups");
  await reach(page, "button", /^\d+ . \S*$/);
  await page.keyboard.press("ArrowLeft");
  const day = await page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? "");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 3, name: day.split(":")[0], exact: true }).waitFor().catch(() => wrong.push(`the record of a day is not shown: ${day}`));

  await open("/backups");
  await reach(page, "summary", /Give databases back/);
  await page.keyboard.press("Enter");
  await reach(page, "select", /^Databases/);
  await page.keyboard.type("orders");
  await reach(page, "select", /^Into/);
  await page.keyboard.press("ArrowDown");
  await reach(page, "input", /^Repeat the name/);
  await page.keyboard.type("orders");
  await reach(page, "button", /^Replace orders$/);
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/restores\/shop\/shop-restore-/).catch(() => wrong.push("a restore is not begun"));
  await page.close();
  return wrong;
}

/** Goes from stop to stop until one of this kind and name has the focus. */
async function reach(page, tag, name) {
  for (let stop = 0; stop < 120; stop += 1) {
    await page.keyboard.press("Tab");
    const found = await page.evaluate(() => {
      const element = document.activeElement;
      const text = element?.labels?.[0]?.textContent ?? element?.textContent ?? "";
      return { tag: element?.tagName.toLowerCase(), text: text.trim() };
    });
    if (found.tag === tag && name.test(found.text)) return;
  }
  throw new Error(`${name} is not reached by the keyboard`);
}

/** Every stop of a page, each with something to see around it. */
async function walk(page, path) {
  const wrong = [];
  const wanted = await page.evaluate((stops) => [...document.querySelectorAll(stops)].filter((element) => element.checkVisibility()).length, STOPS);
  const seen = new Set();
  for (let stop = 0; stop < wanted + 20; stop += 1) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate((stops) => {
      const element = document.activeElement;
      if (!element || element === document.body) return null;
      const { outlineStyle, outlineWidth } = getComputedStyle(element);
      const index = [...document.querySelectorAll(stops)].indexOf(element);
      return { index, visible: outlineStyle !== "none" && outlineWidth !== "0px", text: (element.textContent || element.id).slice(0, 40) };
    }, STOPS);
    // Behind the last one is the browser's own bar.
    if (at === null || (at.index >= 0 && seen.has(at.index))) break;
    if (!at.visible) wrong.push(`${path}: nothing is seen around "${at.text}" when it has the focus`);
    if (at.index >= 0) seen.add(at.index);
  }
  if (seen.size < wanted) wrong.push(`${path}: ${seen.size} of ${wanted} are reached by the tabulator`);
  return wrong;
}
