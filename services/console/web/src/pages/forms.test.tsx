import { cleanup, fireEvent, screen, waitFor, within } from "@testing-library/react";
import { readFileSync } from "node:fs";
import { afterEach, describe, expect, it, vi } from "vitest";
import { Refusal } from "../api/client";
import type { SpecSchema } from "../api/types";
import { type Schema, entry } from "../parts/schema";
import { type Answers, backup, everything, keep, policy, service, show } from "../testing";
import { byPath } from "./creation";
import { type Asked, restoreSpec } from "./Restores";

vi.mock("uplot", () => ({ default: class { destroy() {} setSize() {} } }));
afterEach(cleanup);

// As the backend serves it: its own test compares.
const chaos = JSON.parse(readFileSync("scripts/chaos-schema.json", "utf8")) as SpecSchema;
const main = () => within(screen.getByRole("main"));

interface Sent {
  path: string;
  body: { namespace: string; name: string; spec: Record<string, unknown>; check?: boolean };
}

/** A backend that takes what it is sent, or refuses it with `refusal`. */
function backend(refusal?: { status: number; body: unknown }) {
  const sent: Sent[] = [];
  const answers: Answers = (path, request) => {
    if (path === "/api/schemas/ChaosExperiment") return { body: chaos };
    if (path.startsWith("/api/happened")) return { body: { events: [] } };
    if (request?.method !== "POST") return undefined;
    const body = JSON.parse(String(request.body)) as Sent["body"];
    sent.push({ path, body });
    return refusal ?? { status: 201, body: { namespace: body.namespace, name: body.name } };
  };
  return { sent, answers };
}

const type = (label: string | RegExp, value: string, at = 0) =>
  fireEvent.change(main().getAllByLabelText(label)[at] as HTMLElement, { target: { value } });
const press = (name: string | RegExp) => fireEvent.click(main().getByRole("button", { name }));

