//! A release that finds the databases of an earlier one: what was open goes on, what was over can be read and undone.

use serde_json::{Value, json};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;
use valerix_kit::testing::TestDatabase;
use valerix_payment::payment::Payment;
use valerix_payment::saga::state::State;

use crate::shop::{PRICE, Shop};

/// Of each service the schema with which the shop was first used, before columns were added and taken away.
static FIRST: [(&str, i64, Migrator); 4] = [
    ("order", 3, sqlx::migrate!("./migrations")),
    ("payment", 3, sqlx::migrate!("../payment/migrations")),
    ("inventory", 3, sqlx::migrate!("../inventory/migrations")),
    ("processor", 1, sqlx::migrate!("../processor/migrations")),
];

/// The other services with a database, which the tests of the saga do not run.
static OTHERS: [(&str, i64, Migrator); 3] = [
    ("auth", 2, sqlx::migrate!("../auth/migrations")),
    ("notification", 2, sqlx::migrate!("../notification/migrations")),
    ("analytics", 2, sqlx::migrate!("../analytics/migrations")),
];

#[tokio::test]
async fn orders_of_the_first_schema_go_on_under_the_newest() {
    let mut shop = Shop::closed(10, &[("order", "COMMAND_RESEND", "1s")]).await;
    for (service, version, migrator) in &FIRST {
        migrator.run_to(*version, &shop.pool(service).await).await.unwrap();
    }
    let [sold, open, refused] = [(); 3].map(|()| Uuid::now_v7());
    let total = 2 * PRICE;
    let orders = shop.pool("order").await;
    for (id, quantity, state, reason, version, told) in [
        (
            sold,
            2,
            "CONFIRMED",
            "NULL",
            3,
            &[("OrderCreated", 1), ("OrderConfirmed", 3)][..],
        ),
        (open, 1, "RESERVED", "NULL", 2, &[("OrderCreated", 1)]),
        (
            refused,
            9,
            "CANCELLED",
            "'OUT_OF_STOCK'",
            2,
            &[("OrderCreated", 1), ("OrderCancelled", 2)],
        ),
    ] {
        let amount = i64::from(quantity) * PRICE;
        run(&orders, format!(
            "INSERT INTO orders (id, principal, item_id, quantity, state, reason, amount_minor, currency, version, expires_at) \
             VALUES ('{id}', 'anonymous', 'ps5', {quantity}, '{state}', {reason}, {amount}, 'EUR', {version}, now() + interval '1 hour')"
        )).await;
        for (name, version) in told {
            run(
                &orders,
                format!(
                    "INSERT INTO outbox (event_id, aggregate, version, topic, type, payload, published_at) \
                 VALUES (gen_random_uuid(), 'order:{id}', {version}, 'order.events', '{name}', '{{}}', now())"
                ),
            )
            .await;
        }
    }
    run(
        &orders,
        format!("INSERT INTO commands (order_id, action, due_at) VALUES ('{open}', 'ChargePayment', now())"),
    )
    .await;
    let inventory = shop.pool("inventory").await;
    run(&inventory, format!(
        "INSERT INTO items (item_id, initial, available, unit_price_minor, currency) VALUES ('ps5', 10, 7, {PRICE}, 'EUR'); \
         INSERT INTO reservations (order_id, item_id, quantity, state, reason, unit_price_minor, currency, version) VALUES \
         ('{sold}', 'ps5', 2, 'COMMITTED', NULL, {PRICE}, 'EUR', 2), \
         ('{open}', 'ps5', 1, 'RESERVED', NULL, {PRICE}, 'EUR', 1), \
         ('{refused}', 'ps5', 9, 'REJECTED', 'OUT_OF_STOCK', NULL, NULL, 1)"
    )).await;
    let payment = Payment::new(sold, None, State::Charged).id;
    run(
        &shop.pool("payment").await,
        format!(
            "INSERT INTO payments (id, order_id, amount_minor, currency, state) \
         VALUES ('{payment}', '{sold}', {total}, 'EUR', 'CHARGED')"
        ),
    )
    .await;
    run(&shop.pool("processor").await, format!(
        "INSERT INTO charges (key, amount_minor, currency, status) VALUES ('{payment}', {total}, 'EUR', 'SUCCEEDED')"
    )).await;

    shop.open().await;
    shop.reaches(open, "CONFIRMED").await;
    let told = shop.get("order", &format!("/api/orders/{refused}")).await.body();
    assert_eq!(
        (&told["status"], &told["reason"]),
        (&json!("CANCELLED"), &json!("OUT_OF_STOCK"))
    );
    assert_eq!(shop.place("ps5", 3).await.status, 201);
    assert_eq!(shop.undo(sold, "refund").await.status, 202);
    shop.reaches(sold, "REFUNDED").await;
    shop.adds_up(10).await;
    assert_eq!(shop.available("ps5").await, 10 - 1 - 3);
}

/// What a release wrote, the one before it wrote without: while both run, each has to be able to write its rows.
#[tokio::test]
async fn a_migration_leaves_what_the_release_before_it_writes() {
    for (service, first, migrator) in FIRST.iter().chain(&OTHERS) {
        let database = TestDatabase::create().await;
        let pool = database.pool().await;
        migrator.run_to(*first, &pool).await.unwrap();
        let mut before = columns(&pool).await;
        for migration in migrator.iter().filter(|one| one.version > *first) {
            migrator.run_to(migration.version, &pool).await.unwrap();
            let after = columns(&pool).await;
            let name = format!("{service} {:04}_{}", migration.version, migration.description);
            // Both say themselves that no release ever wrote what they take away.
            if !["outbox contract", "restocks"].contains(&&*migration.description) {
                for column in before.as_object().unwrap().keys() {
                    assert!(!after[column].is_null(), "{name} takes {column} away");
                }
            }
            for (column, must_be_given) in after.as_object().unwrap() {
                let table = column.split('.').next().unwrap();
                let is_old_table = before
                    .as_object()
                    .unwrap()
                    .keys()
                    .any(|known| known.starts_with(&format!("{table}.")));
                if before[column].is_null() && is_old_table {
                    assert_eq!(
                        must_be_given, false,
                        "{name}: {column} has neither a default nor may it be null"
                    );
                }
            }
            before = after;
        }
    }
}

/// Whether each column has to be given by who writes a row.
async fn columns(pool: &PgPool) -> Value {
    sqlx::query_scalar(
        "SELECT json_object_agg(table_name || '.' || column_name, \
         is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO') \
         FROM information_schema.columns WHERE table_schema = 'public'",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

async fn run(pool: &PgPool, statements: String) {
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(pool).await.unwrap();
}
