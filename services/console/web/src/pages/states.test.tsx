import { cleanup, fireEvent, screen, waitFor, within } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";
import { type Answers, type Told, everything, experiment, keep, policy, restore, service, show, streams, vitals, backup, pod } from "../testing";

vi.mock("uplot", () => ({ default: class { destroy() {} setSize() {} } }));
afterEach(cleanup);

const main = () => within(screen.getByRole("main"));
const well: Answers = (path) => {
  if (path.startsWith("/api/happened")) return { body: { events: [] } };
  if (path.endsWith("/moments")) return { body: { moments: [] } };
  if (path.endsWith("/pods")) return { body: { pods: [] } };
  return undefined;
};
const full = { objects: keep(everything()), vitals: [vitals()] };

/** Pages that a stream fills: their address, the kind, and what they say when there is nothing. */
const PAGES: [string, string, RegExp][] = [
  ["/", "ResilientService", /There is no ResilientService yet/],
  ["/services/shop/order", "ResilientService", /There is no service order in shop/],
  ["/chaos", "ChaosExperiment", /There is no experiment yet/],
  ["/chaos/shop/slow", "ChaosExperiment", /There is no experiment slow in shop/],
  ["/backups", "BackupPolicy", /There is no BackupPolicy yet/],
  ["/backups", "Restore", /Nothing was given back yet/],
  ["/restores/shop/look", "Restore", /There is no restore look in shop/],
  ["/metrics", "ResilientService", /No pod has been asked yet/],
];

describe.each(PAGES)("%s, for %s", (path, kind, nothing) => {
  const at = (told: Told) => show(path, { answers: well, ...told });

  it("says what to do where there is nothing", async () => {
    await at({});
    expect(await main().findByText(nothing)).toBeTruthy();
  });

  it("says that it loads", async () => {
    await at({ known: { ready: false }, connection: "connecting" });
    expect((await main().findAllByText("Loading")).length).toBeGreaterThan(0);
    expect(main().queryByText(nothing)).toBeNull();
  });

  it("says that the cluster does not answer, in its words", async () => {
    await at({ known: { streams: streams({ asOf: null, late: true, error: "no route to host" }) } });
    expect((await main().findAllByText("The cluster does not answer.")).length).toBeGreaterThan(0);
    expect(main().getAllByText("no route to host").length).toBeGreaterThan(0);
    expect(main().queryByText(nothing)).toBeNull();
  });

  it("says since when it is disconnected, and shows nothing as well", async () => {
    const lostAt = Date.now() - 7_000;
    await at({ known: full, connection: "lost", lostAt });
    const words = `Disconnected since ${new Date(lostAt).toLocaleTimeString()}.`;
    expect(await main().findByText(words)).toBeTruthy();
    expect((await main().findAllByText(/^LATE, /)).length).toBeGreaterThan(0);
    expect(main().queryByText("well")).toBeNull();
  });

  it("says that the console does not answer where it never has", async () => {
    await at({ known: { ready: false }, connection: "lost", lostAt: Date.now() });
    expect((await main().findAllByText("The console does not answer.")).length).toBeGreaterThan(0);
  });

  it("says that one may not look", async () => {
    await at({ known: { streams: streams({ forbidden: true }) } });
    expect(await main().findByText(`You may not list ${kind} objects.`)).toBeTruthy();
    expect(main().queryByText(nothing)).toBeNull();
  });

  it("says since when nobody writes status, and shows nothing as well", async () => {
    const since = new Date(Date.now() - 12_000).toISOString();
    await at({ known: { ...full, silence: { since, reason: "the operator does not renew its Lease any more" } } });
    expect(await main().findByText(`Nobody has written status since ${new Date(since).toLocaleTimeString()}.`)).toBeTruthy();
    // What pods say of themselves is as new as ever.
    if (path !== "/metrics") expect((await main().findAllByText(/^LATE, data as of 1[23] s ago: the operator does not renew/)).length).toBeGreaterThan(0);
    expect(main().queryByText("well")).toBeNull();
  });

  it("says that it is late, and shows nothing as well", async () => {
    const old = new Date(Date.now() - 95_000).toISOString();
    await at({
      known: { ...full, vitals: [vitals({ at: old })], streams: streams({ asOf: old, late: true, error: "the API server does not answer" }) },
    });
    expect((await main().findAllByText(/^LATE, /)).length).toBeGreaterThan(0);
    expect(main().queryByText("well")).toBeNull();
  });
});

