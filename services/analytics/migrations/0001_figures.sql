-- What was seen of each order: what two of its events say together (how long it took) needs a memory, and an event that is
-- seen twice is counted once even where the inbox has forgotten it.
CREATE TABLE orders (
    order_id    uuid        PRIMARY KEY,
    created_at  timestamptz,                              -- by OrderCreated
    ended_at    timestamptz,                              -- by OrderConfirmed or OrderCancelled
    refunded_at timestamptz,                              -- by OrderRefunded
    seen_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_seen ON orders (seen_at);

-- What happened in each minute. Every figure is a sum, so the order in which events come does not matter.
CREATE TABLE figures (
    minute timestamptz NOT NULL,
    name   text        NOT NULL,                          -- created, confirmed, cancelled, refunded, latency
    label  text        NOT NULL,                          -- currency; reason; upper bound of the latency in ms
    shard  smallint    NOT NULL,                          -- of the order: events handled at once seldom share a row
    count  bigint      NOT NULL,
    total  bigint      NOT NULL,                          -- minor units; milliseconds
    PRIMARY KEY (minute, name, label, shard)
);
