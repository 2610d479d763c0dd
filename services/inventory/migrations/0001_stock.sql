CREATE TABLE items (
    item_id          text        PRIMARY KEY,
    initial          bigint      NOT NULL CHECK (initial >= 0),     -- all that was ever supplied
    available        bigint      NOT NULL CHECK (available >= 0),
    unit_price_minor bigint      NOT NULL CHECK (unit_price_minor > 0),
    currency         text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    created_at       timestamptz NOT NULL DEFAULT now()
);

-- One row per order, for ever: what was decided about its stock. RELEASED without a reservation before it is a
-- tombstone. No foreign key to items: a rejection of an unknown item is stored too.
CREATE TABLE reservations (
    order_id         uuid        PRIMARY KEY,
    item_id          text        NOT NULL,
    quantity         bigint      NOT NULL CHECK (quantity > 0),
    state            text        NOT NULL CHECK (state IN ('RESERVED', 'REJECTED', 'RELEASED', 'COMMITTED')),
    reason           text        CHECK ((reason IS NOT NULL) = (state = 'REJECTED')),
    unit_price_minor bigint,
    currency         text,
    version          bigint      NOT NULL DEFAULT 0,                -- of the last event published about it
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE restocks (
    key        text        PRIMARY KEY,
    item_id    text        NOT NULL REFERENCES items,
    quantity   bigint      NOT NULL CHECK (quantity > 0),
    created_at timestamptz NOT NULL DEFAULT now()
);
