// The saga of the shop in Node: the same services, transactions, tables, streams and guarantees, each a process of its own.
// How it is tuned: node's own http server and a client that keeps connections open, no framework; prepared statements by
// name; pools and batches as large as ours; several events read, acknowledged and published at a time; no log;
// NODE_ENV=production. It leaves out what ours does besides: sweeping, tracing, metrics, limits, breakers.
// node main.js order|inventory|payment|processor <port>, with DATABASE_URL, REDIS_URL, REDIS_PREFIX, and the URLs of others.
import { createHash, randomUUID } from "node:crypto";
import http from "node:http";
import Redis from "ioredis";
import pg from "pg";

const [role, port] = process.argv.slice(2);
const env = process.env;
const pool = new pg.Pool({ connectionString: env.DATABASE_URL, max: 10 });
const agent = new http.Agent({ keepAlive: true, maxSockets: 256 });
const BATCH = 100;

const EVENTS = `
  CREATE TABLE outbox (event_id uuid PRIMARY KEY, aggregate text NOT NULL, version bigint NOT NULL, topic text NOT NULL,
    type text NOT NULL, payload jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), published_at timestamptz,
    UNIQUE (aggregate, version));
  CREATE INDEX ON outbox (aggregate, version) WHERE published_at IS NULL;
  CREATE TABLE inbox (event_id uuid PRIMARY KEY, handled_at timestamptz NOT NULL DEFAULT now());`;
const KEYS = `
  CREATE TABLE keys (scope text, key text, fingerprint bytea NOT NULL, resource_id uuid, status smallint, body text,
    expires_at timestamptz NOT NULL, PRIMARY KEY (scope, key));`;
const TABLES = {
  order: `${EVENTS}${KEYS}
    CREATE TABLE orders (id uuid PRIMARY KEY, item_id text NOT NULL, quantity integer NOT NULL, state text NOT NULL,
      amount_minor bigint, currency text, version bigint NOT NULL DEFAULT 1, created_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE commands (order_id uuid REFERENCES orders, action text, due_at timestamptz NOT NULL,
      PRIMARY KEY (order_id, action));
    CREATE INDEX ON commands (due_at);
    CREATE TABLE history (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, order_id uuid NOT NULL REFERENCES orders,
      input text NOT NULL, state text NOT NULL, at timestamptz NOT NULL DEFAULT now());
    CREATE INDEX ON history (order_id, id);`,
  inventory: `${EVENTS}
    CREATE TABLE items (item_id text PRIMARY KEY, available bigint NOT NULL CHECK (available >= 0), price bigint NOT NULL);
    CREATE TABLE reservations (order_id uuid PRIMARY KEY, item_id text NOT NULL, quantity bigint NOT NULL,
      state text NOT NULL, version bigint NOT NULL DEFAULT 1);
    INSERT INTO items VALUES ('ps5', 1000000000, 49900);`,
  payment: `${EVENTS}${KEYS}
    CREATE TABLE payments (id uuid PRIMARY KEY, order_id uuid NOT NULL UNIQUE, amount_minor bigint NOT NULL,
      currency text NOT NULL, state text NOT NULL, due_at timestamptz, version bigint NOT NULL DEFAULT 1);
    CREATE INDEX ON payments (due_at) WHERE due_at IS NOT NULL;`,
  processor: `
    CREATE TABLE charges (key text PRIMARY KEY, amount_minor bigint NOT NULL, currency text NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now());`,
};

const names = new Map();
function run(client, text, values) {
  if (!names.has(text)) names.set(text, `s${names.size}`);
  return client.query({ name: names.get(text), text, values });
}

async function transaction(work) {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    const result = await work(client);
    await client.query("COMMIT");
    return result;
  } catch (error) {
    await client.query("ROLLBACK").catch(() => {});
    throw error;
  } finally {
    client.release();
  }
}

function append(client, topic, type, aggregate, version, payload) {
  const text = `INSERT INTO outbox (event_id, aggregate, version, topic, type, payload) VALUES ($1, $2, $3, $4, $5, $6)`;
  return run(client, text, [randomUUID(), aggregate, version, topic, type, JSON.stringify(payload)]);
}

function post(url, path, body, headers = {}) {
  const text = JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const request = http.request(
      url + path,
      { method: "POST", agent, headers: { "content-type": "application/json", "content-length": Buffer.byteLength(text), ...headers } },
      (response) => collect(response).then((said) => resolve({ status: response.statusCode, body: JSON.parse(said) }), reject),
    );
    request.setTimeout(2000, () => request.destroy(new Error("too slow")));
    request.on("error", reject);
    request.end(text);
  });
}

async function collect(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts).toString();
}

