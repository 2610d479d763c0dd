import { describe, expect, it } from "vitest";
import type { Item, Message } from "../api/types";
import { NOTHING, all, learn, one, stream } from "./reducer";

const pod = (name: string, ready = true): Item => ({
  kind: "Pod",
  namespace: "shop",
  name,
  service: "order",
  phase: "Running",
  ready,
  node: null,
  restarts: 0,
  since: null,
});
const snapshot = (objects: Item[], now = "2026-11-27T10:00:05Z"): Message => ({
  type: "snapshot",
  objects,
  vitals: [],
  streams: [{ kind: "Pod", asOf: now, late: false, error: null, truncated: false, forbidden: false }],
  operatorSilence: null,
  now,
});
const AT = Date.parse("2026-11-27T10:00:00Z");

describe("what is known", () => {
  it("follows changes after a snapshot", () => {
    let known = learn(NOTHING, [snapshot([pod("b"), pod("a")])], AT);
    expect(known.ready).toBe(true);
    expect(all(known, "Pod").map((pod) => pod.name)).toEqual(["a", "b"]);
    known = learn(known, [{ type: "upserted", object: pod("a", false) }], AT);
    expect(one(known, "Pod", "shop", "a")?.ready).toBe(false);
    known = learn(known, [{ type: "deleted", kind: "Pod", namespace: "shop", name: "a" }], AT);
    expect(all(known, "Pod").map((pod) => pod.name)).toEqual(["b"]);
  });

  it("forgets with a snapshot what is not in it", () => {
    const known = learn(learn(NOTHING, [snapshot([pod("a")])], AT), [snapshot([pod("b")])], AT);
    expect(all(known, "Pod").map((pod) => pod.name)).toEqual(["b"]);
  });

  it("does not change what it was made from", () => {
    const before = learn(NOTHING, [snapshot([pod("a")])], AT);
    learn(before, [{ type: "deleted", kind: "Pod", namespace: "shop", name: "a" }], AT);
    expect(all(before, "Pod")).toHaveLength(1);
  });

  it("is the same whether messages come one by one or together", () => {
    const messages: Message[] = [
      snapshot([pod("a"), pod("b")]),
      { type: "upserted", object: pod("c") },
      { type: "deleted", kind: "Pod", namespace: "shop", name: "a" },
      { type: "heartbeat", now: "2026-11-27T10:00:01Z", streams: [], operatorSilence: null },
      { type: "upserted", object: pod("c", false) },
      { type: "vitals", services: [] },
    ];
    const oneByOne = messages.reduce((known, message) => learn(known, [message], AT), NOTHING);
    expect(learn(NOTHING, messages, AT)).toEqual(oneByOne);
    expect(all(oneByOne, "Pod").map(({ name, ready }) => `${name} ${ready}`)).toEqual(["b true", "c false"]);
    const again = learn(oneByOne, [snapshot([pod("d")])], AT);
    expect(all(again, "Pod").map(({ name }) => name)).toEqual(["d"]);
  });

  it("knows the console's clock and how old each kind is", () => {
    let known = learn(NOTHING, [snapshot([])], AT);
    expect(known.skew).toBe(5000);
    const late = { kind: "Pod", asOf: null, late: true, error: "away", truncated: false, forbidden: false } as const;
    known = learn(known, [{ type: "heartbeat", now: "2026-11-27T10:00:01Z", streams: [late], operatorSilence: null }], AT);
    expect(known.skew).toBe(1000);
    expect(stream(known, "Pod")?.error).toBe("away");
  });

  it("knows since when nobody writes status, and that somebody does again", () => {
    const operatorSilence = { since: "2026-11-27T09:59:00Z", reason: "it does not renew its Lease" };
    let known = learn(NOTHING, [{ ...snapshot([]), operatorSilence } as Message], AT);
    expect(known.silence).toEqual(operatorSilence);
    known = learn(known, [{ type: "heartbeat", now: "2026-11-27T10:00:01Z", streams: [], operatorSilence: null }], AT);
    expect(known.silence).toBeNull();
  });

  it("is nothing once one is signed out, and passes over what it does not understand", () => {
    const known = learn(NOTHING, [snapshot([pod("a")])], AT);
    expect(learn(known, [{ type: "newer" } as unknown as Message], AT)).toBe(known);
    expect(learn(known, [{ type: "upserted", object: pod("b") }, { type: "signedOut" }], AT)).toEqual(NOTHING);
  });
});
