-- Orders of which others say that they hold stock or money for them, and which are not known here: this database came back
-- from an archive that is older. A row goes away when the order is taken in to be undone.
CREATE TABLE strangers (
    order_id uuid        PRIMARY KEY,
    item_id  text,                                -- both null while inventory has not said what it holds
    quantity integer     CHECK (quantity BETWEEN 1 AND 10000),
    heard_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX strangers_heard ON strangers (heard_at);
