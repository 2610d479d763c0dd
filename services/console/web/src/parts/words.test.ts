import { describe, expect, it } from "vitest";
import { age, bytes, percent, seconds, spaced, until } from "./words";

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
});
