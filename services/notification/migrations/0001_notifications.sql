-- One message about one event on one channel. It holds no address: that is looked up when it is delivered, and is gone when
-- its user is.
CREATE TABLE notifications (
    id         uuid        PRIMARY KEY,                 -- v7: newer ones are greater
    event_id   uuid        NOT NULL,
    channel    text        NOT NULL CHECK (channel IN ('EMAIL', 'SMS')),
    user_id    uuid,                                    -- null: a guest
    order_id   uuid        NOT NULL,
    kind       text        NOT NULL CHECK (kind IN ('CONFIRMED', 'CANCELLED', 'REFUNDED')),
    subject    text        NOT NULL,
    body       text        NOT NULL,
    status     text        NOT NULL CHECK (status IN ('QUEUED', 'SENT', 'RECORDED', 'SKIPPED', 'FAILED')),
    reason     text,                                    -- why it is skipped or failed, or what went wrong last
    taken      integer     NOT NULL DEFAULT 0,          -- how often it was taken up: who takes it again is another
    failures   integer     NOT NULL DEFAULT 0,          -- deliveries that failed
    due_at     timestamptz NOT NULL DEFAULT now(),      -- QUEUED: not taken up before
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (event_id, channel)
);
CREATE INDEX notifications_due ON notifications (due_at) WHERE status = 'QUEUED';
CREATE INDEX notifications_user ON notifications (user_id, id);
CREATE INDEX notifications_created ON notifications (created_at);

-- How users are reached, as far as auth was asked. A row without contact data remembers a change that came before the
-- question, or that the user is gone.
CREATE TABLE contacts (
    user_id        uuid    PRIMARY KEY,
    wanted_version bigint  NOT NULL DEFAULT 0,          -- of the last UserChanged: what is older has to be asked again
    version        bigint,                              -- of what is known; null: nothing is
    email          text,
    phone          text,
    deleted        boolean NOT NULL DEFAULT false,
    CHECK (NOT deleted OR (email IS NULL AND phone IS NULL))
);
