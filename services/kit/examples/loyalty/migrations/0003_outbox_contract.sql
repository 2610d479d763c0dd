-- No event is due later and none is withdrawn any more: commands that are have a table of their own (valerix_kit::outbox).
-- Expanded in no release, so contracted in this one; a column that a release writes goes one release after its last use.
DROP INDEX outbox_open;
DROP INDEX outbox_due;
ALTER TABLE outbox DROP COLUMN due_at, DROP COLUMN closed_at;
CREATE INDEX outbox_open ON outbox (aggregate, version) WHERE published_at IS NULL;
CREATE INDEX outbox_oldest ON outbox (created_at) WHERE published_at IS NULL;
