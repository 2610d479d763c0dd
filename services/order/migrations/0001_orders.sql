-- Orders, the commands that are still open, and what happened to each order. Expand first, contract one release later.
CREATE TABLE orders (
    id              uuid        PRIMARY KEY,          -- v7: the order of ids is the order of time
    principal       text        NOT NULL,
    item_id         text        NOT NULL,
    quantity        integer     NOT NULL CHECK (quantity BETWEEN 1 AND 10000),
    gremlin         boolean     NOT NULL DEFAULT false,
    state           text        NOT NULL CHECK (state IN
        ('PENDING', 'RESERVED', 'CONFIRMED', 'CANCELLING', 'CANCELLED', 'REFUNDING', 'REFUNDED')),
    reason          text        CHECK ((reason IS NOT NULL) = (state IN ('CANCELLING', 'CANCELLED'))),
    stock_returned  boolean     NOT NULL DEFAULT false,
    payment_settled boolean     NOT NULL DEFAULT false,
    amount_minor    bigint      CHECK (amount_minor > 0),
    currency        text,
    version         bigint      NOT NULL DEFAULT 1,   -- of the aggregate order:{id}
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL,
    CHECK ((amount_minor IS NULL) = (currency IS NULL)),
    -- Nobody charges, and nobody confirms, an amount that is not known.
    CHECK (amount_minor IS NOT NULL OR state NOT IN ('RESERVED', 'CONFIRMED', 'REFUNDING', 'REFUNDED'))
);
CREATE INDEX orders_of_principal ON orders (principal, id);
CREATE INDEX orders_unfinished ON orders (expires_at) WHERE state IN ('PENDING', 'RESERVED');

-- Open commands: a row goes away when its answer was taken in. Until then it is sent again whenever it is due.
CREATE TABLE commands (
    order_id uuid        NOT NULL REFERENCES orders (id),
    action   text        NOT NULL,
    due_at   timestamptz NOT NULL,
    attempts integer     NOT NULL DEFAULT 0,          -- times sent as an event; the version of its aggregate
    PRIMARY KEY (order_id, action)
);
CREATE INDEX commands_due ON commands (due_at);

CREATE TABLE order_history (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id   uuid        NOT NULL REFERENCES orders (id),
    input      text        NOT NULL,
    from_state text        NOT NULL,
    to_state   text        NOT NULL,
    verdict    text        NOT NULL,                  -- applied, late, ignored
    at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX order_history_of_order ON order_history (order_id, id);
