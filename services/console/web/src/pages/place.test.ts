import { describe, expect, it, vi } from "vitest";
import type { ShopAnswer } from "../api/types";
import { type Order, type Shop, follow, newKey } from "./place";

const order: Order = {
  key: "k-1",
  item: "ps5",
  quantity: 2,
  gremlin: false,
  status: "SENDING",
  attempts: 0,
  circuitOpen: false,
  begunAt: 0,
};
const answer = (status: number | null, body: unknown, circuitOpen = false): ShopAnswer => ({
  status,
  body,
  circuitOpen,
  retryAfter: null,
});
const busy = () => answer(503, { detail: "a service needed for this does not answer" }, true);

function shop(placed: ShopAnswer[], shown: ShopAnswer[] = []) {
  const log: string[] = [];
  const shop: Shop = {
    place: async (key, order) => {
      log.push(`place ${key} ${JSON.stringify(order)}`);
      return placed.shift() ?? answer(500, null);
    },
    show: async (id) => {
      log.push(`show ${id}`);
      return shown.shift() ?? answer(500, null);
    },
    wait: async (milliseconds) => void log.push(`wait ${milliseconds}`),
    now: () => 1500,
  };
  return { shop, log };
}

describe("an order", () => {
  it("is sent again after 1, 2 and 4 s with the same key and body, and then given up", async () => {
    const { shop: fake, log } = shop([busy(), answer(null, null), busy(), busy(), busy()]);
    const told: Order[] = [];
    const end = await follow(order, fake, (order) => told.push(order));
    const place = 'place k-1 {"item_id":"ps5","quantity":2}';
    expect(log).toEqual([place, "wait 1000", place, "wait 2000", place, "wait 4000", place]);
    expect(end).toMatchObject({ status: "GAVE UP", attempts: 4, circuitOpen: true, took: 1500 });
    expect(told.some((order) => order.status === "WAITING 2 s")).toBe(true);
  });

  it("comes back when the shop asks for it, which is no failure", async () => {
    const later = (): ShopAnswer => ({ ...answer(429, { detail: "5 in 10 s" }), retryAfter: 3 });
    const { shop: fake, log } = shop([later(), later(), later(), later(), later(), answer(201, { order_id: "o-1", status: "CONFIRMED" })]);
    const told: Order[] = [];
    const end = await follow(order, fake, (order) => told.push(order));
    expect(log.filter((line) => line.startsWith("wait"))).toEqual(Array(5).fill("wait 3000"));
    expect(end).toMatchObject({ status: "CONFIRMED", attempts: 6 });
    expect(told.some((order) => order.status === "ASKED TO WAIT 3 s")).toBe(true);
  });

  it("does not wait for ever because it is asked to", async () => {
    const later = (): ShopAnswer => ({ ...answer(429, null), retryAfter: 200 });
    const { shop: fake, log } = shop([later(), later(), later(), later(), later(), later()]);
    const end = await follow(order, fake, () => {});
    expect(log.filter((line) => line.startsWith("wait"))).toEqual(["wait 200000", "wait 200000", "wait 1000", "wait 2000", "wait 4000"]);
    expect(end.status).toBe("GAVE UP");
  });

  it("is followed from QUEUED to its end", async () => {
    const { shop: fake, log } = shop(
      [busy(), answer(202, { order_id: "o-1", status: "QUEUED", reason: null })],
      [answer(200, { status: "QUEUED" }), answer(null, null), answer(200, { status: "CONFIRMED" })],
    );
    const end = await follow(order, fake, () => {});
    expect(log.filter((line) => line === "show o-1")).toHaveLength(3);
    expect(end).toMatchObject({ status: "CONFIRMED", orderId: "o-1", attempts: 2, circuitOpen: false });
  });

  it("that is refused for good is not sent again", async () => {
    const { shop: fake, log } = shop([answer(422, { detail: "/item_id: is not known" })]);
    const end = await follow({ ...order, gremlin: true }, fake, () => {});
    expect(log).toEqual(['place k-1 {"item_id":"ps5","quantity":2,"gremlin":true}']);
    expect(end).toMatchObject({ status: "REFUSED", reason: "/item_id: is not known" });
  });

  it("is left alone when nobody looks any more", async () => {
    const { shop: fake, log } = shop([answer(202, { order_id: "o-1", status: "QUEUED" })]);
    await follow(order, fake, () => {}, () => log.length === 0);
    expect(log).toHaveLength(1);
  });
});

it("makes keys where the page came by plain http", () => {
  vi.stubGlobal("crypto", { getRandomValues: crypto.getRandomValues.bind(crypto) });
  const keys = Array.from({ length: 100 }, newKey);
  vi.unstubAllGlobals();
  expect(new Set(keys).size).toBe(100);
  expect(keys.every((key) => /^[0-9a-f]{32}$/.test(key))).toBe(true);
});
