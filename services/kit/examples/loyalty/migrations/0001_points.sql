CREATE TABLE points (
    user_id uuid   PRIMARY KEY,
    balance bigint NOT NULL CHECK (balance >= 0),
    version bigint NOT NULL DEFAULT 0        -- of the aggregate points:user:{id}
);