// A request that is answered once: the claim commits with what is begun, the answer is kept at the end.
async function once(scope, key, text, begin, work) {
  const fingerprint = createHash("sha256").update(scope).update(text).digest();
  const claimed = await transaction(async (client) => {
    const resource = randomUUID();
    const claim = await run(
      client,
      `INSERT INTO keys (scope, key, fingerprint, resource_id, expires_at) VALUES ($1, $2, $3, $4, now() + interval '1 day')
       ON CONFLICT DO NOTHING`,
      [scope, key, fingerprint, resource],
    );
    if (claim.rowCount === 1) return begin(client, resource);
    const { rows } = await run(client, `SELECT fingerprint, status, body FROM keys WHERE scope = $1 AND key = $2`, [scope, key]);
    if (!rows[0].fingerprint.equals(fingerprint)) return { stored: { status: 422, body: "{}" } };
    return { stored: rows[0].status ? rows[0] : { status: 409, body: "{}" } };
  });
  if (claimed.stored) return claimed.stored;
  const { status, body } = await work(claimed);
  const answer = { status, body: JSON.stringify(body) };
  await run(pool, `UPDATE keys SET status = $3, body = $4 WHERE scope = $1 AND key = $2`, [scope, key, status, answer.body]);
  return answer;
}

function move(order, from, to, input, amount, more) {
  return transaction(async (client) => {
    const moved = await run(
      client,
      `UPDATE orders SET state = $3, amount_minor = coalesce($4, amount_minor), currency = 'EUR', version = version + 1
       WHERE id = $1 AND state = $2 RETURNING version, amount_minor`,
      [order.order_id, from, to, amount],
    );
    await run(client, `INSERT INTO history (order_id, input, state) VALUES ($1, $2, $3)`, [order.order_id, input, to]);
    await more(client, moved.rows[0]);
    return { ...order, status: to, amount_minor: Number(moved.rows[0].amount_minor), currency: "EUR" };
  });
}

function replace(client, id, closed, opened) {
  return Promise.all([
    run(client, `DELETE FROM commands WHERE order_id = $1 AND action = $2`, [id, closed]),
    run(client, `INSERT INTO commands VALUES ($1, $2, now() + interval '2 seconds')`, [id, opened]),
  ]);
}

async function placeOrder(key, text) {
  const wanted = JSON.parse(text);
  return once(
    "orders",
    key,
    text,
    async (client, order_id) => {
      const order = { order_id, ...wanted, status: "QUEUED" };
      await run(client, `INSERT INTO orders (id, item_id, quantity, state) VALUES ($1, $2, $3, 'PENDING')`, [
        order_id,
        order.item_id,
        order.quantity,
      ]);
      await append(client, "order.events", "OrderCreated", `order:${order_id}`, 1, order);
      await run(client, `INSERT INTO commands VALUES ($1, 'ReserveStock', now() + interval '2 seconds')`, [order_id]);
      return order;
    },
    async (order) => {
      const id = order.order_id;
      const reserved = await post(env.INVENTORY_URL, "/api/inventory/deduct", { order_id: id, item_id: order.item_id, quantity: order.quantity });
      const amount = reserved.body.unit_price_minor * order.quantity;
      order = await move(order, "PENDING", "RESERVED", "Reserved", amount, (client) => replace(client, id, "ReserveStock", "ChargePayment"));
      const charge = { order_id: id, amount_minor: amount, currency: "EUR" };
      const charged = await post(env.PAYMENT_URL, "/payments", charge, { "idempotency-key": `order:${id}:charge` });
      if (charged.status !== 201) throw new Error(`payment said ${charged.status}`);
      order = await move(order, "RESERVED", "CONFIRMED", "Charged", null, async (client, { version }) => {
        await replace(client, id, "ChargePayment", "CommitStock");
        await append(client, "inventory.commands", "CommitStock", `order:${id}:commit`, 1, { order_id: id });
        await append(client, "order.events", "OrderConfirmed", `order:${id}`, version, order);
      });
      wake();
      return { status: 201, body: order };
    },
  );
}

async function deduct(_key, text) {
  const { order_id, item_id, quantity } = JSON.parse(text);
  const price = await transaction(async (client) => {
    const row = await run(client, `INSERT INTO reservations VALUES ($1, $2, $3, 'RESERVED') ON CONFLICT DO NOTHING`, [order_id, item_id, quantity]);
    if (row.rowCount === 0) return (await run(client, `SELECT price FROM items WHERE item_id = $1`, [item_id])).rows[0].price;
    const taken = await run(
      client,
      `UPDATE items SET available = available - $2 WHERE item_id = $1 AND available >= $2 RETURNING price`,
      [item_id, quantity],
    );
    await append(client, "inventory.events", "InventoryReserved", `reservation:${order_id}`, 1, { order_id });
    return taken.rows[0].price;
  });
  wake();
  return { status: 200, body: JSON.stringify({ order_id, unit_price_minor: Number(price), currency: "EUR" }) };
}

