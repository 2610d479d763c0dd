//! The store on a real Postgres, without the rest of the service.

use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;
use valerix_kit::money::Money;
use valerix_kit::testing::TestDatabase;
use valerix_payment::saga::state::Input;
use valerix_payment::store::Store;

const LEASE: Duration = Duration::from_secs(5);

async fn store() -> (TestDatabase, PgPool, Store) {
    let database = TestDatabase::create().await;
    let pool = database.pool().await;
    valerix_payment::startup::migrations().run(&pool).await.unwrap();
    (database, pool.clone(), Store::new(pool, LEASE))
}

/// A payment that is commanded by event and due at once.
async fn commanded(store: &Store, pool: &PgPool) -> Uuid {
    let mut connection = pool.acquire().await.unwrap();
    let money = Money::new(500, "EUR").unwrap();
    let applied = store
        .apply_in(&mut connection, Uuid::now_v7(), Input::Charge, Some(&money), None)
        .await;
    applied.unwrap().payment.id
}

async fn run(pool: &PgPool, statement: &'static str) {
    sqlx::query(statement).execute(pool).await.unwrap();
}

#[tokio::test]
async fn a_payment_that_this_version_can_not_read_holds_nobody_up() {
    let (_database, pool, store) = store().await;
    let (foreign, sound) = (commanded(&store, &pool).await, commanded(&store, &pool).await);
    run(
        &pool,
        "ALTER TABLE payments DROP CONSTRAINT payments_state_check, DROP CONSTRAINT payments_check2",
    )
    .await;
    sqlx::query("UPDATE payments SET state = 'OF_THE_NEXT_VERSION' WHERE id = $1")
        .bind(foreign)
        .execute(&pool)
        .await
        .unwrap();
    let due = store.take_due(16).await.unwrap();
    let (taken, passed_over): (Vec<_>, Vec<_>) = due.into_iter().partition(Result::is_ok);
    let taken: Vec<Uuid> = taken.into_iter().map(|due| due.unwrap().payment.id).collect();
    assert_eq!((taken, passed_over.len()), (vec![sound], 1));
    assert!(store.take_due(16).await.unwrap().is_empty(), "both have had their turn");
}

#[tokio::test]
async fn the_processor_is_waited_for_longer_with_every_attempt_and_asked_again_soon() {
    let (_database, pool, store) = store().await;
    let payment = commanded(&store, &pool).await;
    let mut seconds = vec![];
    for attempt in 1..=6 {
        let due = store.take_due(1).await.unwrap().remove(0).unwrap();
        assert_eq!((due.payment.id, due.attempt), (payment, attempt));
        seconds.push(due.patience.as_secs());
        assert!(
            store.take_due(1).await.unwrap().is_empty(),
            "nobody else takes it up meanwhile"
        );
        // One who was overtaken has no say.
        store.pause(payment, attempt - 1).await.unwrap();
        assert!(attempt == 1 || pause(&pool).await > Duration::from_secs(8));
        store.pause(payment, attempt).await.unwrap();
        assert!(pause(&pool).await <= Duration::from_secs(10));
        run(&pool, "UPDATE payments SET due_at = now()").await;
    }
    assert_eq!(seconds, [4, 8, 16, 32, 48, 48]);
}

/// A clock that is set back leaves moments in the future behind it.
#[tokio::test]
async fn what_no_attempt_puts_off_so_far_is_due() {
    let (_database, pool, store) = store().await;
    let payment = commanded(&store, &pool).await;
    run(&pool, "UPDATE payments SET due_at = now() + interval '60 seconds'").await;
    store.recall_postponed().await.unwrap();
    assert!(
        store.take_due(1).await.unwrap().is_empty(),
        "an attempt may put it off so far"
    );
    run(&pool, "UPDATE payments SET due_at = now() + interval '1 hour'").await;
    store.recall_postponed().await.unwrap();
    assert_eq!(store.take_due(1).await.unwrap().remove(0).unwrap().payment.id, payment);
}

/// The time until the one payment is due.
async fn pause(pool: &PgPool) -> Duration {
    let seconds: f64 = sqlx::query_scalar("SELECT extract(epoch FROM due_at - now())::float8 FROM payments")
        .fetch_one(pool)
        .await
        .unwrap();
    Duration::from_secs_f64(seconds)
}
