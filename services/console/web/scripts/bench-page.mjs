// The page with a thousand services, a thousand changes a second of them, and somebody who scrolls.
import { launch } from "./browser.mjs";
import { start } from "./fixture.mjs";

const LASTS = 12_000;
const MIB = 1024 * 1024;

/** Counts what the stream says, where it arrives. */
function counting() {
  window.arrived = 0;
  const Own = window.EventSource;
  window.EventSource = class extends Own {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", () => (window.arrived += 1));
    }
  };
}

/** Frames and messages of some milliseconds, while the page is scrolled to and fro. */
async function frames(milliseconds) {
  const begun = performance.now();
  const [from, times] = [window.arrived, []];
  let last = begun;
  while (last - begun < milliseconds) {
    const now = await new Promise(requestAnimationFrame);
    times.push(now - last);
    last = now;
    scrollBy(0, times.length % 200 < 100 ? 12 : -12);
  }
  times.sort((one, other) => one - other);
  const seconds = (last - begun) / 1000;
  return { rate: times.length / seconds, late: times[Math.floor(times.length * 0.99)], messages: (window.arrived - from) / seconds };
}

/** A browser that draws frames with nothing else to do: what this machine can. */
async function atBest(browser) {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  await page.setContent("<p style='height: 50000px'>nothing</p>");
  const { rate } = await page.evaluate(frames, 3_000);
  await page.close();
  return rate;
}

export async function measurePage(note) {
  const server = await start(0, "many");
  const browser = await launch();
  const best = await atBest(browser);
  note("this machine: frames of an empty page", best, "frames/s");
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  await page.addInitScript(counting);
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.getByText("service-0000", { exact: true }).waitFor({ timeout: 60_000 });
  const { paint, whole } = await page.evaluate(() => ({ paint: performance.getEntriesByName("first-contentful-paint")[0].startTime, whole: performance.now() }));
  note("first paint", paint / 1000, "s", { most: 1 });
  note("a thousand services shown", whole / 1000, "s", { most: 3 });
  const session = await page.context().newCDPSession(page);
  const heap = async () => {
    await session.send("HeapProfiler.collectGarbage");
    return (await session.send("Runtime.getHeapUsage")).usedSize / MIB;
  };
  await session.send("Performance.enable");
  // Seconds of the page's one thread: on a busy machine they say what frames do not.
  const worked = async () => {
    const { metrics } = await session.send("Performance.getMetrics");
    return metrics.filter(({ name }) => ["ScriptDuration", "LayoutDuration", "RecalcStyleDuration"].includes(name)).reduce((sum, { value }) => sum + value, 0);
  };
  const [before, begun] = [await heap(), await worked()];
  const busy = await page.evaluate(frames, LASTS);
  note("messages taken", busy.messages, "messages/s", { least: 900 });
  note("script, style and layout", (1_000 * ((await worked()) - begun)) / (LASTS / 1_000) / 60, "ms for each sixtieth of a second", { most: 8 });
  note("frames, scrolled meanwhile", busy.rate, "frames/s", { least: 0.9 * Math.min(best, 60) });
  note("the latest of a hundred frames", busy.late, "ms", { most: 50 });
  const after = await heap();
  note("memory", after, "MiB", { most: 40 });
  note("growth in that time", Math.max(0, after - before), "MiB", { most: 10 });
  // What was said last is what is shown, and not what waits somewhere.
  const newest = () => Number(/\d+/.exec(document.querySelector("main td.why[title]")?.title ?? "")?.[0]);
  const shown = await page.evaluate(newest);
  const said = await page.evaluate(() => window.arrived);
  note("behind what was said", Math.max(0, said - shown - 1_000) / 1_000, "s", { most: 1 });
  await browser.close();
  server.closeAllConnections();
  server.close();
}
