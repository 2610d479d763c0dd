import { describe, expect, it } from "vitest";
import { freshName } from "./presets";

describe("names of what is begun", () => {
  it("are such as the API server accepts", () => {
    for (const what of ["latency", "memoryStress", "restore"])
      for (const longest of [52, 63]) {
        const name = freshName("a".repeat(53), what, new Date(2026, 10, 27, 9, 5, 7), longest);
        expect(name).toMatch(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/);
        expect(name.length).toBeLessThanOrEqual(longest);
      }
    expect(freshName("auth", "podKill", new Date(2026, 10, 7, 9, 5, 7))).toBe("auth-podkill-1107-090507");
  });
});
