import { describe, expect, it } from "vitest";
import { DEFAULTS, FAULTS, OF, PRESETS, freshName, spec } from "./presets";

describe("experiments", () => {
  it("of the buttons are what their names say", () => {
    const specs = Object.fromEntries(
      PRESETS.map((preset) => [preset.title, spec(preset.target, preset.fault, preset.fields)]),
    );
    expect(specs["Latency 2 s on auth"]).toEqual({
      target: { service: "auth" },
      latency: { delay: "2s", percent: 100 },
      count: "100%",
      duration: "60s",
    });
    expect(specs["Payment fails 70 %"]).toMatchObject({ target: { service: "payment" }, errors: { percent: 70, status: 503 } });
    expect(specs["Kill payment"]).toEqual({ target: { service: "payment" }, podKill: { method: "Evict" }, count: 1 });
  });

  it.each(FAULTS)("with %s have that fault alone, and an end unless it happens once", (fault) => {
    const made = spec("order", fault, { ...DEFAULTS, peer: "inventory" });
    expect(FAULTS.filter((other) => other in made)).toEqual([fault]);
    expect("duration" in made).toBe(fault !== "podKill");
    expect(OF[fault]).toBeDefined();
  });

  it("take routes, schedules and dry runs as they were typed", () => {
    const made = spec("order", "errors", {
      ...DEFAULTS,
      routes: "GET /a, POST /b/{id}\n",
      schedule: "0 10 * * 1-5",
      dryRun: true,
    });
    expect(made).toMatchObject({ errors: { routes: ["GET /a", "POST /b/{id}"] }, schedule: "0 10 * * 1-5", dryRun: true });
  });

  it("have names that the API server accepts", () => {
    for (const fault of FAULTS)
      expect(freshName("a".repeat(53), fault, new Date(2026, 10, 27, 9, 5, 7))).toMatch(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/);
    expect(freshName("auth", "podKill", new Date(2026, 10, 7, 9, 5, 7))).toBe("auth-podkill-1107-090507");
  });
});