async function charge(key, text) {
  const wanted = JSON.parse(text);
  return once(
    "payments",
    key,
    text,
    async (client, id) => {
      await run(
        client,
        `INSERT INTO payments (id, order_id, amount_minor, currency, state, due_at)
         VALUES ($1, $2, $3, $4, 'PROCESSING', now() + interval '5 seconds')`,
        [id, wanted.order_id, wanted.amount_minor, wanted.currency],
      );
      return { payment_id: id, ...wanted };
    },
    async (payment) => {
      const { payment_id, amount_minor, currency } = payment;
      await post(env.PROCESSOR_URL, "/charges", { key: payment_id, amount_minor, currency });
      await transaction(async (client) => {
        const charged = `UPDATE payments SET state = 'CHARGED', due_at = NULL, version = version + 1 WHERE id = $1 AND state = 'PROCESSING'`;
        await run(client, charged, [payment_id]);
        await append(client, "payment.events", "PaymentProcessed", `payment:${payment_id}`, 2, payment);
      });
      wake();
      return { status: 201, body: { ...payment, status: "CHARGED" } };
    },
  );
}

async function take(_key, text) {
  const { key, amount_minor, currency } = JSON.parse(text);
  await run(pool, `INSERT INTO charges VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, [key, amount_minor, currency]);
  return { status: 201, body: JSON.stringify({ key, amount_minor, currency, status: "SUCCEEDED" }) };
}

const ROUTES = {
  order: { "/api/orders": placeOrder },
  inventory: { "/api/inventory/deduct": deduct },
  payment: { "/payments": charge },
  processor: { "/charges": take },
}[role];

let ring = () => {};
let asked = false;
function wake() {
  asked = true;
  ring();
}
const redis = role === "processor" ? undefined : new Redis(env.REDIS_URL);

async function relay() {
  for (;;) {
    asked = false;
    const published = await transaction(async (client) => {
      const { rows } = await run(
        client,
        `SELECT event_id, topic, type, payload FROM outbox WHERE published_at IS NULL ORDER BY aggregate, version
         LIMIT ${BATCH} FOR UPDATE SKIP LOCKED`,
      );
      if (rows.length === 0) return 0;
      const pipeline = redis.pipeline();
      for (const row of rows) {
        const stream = env.REDIS_PREFIX + row.topic;
        pipeline.xadd(stream, "MAXLEN", "~", 100000, "*", "id", row.event_id, "type", row.type, "payload", JSON.stringify(row.payload));
      }
      await pipeline.exec();
      await run(client, `UPDATE outbox SET published_at = now() WHERE event_id = ANY($1)`, [rows.map((row) => row.event_id)]);
      return rows.length;
    }).catch(() => 0);
    if (published < BATCH && !asked) {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, 500);
        ring = () => resolve(clearTimeout(timer));
      });
    }
  }
}

// Each event once: its id goes into the inbox together with what it does.
async function consume(topic, handle) {
  const [stream, reader] = [env.REDIS_PREFIX + topic, new Redis(env.REDIS_URL)];
  await reader.xgroup("CREATE", stream, role, "0", "MKSTREAM").catch(() => {});
  for (;;) {
    const read = await reader.xreadgroup("GROUP", role, "one", "COUNT", BATCH, "BLOCK", 1000, "STREAMS", stream, ">");
    const entries = read?.[0]?.[1] ?? [];
    const handled = entries.map(async ([entry, fields]) => {
      const [, event, , type, , payload] = fields;
      await transaction(async (client) => {
        const known = await run(client, `INSERT INTO inbox (event_id) VALUES ($1) ON CONFLICT DO NOTHING`, [event]);
        if (known.rowCount === 1) await handle(client, type, JSON.parse(payload));
      });
      return entry;
    });
    const done = await Promise.all(handled);
    if (done.length > 0) await reader.xack(stream, role, ...done);
    wake();
  }
}

const CONSUMERS = {
  order: {
    "inventory.events": async (client, type, { order_id }) => {
      if (type !== "StockCommitted") return;
      await run(client, `DELETE FROM commands WHERE order_id = $1 AND action = 'CommitStock'`, [order_id]);
      await run(client, `INSERT INTO history (order_id, input, state) VALUES ($1, 'Committed', 'CONFIRMED')`, [order_id]);
    },
    "payment.events": async () => {},
  },
  inventory: {
    "inventory.commands": async (client, _type, { order_id }) => {
      await run(client, `UPDATE reservations SET state = 'COMMITTED', version = 2 WHERE order_id = $1 AND state = 'RESERVED'`, [order_id]);
      await append(client, "inventory.events", "StockCommitted", `reservation:${order_id}`, 2, { order_id });
    },
  },
};

const server = http.createServer(async (request, response) => {
  const handler = ROUTES[request.url];
  let answer = { status: 200, body: "{}" };
  try {
    if (handler) answer = await handler(request.headers["idempotency-key"], await collect(request));
  } catch {
    answer = { status: 500, body: "{}" };
  }
  response.writeHead(answer.status, { "content-type": "application/json", "content-length": Buffer.byteLength(answer.body) });
  response.end(answer.body);
});
server.keepAliveTimeout = 60_000;

await pool.query(TABLES[role]);
if (redis) relay();
for (const [topic, handle] of Object.entries(CONSUMERS[role] ?? {})) consume(topic, handle);
server.listen(Number(port), "127.0.0.1");
