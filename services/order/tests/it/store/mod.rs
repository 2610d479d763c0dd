//! The store and the sweeper on a real Postgres, without the rest of the shop.

mod commands;
mod forgotten;

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;
use valerix_kit::events::redis_streams::RedisStreams;
use valerix_kit::events::relay::Relay;
use valerix_kit::testing::{TestDatabase, bus_args};
use valerix_order::events::Pieces;
use valerix_order::metrics::Metrics;
use valerix_order::moves::Moves;
use valerix_order::order::NewOrder;
use valerix_order::store::{Store, Times};
use valerix_order::sweeper::Sweeper;
use valerix_order::waiters::Waiters;

struct Orders {
    _database: TestDatabase,
    pool: PgPool,
    store: Store,
}

impl Orders {
    async fn new() -> Self {
        let database = TestDatabase::create().await;
        let pool = database.pool().await;
        valerix_order::startup::migrations().run(&pool).await.unwrap();
        let times = Times {
            budget: Duration::ZERO,
            expiry: Duration::from_secs(900),
            resend: Duration::from_secs(30),
            forgotten: Duration::from_secs(900),
        };
        Self {
            _database: database,
            store: Store::new(pool.clone(), times),
            pool,
        }
    }

    /// A new order, whose first command goes out at once.
    async fn place(&self) -> Uuid {
        let new = NewOrder {
            id: Uuid::now_v7(),
            principal: "anonymous".to_owned(),
            item_id: "ps5".to_owned().try_into().unwrap(),
            quantity: 1,
            gremlin: false,
            probe: false,
        };
        let mut transaction = valerix_kit::postgres::begin(&self.pool).await.unwrap();
        self.store.create(&mut transaction, &new).await.unwrap();
        transaction.commit().await.unwrap();
        new.id
    }

    async fn run(&self, statement: &'static str) {
        sqlx::query(statement).execute(&self.pool).await.unwrap();
    }

    fn sweeper(&self) -> Sweeper {
        let registry = valerix_kit::metrics::Metrics::new().unwrap();
        let bus = Arc::new(RedisStreams::open(&bus_args()));
        Sweeper {
            store: self.store.clone(),
            moves: Moves {
                relay: Relay::new(self.pool.clone(), bus, registry.clone()),
                metrics: Metrics::register(&registry).unwrap(),
                waiters: Waiters::default(),
            },
            pause: Duration::ZERO,
        }
    }

    async fn hear_of(&self, order: Uuid, pieces: Option<&Pieces>) {
        let mut connection = self.pool.acquire().await.unwrap();
        self.store.hear_of(&mut connection, order, pieces).await.unwrap();
    }

    /// (command, attempt) of what was asked for an order, by name.
    async fn asked(&self, order: Uuid) -> Vec<(String, i64)> {
        sqlx::query_as("SELECT type, version FROM outbox WHERE aggregate LIKE $1 ORDER BY type, version")
            .bind(format!("order:{order}:%"))
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    async fn copies(&self, order: Uuid) -> Vec<i64> {
        sqlx::query_scalar("SELECT version FROM outbox WHERE aggregate = $1 ORDER BY version")
            .bind(format!("order:{order}:reserve"))
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }
}
