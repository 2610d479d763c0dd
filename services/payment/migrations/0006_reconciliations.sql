-- Comparisons of the payments with the processor's ledger: asked for, begun by one replica, and what they found.
CREATE TABLE reconciliations (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    asked_by    text        NOT NULL,
    asked_at    timestamptz NOT NULL DEFAULT now(),
    begun_at    timestamptz,               -- or last heard of
    finished_at timestamptz,
    charges     bigint,                    -- of the ledger that were looked at
    payments    bigint,                    -- that the ledger did not name, looked at as well
    total       bigint,                    -- differences found
    differences jsonb,                     -- the first of them
    error       text,                      -- why it came to no end
    CHECK ((finished_at IS NULL) = (total IS NULL AND error IS NULL))
);
CREATE INDEX reconciliations_open ON reconciliations (id) WHERE finished_at IS NULL;
