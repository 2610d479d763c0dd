-- Events that are true but maybe not yet published (valerix_kit::outbox), and events already handled (valerix_kit::inbox).
-- Copied into each service's first migration: a service's schema is its own and changes only by its own migrations.
CREATE TABLE outbox (
    event_id     uuid        PRIMARY KEY,                 -- v5 of (aggregate, version)
    aggregate    text        NOT NULL,
    version      bigint      NOT NULL,
    topic        text        NOT NULL,
    type         text        NOT NULL,
    payload      jsonb       NOT NULL,
    traceparent  text        NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    due_at       timestamptz NOT NULL DEFAULT now(),      -- not published before this moment
    retry_at     timestamptz,                             -- set after a failed attempt; later versions wait
    closed_at    timestamptz,                             -- no longer wanted: never published
    published_at timestamptz,
    attempts     integer     NOT NULL DEFAULT 0,
    last_error   text,
    UNIQUE (aggregate, version)
);
CREATE INDEX outbox_open ON outbox (aggregate, version) WHERE published_at IS NULL AND closed_at IS NULL;
CREATE INDEX outbox_due ON outbox (due_at) WHERE published_at IS NULL AND closed_at IS NULL;
CREATE INDEX outbox_created ON outbox (created_at);

CREATE TABLE inbox (
    consumer_group text        NOT NULL,
    event_id       uuid        NOT NULL,
    handled_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer_group, event_id)
);
CREATE INDEX inbox_handled ON inbox (handled_at);
