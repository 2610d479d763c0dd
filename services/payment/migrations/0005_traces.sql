-- The trace in which a payment was asked for: what the sweeper asks and announces stays in it.
ALTER TABLE payments ADD COLUMN traceparent text NOT NULL DEFAULT '';
