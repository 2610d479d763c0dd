-- The ledger: one row per key, for ever.
CREATE TABLE charges (
    sequence     bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,
    key          text        PRIMARY KEY,
    amount_minor bigint      NOT NULL CHECK (amount_minor > 0),
    currency     text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    status       text        NOT NULL CHECK (status IN ('SUCCEEDED', 'DECLINED', 'REFUNDED')),
    reason       text        CHECK ((reason IS NOT NULL) = (status = 'DECLINED')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    refunded_at  timestamptz CHECK ((refunded_at IS NOT NULL) = (status = 'REFUNDED'))
);
