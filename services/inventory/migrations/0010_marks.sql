-- The last random values that each group has kept here and then told Redis of: where Redis names one that is not here, this
-- database has come back from an archive, or has lost its last transactions (valerix_kit::events::restored). A ring, written
-- over in place: no index is of what changes, and the pages have room for the next version of their rows.
CREATE TABLE marks (
    consumer_group text        NOT NULL,
    place          integer     NOT NULL,              -- number modulo the size of the ring
    number         bigint      NOT NULL,
    mark           uuid        NOT NULL,
    kept_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer_group, place)
) WITH (fillfactor = 50);