describe("the form of an experiment", () => {
  it.each(chaos.oneOf)("has every field that the schema gives to %s", async (fault) => {
    const { sent, answers } = backend();
    await show("/chaos", { known: { objects: keep([service()]) }, answers });
    fireEvent.change(await main().findByLabelText("Fault"), { target: { value: fault } });
    const schema = (chaos.spec as Schema).properties?.[fault] ?? {};
    for (const name of Object.keys(schema.properties ?? {})) {
      const words = name.replace(/([A-Z])/g, " $1");
      expect(main().getAllByLabelText(new RegExp(`^${words}`, "i")).length, name).toBeGreaterThan(0);
    }
    press("Begin");
    await waitFor(() => expect(sent).toHaveLength(1));
    const spec = sent[0]?.body.spec ?? {};
    expect(chaos.oneOf.filter((other) => other in spec)).toEqual([fault]);
    expect(spec["target"]).toEqual({ service: "order" });
    expect("duration" in spec).toBe(fault !== "podKill");
  });

  it("sends what was typed as the types of the schema, and leaves out what was not", async () => {
    const { sent, answers } = backend();
    await show("/chaos", { known: { objects: keep([service()]) }, answers });
    type((await main().findAllByText("Delay")) ? /^Delay/ : "", "750ms");
    type(/^Percent/, "30");
    type(/^Routes/, "GET /a\n\n POST /b/{id}\n");
    type(/^Pods/, "2");
    type(/^Schedule$/, "0 10 * * 1-5");
    type(/^Starting deadline seconds/, "60");
    fireEvent.click(main().getByRole("button", { name: "Add probe" }));
    type(/^Name/, "orders");
    press("Check");
    await waitFor(() => expect(sent).toHaveLength(1));
    expect(sent[0]?.body.check).toBe(true);
    expect(sent[0]?.body.spec).toEqual({
      target: { service: "order" },
      latency: { delay: "750ms", percent: 30, routes: ["GET /a", "POST /b/{id}"] },
      count: 2,
      duration: "60s",
      schedule: "0 10 * * 1-5",
      startingDeadlineSeconds: 60,
      steadyState: { probes: [{ name: "orders" }] },
    });
    expect(await main().findByText(/Nothing was written/)).toBeTruthy();
    type(/^Percent/, "");
    type(/^Routes/, "");
    press("Begin");
    await waitFor(() => expect(sent).toHaveLength(2));
    expect(sent[1]?.body.spec["latency"]).toEqual({ delay: "750ms" });
    expect(sent[1]?.body.check).toBeUndefined();
  });

  it("shows what the API server refuses beside the field, in its words", async () => {
    const { answers } = backend({
      status: 422,
      body: { detail: "spec.latency.delay: delay must be between 1ms and 5m", errors: [{ field: "spec.latency.delay", detail: "delay must be between 1ms and 5m" }] },
    });
    await show("/chaos", { known: { objects: keep([service()]) }, answers });
    await main().findByText("Delay");
    press("Begin");
    await waitFor(() => expect(main().getByLabelText(/^Delay/).getAttribute("aria-invalid")).toBe("true"));
    const described = main().getByLabelText(/^Delay/).getAttribute("aria-describedby") ?? "";
    expect(document.getElementById(described)?.textContent).toContain("delay must be between 1ms and 5m");
    expect(main().getByLabelText(/^Percent/).getAttribute("aria-invalid")).toBe("false");
    expect(main().getByRole("alert").textContent).toContain("spec.latency.delay");
  });

  it("offers services that allow chaos, and says so where none does", async () => {
    const { answers } = backend();
    await show("/chaos", { known: { objects: keep([service({ chaosAllowed: false })]) }, answers });
    expect(await main().findByText("No service allows chaos.")).toBeTruthy();
    expect((main().getByRole("button", { name: "Begin" }) as HTMLButtonElement).disabled).toBe(true);
  });

  it("has buttons that do what they say", async () => {
    const { sent, answers } = backend();
    await show("/chaos", { known: { objects: keep([service({ name: "auth" }), service({ name: "payment" })]) }, answers });
    await main().findByText("Latency 2 s on auth");
    for (const [button, spec] of [
      ["Latency 2 s on auth", { target: { service: "auth" }, latency: { delay: "2s", percent: 100 }, count: "100%", duration: "60s" }],
      ["Payment fails 70 %", { target: { service: "payment" }, errors: { percent: 70, status: 503 }, count: "100%", duration: "60s" }],
      ["Kill payment", { target: { service: "payment" }, podKill: { method: "Evict" }, count: 1 }],
    ] as const) {
      cleanup();
      await show("/chaos", { known: { objects: keep([service({ name: "auth" }), service({ name: "payment" })]) }, answers });
      await main().findByText(button);
      press(new RegExp(`^${button}`));
      await waitFor(() => expect(sent.at(-1)?.body.spec).toEqual(spec));
    }
    expect(sent).toHaveLength(3);
  });

  it("has a button for each namespace that allows it, and none for one that does not", async () => {
    const { sent, answers } = backend();
    const auths = [
      service({ name: "auth", namespace: "bank", chaosAllowed: false }),
      service({ name: "auth", namespace: "payments" }),
      service({ name: "auth", namespace: "shop" }),
      service({ name: "payment", namespace: "bank", chaosAllowed: false }),
    ];
    await show("/chaos", { known: { objects: keep(auths) }, answers });
    await main().findAllByText("Latency 2 s on auth");
    expect(main().getAllByRole("button", { name: /^Latency 2 s on auth/ })).toHaveLength(2);
    const refused = main().getByRole("button", { name: /^Kill payment/ }) as HTMLButtonElement;
    expect([refused.disabled, refused.textContent]).toEqual([true, "Kill paymentpayment does not allow chaos."]);
    press(/^Latency 2 s on auth ?In shop\./);
    await waitFor(() => expect(sent).toHaveLength(1));
    expect(sent[0]?.body.namespace).toBe("shop");
  });

  it("is not there for who has not signed in", async () => {
    await show("/chaos", { known: { objects: keep(everything()) }, session: { user: null, csrf: null, anonymousRead: true, orders: true, version: "1" } });
    expect(await main().findByText("Sign in to begin an experiment.")).toBeTruthy();
    expect(main().queryByRole("button", { name: "Begin" })).toBeNull();
  });
});

