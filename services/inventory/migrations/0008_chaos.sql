-- What was asked to go wrong, by whom and until when; the last row counts. Rows stay: they are the audit.
CREATE TABLE chaos (
    id         bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    latency_ms bigint           NOT NULL CHECK (latency_ms BETWEEN 0 AND 10000),
    crash_rate double precision NOT NULL CHECK (crash_rate BETWEEN 0 AND 1),
    asked_by   text             NOT NULL,
    asked_at   timestamptz      NOT NULL DEFAULT now(),
    ends_at    timestamptz      NOT NULL,
    CHECK (ends_at <= asked_at + interval '10 minutes')
);