describe("/events", () => {
  it.each([
    ["says that nothing happened", { body: { events: [] } }, /Nothing happened lately/],
    ["says in the API server's words what one may not", { status: 403, body: { detail: "events is forbidden" } }, /events is forbidden/],
    ["says that the cluster does not answer", { status: 503, body: { detail: "the API server does not answer" } }, /does not answer/],
    ["says so of an answer that is none of ours", { status: 502, body: "<html>" }, /answered 502/],
  ])("%s", async (_, answer, words) => {
    await show("/events", { answers: () => answer });
    expect(await main().findByText(words)).toBeTruthy();
  });

  it("says that it loads", async () => {
    await show("/events");
    expect(await main().findByText("Loading")).toBeTruthy();
  });

  it("says that what it shows is late once the console is gone", async () => {
    await show("/events", { answers: well, connection: "lost", lostAt: Date.now() });
    expect(await main().findByText(/^LATE, /)).toBeTruthy();
  });
});

describe("/events, of which there are too many,", () => {
  it("says that some are missing", async () => {
    await show("/events", { answers: () => ({ body: { events: [], truncated: true } }) });
    expect(await main().findByText("Not all is shown.")).toBeTruthy();
  });
});

describe("/backups", () => {
  const tone = (word: string) => main().getByText(word).className;

  it("never shows an archive that could not be restored as good", async () => {
    const days = [
      backup({ name: "a", slot: "2026-11-26", verified: "Failed", trial: "orders: 7 rows are missing" }),
      backup({ name: "b", slot: "2026-11-25", verified: "Local" }),
      backup({ name: "c", slot: "2026-11-24", verified: "Restored" }),
    ];
    await show("/backups", { known: { objects: keep([policy(), ...days]) } });
    await main().findByText("Failed");
    expect([tone("Failed"), tone("Local"), tone("Restored")]).toEqual(["badge bad", "badge plain", "badge good"]);
    expect(main().getByText(/^restored on trial: orders: 7 rows are missing/)).toBeTruthy();
  });

  it.each([
    ["Verified", "RestoreFailed"],
    ["RetentionHealthy", "NotApplied"],
  ])("says at the top that %s is not so", async (type, reason) => {
    const condition = (status: string) => [{ type, status, reason, message: "2026-11-26: in words", since: null }];
    await show("/backups", { known: { objects: keep([policy({ conditions: condition("False") })]) } });
    const alert = await main().findByRole("alert");
    expect(alert.textContent).toBe(`${type}: ${reason}2026-11-26: in words`);
    expect(alert.className).toBe("notice bad");
    cleanup();
    await show("/backups", { known: { objects: keep([policy({ conditions: condition("Unknown") })]) } });
    await main().findByText("No day has a record yet.");
    expect(main().queryByRole("alert"), "what is not known yet is not wrong").toBeNull();
  });
});

describe("/metrics", () => {
  it("does not take a service whose pods were not asked for one without pods", async () => {
    const leftOut = "3 of its pods are not asked: 300 are at most";
    await show("/metrics", { known: { vitals: [vitals({ pods: [], leftOut })] }, answers: well });
    expect(await main().findByText(`${leftOut}.`)).toBeTruthy();
    expect(main().queryByText("There is no pod.")).toBeNull();
  });

  it("says whose figures those of a guarded image are", async () => {
    await show("/metrics", { known: { vitals: [vitals({ guarded: true })] }, answers: well });
    expect(await main().findByText(/are those of the guard in each pod/)).toBeTruthy();
  });
});

describe("/services/shop/order", () => {
  it("asks anew for the minutes in which one looked elsewhere", async () => {
    const asked: string[] = [];
    const answers: Answers = (path, request) => {
      if (path.endsWith("/moments")) asked.push(path);
      return well(path, request);
    };
    const router = await show("/services/shop/order", { known: full, answers });
    await waitFor(() => expect(asked).toHaveLength(1));
    await router.navigate({ to: "/events" });
    await main().findByRole("heading", { name: "Events" });
    // What is not looked at is forgotten by a timer of the library.
    await new Promise((done) => setTimeout(done));
    await router.navigate({ to: "/services/$namespace/$name", params: { namespace: "shop", name: "order" } });
    await waitFor(() => expect(asked).toHaveLength(2));
  });
});

describe("/services/shop/order, before the minutes before are known,", () => {
  const panel = async () => within((await main().findByRole("heading", { name: /^Latency/ })).closest("section") as HTMLElement);
  const asked = (answer: ReturnType<Answers>): Answers => (path, request) => (path.endsWith("/moments") ? answer : well(path, request));

  it("says that it loads, and not that there is nothing to draw", async () => {
    await show("/services/shop/order", { known: { objects: full.objects }, answers: asked(undefined) });
    expect((await panel()).getByText("Loading")).toBeTruthy();
    expect((await panel()).queryByText("Nothing to draw yet.")).toBeNull();
  });

  it("says why it does not know them", async () => {
    await show("/services/shop/order", { known: { objects: full.objects }, answers: asked({ status: 503, body: { detail: "too many ask at once" } }) });
    expect(await (await panel()).findByText("too many ask at once")).toBeTruthy();
    expect((await panel()).queryByText("Nothing to draw yet.")).toBeNull();
  });
});

