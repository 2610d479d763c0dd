-- Since when a command is asked for: one that nobody answers is due again and again, and never long overdue.
ALTER TABLE commands ADD COLUMN created_at timestamptz NOT NULL DEFAULT now();