describe("the form of a restore", () => {
  const asked: Asked = { archive: "Latest", database: "", replace: false, as: "", secret: "db", admin: "", confirm: "", keep: "" };

  it.each<[string, Partial<Asked>, unknown]>([
    ["the newest, all of it", {}, { source: { policyRef: { name: "daily" }, select: "Latest" }, target: { connectionSecretRef: { name: "db" } }, mode: "NewDatabase" }],
    [
      "one database of a day under a name of its own",
      { archive: "2026-11-20", database: "orders", as: " orders_look " },
      {
        source: { policyRef: { name: "daily" }, select: "Slot", slot: "2026-11-20" },
        target: { connectionSecretRef: { name: "db" } },
        databases: [{ name: "orders", as: "orders_look" }],
        mode: "NewDatabase",
      },
    ],
    [
      "in the place of the living one",
      { archive: "LatestVerified", database: "orders", replace: true, admin: "admin", confirm: "orders", keep: "24h" },
      {
        source: { policyRef: { name: "daily" }, select: "LatestVerified" },
        target: { connectionSecretRef: { name: "db" }, adminSecretRef: { name: "admin" } },
        databases: [{ name: "orders" }],
        mode: "ReplaceDatabase",
        replace: { confirm: "orders", keepPrevious: "24h" },
      },
    ],
  ])("asks for %s", (_, change, spec) => {
    expect(restoreSpec("daily", { ...asked, ...change })).toEqual(spec);
  });

  it("asks for the name once more before a living database is replaced, and shows the refusal beside it", async () => {
    const words = "replace.confirm must repeat the name of the database that is replaced";
    const { sent, answers } = backend({ status: 422, body: { detail: words, errors: [{ field: "spec", detail: `Invalid value: "object": ${words}` }] } });
    await show("/backups", { known: { objects: keep([policy(), backup(), backup({ name: "x", slot: "2026-11-25", phase: "Missed" })]) }, answers });
    const archive = await main().findByLabelText("Archive");
    expect([...archive.querySelectorAll("option")].map((option) => option.value)).toEqual(["Latest", "LatestVerified", "2026-11-26"]);
    expect(main().queryByLabelText(/^Repeat the name/)).toBeNull();
    type("Databases", "orders");
    type("Into", "ReplaceDatabase");
    type(/^Repeat the name/, "order");
    type(/^Secret of an administrator/, "admin");
    press("Replace orders");
    await waitFor(() => expect(main().getByLabelText(/^Repeat the name/).getAttribute("aria-invalid")).toBe("true"));
    expect(sent[0]?.path).toBe("/api/restores");
    expect(sent[0]?.body.spec["replace"]).toEqual({ confirm: "order" });
    expect(sent[0]?.body.name).toMatch(/^daily-restore-\d{4}-\d{6}$/);
  });

  it("goes to the page of what it began", async () => {
    const { sent, answers } = backend();
    const router = await show("/backups", { known: { objects: keep([policy(), backup()]) }, answers });
    await main().findByLabelText("Archive");
    press("Restore");
    await waitFor(() => expect(router.state.location.pathname).toBe(`/restores/shop/${sent[0]?.body.name}`));
  });
});

describe("what is refused", () => {
  it.each([
    ["spec.latency.delay", 'Invalid value: "9h": delay must be short', "latency.delay", "delay must be short"],
    ["spec.steadyState.probes[0].name", "Required value", "steadyState.probes[0].name", "Required value"],
    ["spec", 'Invalid value: "object": exactly one fault must be set: a, b', "exactly", "exactly one fault must be set: a, b"],
    ["spec", 'Invalid value: {"a":"b: c"}: databases[0].as is taken', "databases[0].as", "databases[0].as is taken"],
    ["metadata.name", "Invalid value: \"A\": must be lower case", "metadata.name", "must be lower case"],
  ])("of %s, %s, stands at the field", (field, detail, path, words) => {
    expect(byPath(new Refusal(422, detail, [{ field, detail }]))).toEqual({ [path]: words });
  });

  it("is none of the form's where the console is silent", () => {
    expect(byPath(new Refusal(0, "silence"))).toEqual({});
    expect(byPath(new Error("else"))).toEqual({});
  });
});

describe("the schema's fields", () => {
  it("all have an entry, wherever they are in it", () => {
    const seen = new Set<string>();
    const look = (schema: Schema) => {
      seen.add(entry(schema));
      for (const inner of Object.values(schema.properties ?? {})) look(inner);
      if (schema.items) look(schema.items);
    };
    look(chaos.spec as Schema);
    expect([...seen].sort()).toEqual(["choice", "group", "lines", "list", "number", "pairs", "switch", "text"]);
  });
});
