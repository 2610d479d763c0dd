-- Who adds a message looks whether its order was told the same before. No constraint: what the release before this one writes
-- has to pass, and customers may have been told twice.
CREATE INDEX notifications_order ON notifications (order_id);
