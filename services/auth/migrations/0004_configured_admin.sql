-- Of the password in the configuration that was taken over last, argon2id: what the admin chooses after that stays.
ALTER TABLE users ADD COLUMN configured_hash text;
