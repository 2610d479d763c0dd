-- Payment was heard before inventory: a database that came back from an archive hears both again, in any order.
ALTER TABLE orders ADD COLUMN charged boolean NOT NULL DEFAULT false;
