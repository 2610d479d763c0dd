/** One order from its first request to its end: the same key each time, and a pause of 1, 2 and 4 s between them. */
import type { ShopAnswer } from "../api/types";

export interface Order {
  /** The key, which is the order's identity until the shop gives it one. */
  key: string;
  item: string;
  quantity: number;
  gremlin: boolean;
  /** The shop's word, or what is being done. */
  status: string;
  orderId?: string | undefined;
  reason?: string | undefined;
  /** Requests that were sent. */
  attempts: number;
  circuitOpen: boolean;
  begunAt: number;
  /** How long it took to its end. Unit: milliseconds. */
  took?: number | undefined;
}

export const PAUSES = [1_000, 2_000, 4_000];
/** How long an order waits in all because the shop asked for it: it takes so many in a time. Unit: milliseconds. */
export const PATIENCE = 300_000;
const FOLLOW = 1_000;
const ENDED = ["CONFIRMED", "CANCELLED", "REFUNDED", "REFUSED", "GAVE UP"];

export interface Shop {
  place: (key: string, order: { item_id: string; quantity: number; gremlin?: boolean }) => Promise<ShopAnswer>;
  show: (id: string) => Promise<ShopAnswer>;
  wait: (milliseconds: number) => Promise<void>;
  now: () => number;
}

/**
 * A key that nobody else has. Not `crypto.randomUUID`: a browser has it only where the page came by https or from the machine
 * itself, and a console inside a cluster is often looked at by its plain address.
 */
export const newKey = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

export const isOver = (order: Order): boolean => ENDED.includes(order.status);

/** Whether the same request may have another answer later. */
const mayChange = (status: number | null | undefined): boolean =>
  status === null || status === undefined || status === 409 || status === 429 || status >= 500;

/** Places `order` and follows it; `tell` is told of each change. `goOn` says whether anyone still looks. */
export async function follow(order: Order, shop: Shop, tell: (order: Order) => void, goOn = () => true): Promise<Order> {
  let now = order;
  const become = (change: Partial<Order>) => {
    now = { ...now, ...change };
    if (isOver(now)) now.took = shop.now() - now.begunAt;
    tell(now);
  };
  const wanted = { item_id: order.item, quantity: order.quantity, ...(order.gremlin ? { gremlin: true } : {}) };
  let attempt = 0;
  let waited = 0;
  while (goOn()) {
    become({ status: now.attempts === 0 ? "SENDING" : "SENDING AGAIN", attempts: now.attempts + 1 });
    const answer = await shop.place(order.key, wanted);
    const body = answer.body as { order_id?: string; status?: string; reason?: string; detail?: string } | null;
    if (body?.order_id && body.status) {
      become({ status: body.status, orderId: body.order_id, reason: body.reason, circuitOpen: false });
      break;
    }
    const reason = body?.detail ?? `status ${answer.status ?? "unknown"}`;
    if (!mayChange(answer.status)) {
      become({ status: "REFUSED", reason });
      return now;
    }
    // Who is asked to come back later has not failed.
    if (answer.status === 429 && answer.retryAfter && waited < PATIENCE) {
      waited += answer.retryAfter * 1_000;
      become({ status: `ASKED TO WAIT ${answer.retryAfter} s`, reason, circuitOpen: false });
      await shop.wait(answer.retryAfter * 1_000);
      continue;
    }
    const pause = PAUSES[attempt];
    attempt += 1;
    if (pause === undefined) {
      become({ status: "GAVE UP", reason, circuitOpen: answer.circuitOpen });
      return now;
    }
    become({ status: `WAITING ${pause / 1000} s`, reason, circuitOpen: answer.circuitOpen });
    await shop.wait(pause);
  }
  while (now.orderId && !isOver(now) && goOn()) {
    await shop.wait(FOLLOW);
    const { body } = await shop.show(now.orderId);
    const shown = body as { status?: string; reason?: string } | null;
    if (shown?.status && shown.status !== now.status) become({ status: shown.status, reason: shown.reason });
  }
  return now;
}
