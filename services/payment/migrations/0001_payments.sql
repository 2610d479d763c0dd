-- Payments: one per order, and the payment's id is its key at the processor.
CREATE TABLE payments (
    id             uuid        PRIMARY KEY,
    order_id       uuid        NOT NULL UNIQUE,
    amount_minor   bigint      CHECK (amount_minor > 0),  -- null: voided before it was asked for
    currency       text,
    state          text        NOT NULL CHECK (state IN
        ('PROCESSING', 'CHARGED', 'DECLINED', 'VOIDED', 'REFUNDING', 'REFUNDED')),
    void_requested boolean     NOT NULL DEFAULT false,
    reason         text,                                  -- why the processor declined
    version        bigint      NOT NULL DEFAULT 1,        -- of the aggregate payment:{id}
    attempts       integer     NOT NULL DEFAULT 0,        -- times the open request was taken up
    due_at         timestamptz,                           -- when the processor is asked (again); null: nothing to ask
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CHECK ((amount_minor IS NULL) = (currency IS NULL)),
    CHECK (amount_minor IS NOT NULL OR state = 'VOIDED'),
    CHECK ((due_at IS NOT NULL) = (state IN ('PROCESSING', 'REFUNDING')))
);
CREATE INDEX payments_due ON payments (due_at) WHERE due_at IS NOT NULL;
