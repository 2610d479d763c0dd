-- A key that was cancelled before it was charged: a row without an amount, so that no charge of that key can follow.
ALTER TABLE charges
    ALTER COLUMN amount_minor DROP NOT NULL,
    ALTER COLUMN currency DROP NOT NULL,
    DROP CONSTRAINT charges_status_check,
    ADD CONSTRAINT charges_status_check CHECK (status IN ('SUCCEEDED', 'DECLINED', 'REFUNDED', 'CANCELLED')),
    ADD CONSTRAINT charges_amount_check CHECK ((amount_minor IS NULL) = (status = 'CANCELLED')),
    ADD CONSTRAINT charges_currency_given_check CHECK ((currency IS NULL) = (status = 'CANCELLED'));
