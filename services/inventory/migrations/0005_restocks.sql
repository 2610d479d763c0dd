-- Restocks are remembered by their idempotency keys; nothing reads or writes this table.
DROP TABLE restocks;
