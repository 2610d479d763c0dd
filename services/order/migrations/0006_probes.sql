-- An order that the probe of a chaos experiment has placed: it buys nothing, so it is refunded once it is confirmed.
ALTER TABLE orders ADD COLUMN probe boolean NOT NULL DEFAULT false;
CREATE INDEX orders_of_probes ON orders (id) WHERE probe AND state = 'CONFIRMED';
