CREATE TABLE users (
    id            uuid        PRIMARY KEY,
    email         text        NOT NULL UNIQUE,                -- lower case
    password_hash text        NOT NULL,                       -- argon2id with its parameters and salt
    name          text,
    phone         text,                                       -- E.164
    admin         boolean     NOT NULL DEFAULT false,
    version       bigint      NOT NULL DEFAULT 1,             -- of the events about this user
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);

-- All tokens that come of one login. A session that is revoked gives no more of them.
CREATE TABLE sessions (
    id         uuid        PRIMARY KEY,
    user_id    uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expired ON sessions (expires_at);

CREATE TABLE refresh_tokens (
    hash       bytea       PRIMARY KEY,                       -- SHA-256: the token itself is nowhere
    session_id uuid        NOT NULL REFERENCES sessions ON DELETE CASCADE,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz                                    -- it was exchanged for the next one
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);

CREATE TABLE signing_keys (
    id          text        PRIMARY KEY,                      -- kid
    public_key  bytea       NOT NULL,                         -- Ed25519
    private_key bytea       NOT NULL,                         -- PKCS#8, encrypted by AES-256-GCM: nonce, text, tag
    signs_from  timestamptz NOT NULL,                         -- the newest that has begun signs
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- Logins that failed, by account and by address.
CREATE TABLE attempts (
    subject      text        PRIMARY KEY,                     -- what is guessed at, or who guesses
    failures     integer     NOT NULL,
    last_at      timestamptz NOT NULL,
    locked_until timestamptz NOT NULL
);
CREATE INDEX attempts_last ON attempts (last_at);
