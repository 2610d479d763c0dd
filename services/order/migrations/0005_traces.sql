-- The trace in which an order was placed: what is sent again, and what happens later, stays in it.
ALTER TABLE orders ADD COLUMN traceparent text NOT NULL DEFAULT '';