describe("/chaos/shop/slow", () => {
  it("lets one stop a run that waits to begin", async () => {
    const sent: string[] = [];
    const answers: Answers = (path, request) => {
      if (request?.method === "POST") sent.push(path);
      return well(path, request);
    };
    await show("/chaos/shop/slow", { known: { objects: keep([experiment({ phase: "Pending", waiting: true, reason: "WaitingForPodAge" })]) }, answers });
    fireEvent.click(await main().findByRole("button", { name: "Stop and recover" }));
    await waitFor(() => expect(sent).toEqual(["/api/experiments/shop/slow/stop"]));
    expect(main().queryByRole("button", { name: "Run again" })).toBeNull();
  });
});

describe("/orders", () => {
  it("says that one has to sign in", async () => {
    await show("/orders", { session: { user: null, csrf: null, anonymousRead: true, orders: true, version: "1" } });
    expect(await main().findByText("Sign in to place orders.")).toBeTruthy();
    expect(main().queryByRole("button", { name: "Order" })).toBeNull();
  });

  it("says which circuit is open, and that this is late where it is", async () => {
    const open = service({ breakers: [{ target: "payment", closed: 0, open: 2, halfOpen: 0 }] });
    await show("/orders", { known: { objects: keep([open]), streams: streams({ late: true }) } });
    expect(await main().findByText("CIRCUIT OPEN")).toBeTruthy();
    expect(main().getByText("Open: order to payment.")).toBeTruthy();
    expect(main().getByText(/^LATE, /)).toBeTruthy();
  });
});

/** Words that would be code, a link, markup or something else to look at, were they not shown as words. */
const HOSTILE = [
  "<script>alert(1)</script>",
  '"><img src=x onerror=alert(1)>',
  "javascript:alert(1)",
  "{{7*7}}${7*7}",
  "\u202egnp.exe",
  "</title><svg onload=alert(1)>",
  "&lt;b&gt;bold&lt;/b&gt;",
  "__proto__",
];

describe.each(HOSTILE)("hostile words, %s,", (words) => {
  const said = { name: words, reason: words, message: words };
  const objects = keep([
    service({ name: "order", reason: words, message: words, replicas: words, config: words, circuits: words, image: words, light: "Red",
      conditions: [{ type: words, status: words, reason: words, message: words, since: null }], faults: [{ run: words, type: words, pods: 1 }] }),
    service(said),
    experiment({ reason: words, message: words, phase: words, verdict: words, fault: words, target: words, run: words,
      probes: [{ name: words, passed: 1, failed: 1, firstFailure: words }], targets: [{ pod: words, state: words, message: words }],
      history: [{ run: words, type: words, at: "2026-11-27T10:00:00Z", verdict: words, reason: words, recovery: words }] }),
    policy({ schedule: words, databases: [words], secrets: [words], lastRun: words, lastSuccess: words,
      conditions: [{ type: "Ready", status: "False", reason: words, message: words, since: null }] }),
    backup({ slot: words, phase: words, message: words, verified: words, size: words }),
    restore({ slot: words, phase: words, message: words, reason: words, policy: words,
      databases: [{ name: words, target: words, phase: words, bytes: 1, tables: 1, seconds: 1, previous: words, previousUntil: null, note: words }] }),
    pod({ name: words, phase: words, ready: false }),
  ]);
  const answers: Answers = (path) => {
    if (path.startsWith("/api/happened"))
      return { body: { events: [{ at: null, type: words, reason: words, message: words, kind: words, namespace: words, name: words, times: 1 }] } };
    if (path.endsWith("/pods")) return { body: { pods: [{ pod: pod({ name: words }), report: null, error: words }] } };
    if (path.endsWith("/moments")) return { body: { moments: [] } };
    return { status: 422, body: { detail: words, errors: [{ field: words, detail: words }] } };
  };

  it.each(["/", "/services/shop/order", "/chaos", "/chaos/shop/slow", "/backups", "/restores/shop/look", "/metrics", "/events"])("are words on %s", async (path) => {
    await show(path, { known: { objects, vitals: [vitals({ name: words, pods: [{ pod: words, answered: false, cpu: null, memory: null, threads: null, uptime: null }] })] }, answers });
    await waitFor(() => expect(screen.getByRole("main").textContent).toContain(words));
    expect(document.querySelector("main :is(script, img, svg, iframe, b, [onerror], [onload])")).toBeNull();
    for (const link of document.querySelectorAll("a")) expect(link.protocol, link.outerHTML).toMatch(/^https?:$/);
    expect(Object.getPrototypeOf({}) as unknown).toBe(Object.prototype);
  });
});
