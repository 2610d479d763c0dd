-- Addresses from which an account was logged into: guesses from elsewhere do not close it for them.
CREATE TABLE familiar_addresses (
    subject      text        PRIMARY KEY,                     -- SHA-256 of account and address
    logged_in_at timestamptz NOT NULL
);
CREATE INDEX familiar_addresses_logged_in ON familiar_addresses (logged_in_at);

-- The token for which this one was given. An answer that was lost is given again, and what it carried holds no more.
ALTER TABLE refresh_tokens ADD COLUMN given_for bytea;
CREATE INDEX refresh_tokens_given_for ON refresh_tokens (given_for);
