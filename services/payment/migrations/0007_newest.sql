-- Payments are listed newest first; their ids tell no age.
CREATE INDEX payments_newest ON payments (created_at, id);
