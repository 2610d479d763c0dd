-- A recount adds up one item after the other, with the item locked.
CREATE INDEX reservations_taken ON reservations (item_id) INCLUDE (quantity) WHERE state IN ('RESERVED', 'COMMITTED');
