-- Copied from valerix_resilience::idempotency::SCHEMA: a service's schema changes only by its own migrations.
-- The keys of idempotent requests. A row without an answer belongs to a request that has not ended; it never expires.
CREATE TABLE IF NOT EXISTS idempotency_keys (
    scope        text        NOT NULL, -- principal and route: one caller never reads another's answer
    key          text        NOT NULL,
    fingerprint  bytea       NOT NULL, -- sha256 of method, path, principal and body
    resource_id  uuid,                 -- what the first attempt began to make (recovery-point mode)
    attempt      integer     NOT NULL DEFAULT 1,
    locked_at    timestamptz NOT NULL DEFAULT now(),
    status       smallint,             -- the answer, once there is one
    content_type text,
    location     text,
    body         bytea,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE INDEX IF NOT EXISTS idempotency_keys_expiry ON idempotency_keys (expires_at) WHERE status IS NOT NULL;
