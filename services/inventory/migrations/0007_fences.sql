-- The last holder of a lock who has written under it: one with a smaller token is refused.
CREATE TABLE fences (
    name   text   PRIMARY KEY,
    token  bigint NOT NULL,
    holder text   NOT NULL
);
