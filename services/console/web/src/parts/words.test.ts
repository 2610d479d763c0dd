import { describe, expect, it } from "vitest";
import { age, bytes, percent, seconds, shortId, spaced, until } from "./words";

describe("words", () => {
  const now = Date.parse("2026-11-27T10:00:00Z");
  const before = (seconds: number) => new Date(now - seconds * 1000).toISOString();

  it("say how long ago", () => {
    expect([5, 65, 3700, 100_000].map((seconds) => age(before(seconds), now))).toEqual(["5 s", "1 min", "1 h 1 min", "1 d"]);
    expect([age(null, now), age(before(-5), now)]).toEqual(["–", "0 s"]);
    expect([until(before(-90), now), until(before(5), now)]).toEqual(["1 min", "0 s"]);
  });

  it("say how much, and nothing where nothing is known", () => {
    expect([seconds(0.024), seconds(1.6), seconds(12), seconds(null)]).toEqual(["24 ms", "1.60 s", "12.0 s", "–"]);
    expect([percent(0), percent(0.034), percent(0.7), percent(undefined)]).toEqual(["0 %", "3.4 %", "70 %", "–"]);
    expect([bytes(512), bytes(1_363_149), bytes(21_000_000), bytes(null)]).toEqual(["512 B", "1.3 MiB", "20 MiB", "–"]);
    expect(spaced("podKill")).toBe("pod kill");
  });

  it("tell two orders of one millisecond apart", () => {
    const [one, other] = ["01a220ab-bb1f-7534-9f0b-7a5c7627cc0d", "01a220ab-bb1f-7534-8135-8bba0403de54"].map(shortId);
    expect(one).toBe("01a220ab…7627cc0d");
    expect(other).not.toBe(one);
    expect(shortId("o-1")).toBe("o-1");
  });
});
