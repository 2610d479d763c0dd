import { type FormEvent, useEffect, useRef, useState } from "react";
import { get, post } from "../api/client";
import type { ShopAnswer } from "../api/types";
import { useLive } from "../live/live";
import { all } from "../live/reducer";
import { AsOf, Badge, Notice, Panel, Word } from "../parts/parts";
import { shortId } from "../parts/words";
import { Labelled } from "../parts/SchemaForm";
import { type Order, type Shop, follow, isOver, newKey } from "./place";

const MANY = 100;
/** Orders of a hundred that are under way at a time. */
const AT_ONCE = 8;
/** Orders that are remembered. */
const KEPT = 300;

/** Silence of the console is silence of the shop: the order is sent again with its key. */
const silent = (error: unknown): ShopAnswer => ({
  status: null,
  circuitOpen: false,
  retryAfter: null,
  body: { detail: error instanceof Error ? error.message : String(error) },
});

const SHOP: Shop = {
  place: (key, order) => post<ShopAnswer>("/api/orders", order, { "Idempotency-Key": key }).catch(silent),
  show: (id) => get<ShopAnswer>(`/api/orders/${id}`).catch(silent),
  wait: (milliseconds) => new Promise((done) => setTimeout(done, milliseconds)),
  now: Date.now,
};

export function Orders() {
  const { session, known } = useLive();
  const [item, setItem] = useState("ps5");
  const [quantity, setQuantity] = useState("1");
  const [orders, setOrders] = useState<Order[]>([]);
  const here = useRef(true);
  useEffect(() => {
    here.current = true;
    return () => {
      here.current = false;
    };
  }, []);
  const open = all(known, "ResilientService").flatMap((service) =>
    service.breakers.filter((breaker) => breaker.open > 0).map((breaker) => `${service.name} to ${breaker.target}`),
  );

  const tell = (order: Order) =>
    setOrders((orders) => {
      const at = orders.findIndex((other) => other.key === order.key);
      return at < 0 ? [order, ...orders].slice(0, KEPT) : orders.map((other, index) => (index === at ? order : other));
    });
  const place = (gremlin: boolean) => {
    const order: Order = {
      key: newKey(),
      item,
      quantity: Number(quantity),
      gremlin,
      status: "SENDING",
      attempts: 0,
      circuitOpen: false,
      begunAt: Date.now(),
    };
    return follow(order, SHOP, tell, () => here.current);
  };
  const many = async () => {
    let left = MANY;
    const worker = async () => {
      while (left > 0 && here.current) {
        left -= 1;
        await place(false);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void place(false);
  };
  const count = (status: string) => orders.filter((order) => order.status === status).length;
  const under = orders.filter((order) => !isOver(order)).length;
  return (
    <>
      <h1>
        Orders {open.length > 0 && <Badge tone="bad">CIRCUIT OPEN</Badge>}
      </h1>
      {open.length > 0 && (
        <Notice tone="warn" title={`Open: ${open.join(", ")}.`}>
          Orders are taken all the same and finished once the circuit has closed. <AsOf kind="ResilientService" />
        </Notice>
      )}
      {session?.user ? (
        <Panel title="Place an order">
          <form className="fields" onSubmit={submit}>
            <Labelled label="Item" help="Such as ps5.">
              {(attributes) => <input {...attributes} required value={item} onChange={(event) => setItem(event.target.value)} />}
            </Labelled>
            <Labelled label="Quantity">
              {(attributes) => (
                <input
                  {...attributes}
                  type="number"
                  min={1}
                  max={10000}
                  value={quantity}
                  onChange={(event) => setQuantity(event.target.value)}
                />
              )}
            </Labelled>
            <div className="actions">
              <button type="submit" className="primary">
                Order
              </button>
              <button type="button" onClick={() => void place(true)} title="Inventory waits five seconds before it answers.">
                Order with a gremlin
              </button>
              <button type="button" onClick={() => void many()}>
                A hundred orders
              </button>
            </div>
          </form>
        </Panel>
      ) : (
        <Notice title="Sign in to place orders." />
      )}
      <Panel
        title="Orders from this page"
        aside={
          <span className="faint">
            {orders.length} placed, {count("CONFIRMED")} confirmed, {count("CANCELLED")} cancelled, {under} under way
          </span>
        }
      >
        {orders.length === 0 ? (
          <Notice title="None yet.">Each is followed to its end; one that fails is sent again after 1, 2 and 4 s with the same key.</Notice>
        ) : (
          <div className="wide">
            <table>
              <thead>
                <tr>
                  <th>Order</th>
                  <th>Item</th>
                  <th>Status</th>
                  <th className="number">Requests</th>
                  <th className="number">Took</th>
                  <th>Why</th>
                </tr>
              </thead>
              <tbody>
                {orders.slice(0, 100).map((order) => (
                  <tr key={order.key}>
                    <th scope="row" data-label="Order" title={`${order.orderId ?? "no order yet"}, Idempotency-Key ${order.key}`}>
                      <code>{shortId(order.orderId ?? order.key)}</code>
                    </th>
                    <td data-label="Item">
                      {order.quantity} × {order.item} {order.gremlin && <Badge tone="fault">gremlin</Badge>}
                    </td>
                    <td data-label="Status">
                      <Word word={order.status} /> {order.circuitOpen && <Badge tone="bad">CIRCUIT OPEN</Badge>}
                    </td>
                    <td data-label="Requests" className="number">{order.attempts}</td>
                    <td data-label="Took" className="number">{order.took === undefined ? "…" : `${(order.took / 1000).toFixed(1)} s`}</td>
                    <td data-label="Why" className="long">{order.reason ?? "–"}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Panel>
    </>
  );
}
