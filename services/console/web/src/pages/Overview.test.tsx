import { RouterProvider, createMemoryHistory, createRootRoute, createRoute, createRouter } from "@tanstack/react-router";
import { cleanup, render, screen } from "@testing-library/react";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import type { SeenStream, Service, Vitals } from "../api/types";
import { type Connection, Given } from "../live/live";
import { type Known, NOTHING } from "../live/reducer";
import { Overview } from "./Overview";

// The window of the tests has nothing to scroll.
beforeAll(() => void vi.stubGlobal("scrollTo", () => {}));
afterEach(cleanup);

const service = (change: Partial<Service> = {}): Service => ({
  kind: "ResilientService",
  namespace: "shop",
  name: "order",
  light: "Green",
  reason: "AllIsWell",
  message: "",
  since: null,
  replicas: "2/2",
  config: "2/2",
  circuits: "closed",
  image: "order:1",
  chaosAllowed: true,
  breakers: [],
  faults: [],
  conditions: [],
  ...change,
});
const stream = (change: Partial<SeenStream> = {}): SeenStream => ({
  kind: "ResilientService",
  asOf: new Date().toISOString(),
  late: false,
  error: null,
  truncated: false,
  forbidden: false,
  ...change,
});
const vitals = (mean: number): Vitals => ({
  namespace: "shop",
  name: "order",
  at: new Date().toISOString(),
  rate: 10,
  errors: 0,
  mean,
  p50: mean,
  p95: mean,
  p99: mean,
  slow: mean > 1,
  pods: [],
});

async function show(known: Partial<Known>, connection: Connection = "live") {
  const given = { known: { ...NOTHING, ready: true, streams: [stream()], ...known }, connection, session: undefined, error: null };
  const root = createRootRoute();
  const page = createRoute({
    getParentRoute: () => root,
    path: "/",
    component: () => (
      <Given value={given}>
        <Overview />
      </Given>
    ),
  });
  const router = createRouter({ routeTree: root.addChildren([page]), history: createMemoryHistory() });
  // The links of the page name routes of the real router, which this one has not.
  render(<RouterProvider router={router as never} />);
  await screen.findByRole("heading", { name: "Overview" });
}

const objects = (...services: Service[]) => new Map(services.map((service) => [service.name, service]));

describe("the overview", () => {
  it("shows a service with its light, its reason and its figures", async () => {
    await show({ objects: objects(service({ breakers: [{ target: "payment", closed: 0, open: 2, halfOpen: 0 }], circuits: "1 open" })), vitals: [vitals(0.02)] });
    const row = screen.getByRole("row", { name: /order/ });
    expect(row.textContent).toContain("well");
    expect(row.textContent).toContain("AllIsWell");
    expect(row.textContent).toContain("1 open");
    expect(screen.queryByRole("alert")).toBeNull();
  });

  it.each([["late" as const, stream({ late: true }), "live" as const], ["lost" as const, stream(), "lost" as const]])(
    "turns lights grey when what it knows is %s",
    async (_, state, connection) => {
      await show({ objects: objects(service()), streams: [state] }, connection);
      const row = screen.getByRole("row", { name: /order/ });
      expect(row.textContent).toContain("late");
      expect(row.textContent).not.toContain("well");
      expect(screen.getByText(/LATE/)).toBeTruthy();
    },
  );

  it("alarms when requests take more than a second in the mean", async () => {
    await show({ objects: objects(service()), vitals: [vitals(1.4)] });
    expect(screen.getByRole("alert").textContent).toMatch(/One service answers slowly.*order.*1.40 s/);
  });

  it.each(["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "javascript:alert(1)", "{{7*7}}${7*7}", "\u202egnp.exe"])(
    "shows hostile words as words: %s",
    async (words) => {
      await show({ objects: objects(service({ reason: words, message: words, replicas: words, circuits: words, light: "Red" })) });
      expect(screen.getAllByText(words).length).toBeGreaterThan(0);
      expect(document.querySelector("main script, img, [onerror]")).toBeNull();
    },
  );

  it("says why it shows nothing", async () => {
    await show({ streams: [stream({ forbidden: true })] });
    expect(screen.getByText(/You may not list ResilientService/)).toBeTruthy();
    cleanup();
    await show({});
    expect(screen.getByText(/There is no ResilientService yet/)).toBeTruthy();
    cleanup();
    await show({ streams: [stream({ asOf: null, late: true, error: "the API server does not answer" })] });
    expect(screen.getByText("The cluster does not answer.")).toBeTruthy();
    cleanup();
    await show({ ready: false });
    expect(screen.getByText("Loading")).toBeTruthy();
  });
});
