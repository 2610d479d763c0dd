//! The store and the sweeper on a real Postgres, without the rest of the shop.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use sqlx::PgPool;
use uuid::Uuid;
use valerix_kit::events::redis_streams::RedisStreams;
use valerix_kit::events::relay::Relay;
use valerix_kit::money::Money;
use valerix_kit::telemetry::TraceContext;
use valerix_kit::testing::{TestDatabase, bus_args, eventually};
use valerix_order::events::Pieces;
use valerix_order::keys;
use valerix_order::metrics::Metrics;
use valerix_order::moves::Moves;
use valerix_order::order::NewOrder;
use valerix_order::saga::reply::Reply;
use valerix_order::saga::state::{Input, Reason, State};
use valerix_order::store::{Store, Times};
use valerix_order::sweeper::Sweeper;
use valerix_order::waiters::Waiters;
use valerix_resilience::idempotency::{Claim, Idempotency, IdempotentRequest, StoredAnswer};

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

#[tokio::test]
async fn a_command_that_can_not_be_sent_holds_nobody_else_up() {
    let orders = Orders::new().await;
    let (broken, sound) = (orders.place().await, orders.place().await);
    // As after a restore of half of the tables: the second copy is in the outbox before it was counted.
    sqlx::query(
        "INSERT INTO outbox (event_id, aggregate, version, topic, type, payload) VALUES ($1, $2, 2, 't', 't', '{}')",
    )
    .bind(Uuid::new_v4())
    .bind(format!("order:{broken}:reserve"))
    .execute(&orders.pool)
    .await
    .unwrap();
    orders.run("UPDATE commands SET due_at = now()").await;
    let sent = orders.store.send_due(100).await.unwrap();
    assert_eq!((sent.due, sent.failed.len()), (2, 1), "{sent:?}");
    assert_eq!(orders.copies(sound).await, [1, 2]);
    // Its next copy is a later version, and goes.
    orders.run("UPDATE commands SET due_at = now()").await;
    assert_eq!(orders.store.send_due(100).await.unwrap().failed.len(), 0);
    assert_eq!(orders.copies(broken).await, [1, 2, 3]);
}

/// A clock that is set back leaves moments in the future behind it.
#[tokio::test]
async fn a_command_that_nobody_puts_off_so_far_is_sent() {
    let orders = Orders::new().await;
    let order = orders.place().await;
    orders
        .run("UPDATE commands SET due_at = now() + interval '15 minutes'")
        .await;
    orders.sweeper().round().await.unwrap();
    assert_eq!(orders.copies(order).await, [1], "a command may be put off so far");
    orders
        .run("UPDATE commands SET due_at = now() + interval '1 hour'")
        .await;
    orders.sweeper().round().await.unwrap();
    assert_eq!(orders.copies(order).await, [1, 2]);
}

#[tokio::test]
async fn an_order_that_can_not_be_expired_holds_nobody_else_up() {
    let orders = Orders::new().await;
    let (broken, sound) = (orders.place().await, orders.place().await);
    orders.run("UPDATE orders SET expires_at = now()").await;
    // The longest overdue order is the one that always fails.
    sqlx::query("UPDATE orders SET expires_at = now() - interval '1 hour' WHERE id = $1")
        .bind(broken)
        .execute(&orders.pool)
        .await
        .unwrap();
    orders
        .run("ALTER TABLE orders ADD CONSTRAINT of_the_next_version CHECK (state <> 'CANCELLING' OR expires_at > now() - interval '1 minute')")
        .await;
    orders.run("UPDATE commands SET due_at = now()").await;
    orders.sweeper().round().await.unwrap();
    let states: Vec<(Uuid, String)> = sqlx::query_as("SELECT id, state FROM orders ORDER BY id")
        .fetch_all(&orders.pool)
        .await
        .unwrap();
    assert_eq!(
        states,
        [(broken, "PENDING".to_owned()), (sound, "CANCELLING".to_owned())]
    );
    // Commands are sent all the same.
    assert_eq!(orders.copies(broken).await, [1, 2]);
}

#[tokio::test]
async fn copies_of_a_command_become_rare() {
    let orders = Orders::new().await;
    let order = orders.place().await;
    let mut waits = vec![];
    for _ in 0..7 {
        orders.run("UPDATE commands SET due_at = now()").await;
        assert_eq!(orders.store.send_due(100).await.unwrap().due, 1);
        let wait: f64 = sqlx::query_scalar(
            "SELECT round(extract(epoch FROM due_at - now()) / 30)::float8 FROM commands WHERE order_id = $1",
        )
        .bind(order)
        .fetch_one(&orders.pool)
        .await
        .unwrap();
        waits.push(wait);
    }
    // In times of 30 s: up to a quarter of an hour.
    assert_eq!(waits, [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
}

#[tokio::test]
async fn a_command_that_nobody_answers_grows_old_however_often_it_is_sent() {
    let orders = Orders::new().await;
    assert_eq!(orders.store.open().await.unwrap().oldest_seconds, 0.0);
    orders.place().await;
    orders
        .run("UPDATE commands SET created_at = now() - interval '1 hour', due_at = now() - interval '1 second'")
        .await;
    assert_eq!(orders.store.send_due(10).await.unwrap().due, 1);
    let open = orders.store.open().await.unwrap();
    // It is not overdue, as it has just been sent: nothing but its age tells that it waits in vain.
    assert_eq!(open.overdue_seconds, 0.0);
    assert!((3600.0..3700.0).contains(&open.oldest_seconds), "{open:?}");
}

#[tokio::test]
async fn an_order_that_this_version_can_not_read_hides_no_other() {
    let orders = Orders::new().await;
    let (old, foreign, new) = (orders.place().await, orders.place().await, orders.place().await);
    orders
        .run("ALTER TABLE orders DROP CONSTRAINT orders_state_check, DROP CONSTRAINT orders_check")
        .await;
    sqlx::query("UPDATE orders SET state = 'OF_THE_NEXT_VERSION' WHERE id = $1")
        .bind(foreign)
        .execute(&orders.pool)
        .await
        .unwrap();
    let page = orders.store.page("anonymous", None, 10).await.unwrap();
    let page: Vec<_> = page
        .into_iter()
        .map(|(id, order)| (id, order.map(|order| order.id)))
        .collect();
    assert_eq!(page, [(new, Some(new)), (foreign, None), (old, Some(old))]);
}

/// Its payment is away for longer than answers are kept.
#[tokio::test]
async fn a_key_lives_as_long_as_its_order_is_under_way() {
    let orders = Orders::new().await;
    let day = Duration::from_secs(24 * 3_600);
    let idempotency = Idempotency::new(day, Duration::from_secs(30));
    let request =
        |key: &str| IdempotentRequest::new(key, "anonymous", &Method::POST, "/api/orders", "/api/orders", b"{}");
    let (open, ended) = (orders.place().await, orders.place().await);
    let mut connection = orders.pool.acquire().await.unwrap();
    for (key, order) in [("open", open), ("ended", ended)] {
        let claim = idempotency.claim(&mut connection, &request(key), order).await.unwrap();
        let Claim::Started(attempt) = claim else {
            panic!("{claim:?}")
        };
        let answer = StoredAnswer::json(StatusCode::ACCEPTED, &order).unwrap();
        let _ = attempt.complete(&mut connection, answer).await.unwrap();
    }
    orders
        .store
        .apply(ended, Input::Rejected(Reason::OutOfStock), None)
        .await
        .unwrap();
    assert_eq!(
        keys::look(&orders.store, idempotency).await.unwrap(),
        0,
        "all of it is still to come"
    );
    for _ in 0..5 {
        orders
            .run("UPDATE idempotency_keys SET expires_at = expires_at - interval '13 hours'")
            .await;
        keys::look(&orders.store, idempotency).await.unwrap();
    }
    let claim = idempotency
        .claim(&mut connection, &request("open"), Uuid::now_v7())
        .await;
    assert!(matches!(claim.unwrap(), Claim::Replay(_)));
    let claim = idempotency
        .claim(&mut connection, &request("ended"), Uuid::now_v7())
        .await;
    assert!(matches!(claim.unwrap(), Claim::Started(_)));
}

#[tokio::test]
async fn what_comes_again_and_changes_nothing_is_one_line_of_the_history() {
    let orders = Orders::new().await;
    let order = orders.place().await;
    let price = Money::new(49_900, "EUR").unwrap();
    for input in [
        Input::Unanswered,
        Input::Returned,
        Input::Reserved,
        Input::Charged,
        Input::Committed,
    ] {
        for _ in 0..50 {
            orders.store.apply(order, input, Some(&price)).await.unwrap();
        }
    }
    let history = orders.store.history(order, 0, 1_000).await.unwrap();
    let lines: Vec<_> = history
        .iter()
        .map(|taken| (taken.input.as_str(), taken.to_state.as_str(), taken.verdict.as_str()))
        .collect();
    assert_eq!(
        lines,
        [
            ("Unanswered", "PENDING", "applied"),
            ("Returned", "PENDING", "ignored"),
            ("Reserved", "RESERVED", "applied"),
            ("Reserved", "RESERVED", "ignored"),
            ("Charged", "CONFIRMED", "applied"),
            ("Charged", "CONFIRMED", "ignored"),
            ("Committed", "CONFIRMED", "applied"),
        ]
    );
}

#[tokio::test]
async fn what_is_sent_again_stays_in_the_trace_of_the_order() {
    let orders = Orders::new().await;
    let placing = TraceContext::fresh();
    let trace = placing.trace_id().to_owned();
    let order = placing.scope(orders.place()).await;
    for overdue in [
        "UPDATE commands SET due_at = now()",
        "UPDATE orders SET expires_at = now()",
    ] {
        orders.run(overdue).await;
        orders.sweeper().round().await.unwrap();
    }
    let written: Vec<(String, String)> =
        sqlx::query_as("SELECT type, split_part(traceparent, '-', 2) FROM outbox ORDER BY created_at, type")
            .fetch_all(&orders.pool)
            .await
            .unwrap();
    let names: Vec<&str> = written.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["OrderCreated", "ReserveStock", "ReserveStock", "ReleaseStock"],
        "{order}"
    );
    assert!(written.iter().all(|(_, of)| *of == trace), "{trace}: {written:?}");
}

fn asked(commands: &[(&str, i64)]) -> Vec<(String, i64)> {
    commands
        .iter()
        .map(|(name, attempt)| ((*name).to_owned(), *attempt))
        .collect()
}

#[tokio::test]
async fn an_order_that_an_archive_has_forgotten_is_taken_in_after_a_while_to_be_undone() {
    let (orders, order) = (Orders::new().await, Uuid::now_v7());
    let sweeper = orders.sweeper();
    let two = Pieces {
        item_id: "ps5".into(),
        quantity: 2,
    };
    // Payment is heard first, and both of them twice.
    for pieces in [None, Some(&two), None, Some(&two)] {
        orders.hear_of(order, pieces).await;
    }
    sweeper.round().await.unwrap();
    assert_eq!(orders.store.read(order).await.unwrap(), None, "it is waited for");
    orders
        .run("UPDATE strangers SET heard_at = heard_at - interval '15 minutes'")
        .await;
    sweeper.round().await.unwrap();
    let taken_in = orders.store.read(order).await.unwrap().unwrap();
    let reason = Reason::Forgotten;
    let cancelling = State::Cancelling {
        reason,
        stock_returned: false,
        payment_settled: false,
    };
    assert_eq!(
        (taken_in.state, taken_in.item_id.as_str(), taken_in.quantity),
        (cancelling, "ps5", 2)
    );
    assert_eq!(
        orders.asked(order).await,
        asked(&[("ReleaseStock", 1), ("VoidPayment", 1)])
    );
    for input in [Input::Released, Input::PaymentRefunded] {
        orders.store.apply(order, input, None).await.unwrap();
    }
    // What is heard once more is asked for once more, under a number of its own.
    for input in [Input::Charged, Input::Charged] {
        let applied = orders.store.apply(order, input, None).await.unwrap();
        assert_eq!(applied.order.state, State::Cancelled { reason });
    }
    assert_eq!(
        orders.asked(order).await,
        asked(&[("ReleaseStock", 1), ("VoidPayment", 1), ("VoidPayment", 2)])
    );
    orders.hear_of(order, Some(&two)).await;
    orders
        .run("UPDATE strangers SET heard_at = heard_at - interval '15 minutes'")
        .await;
    sweeper.round().await.unwrap();
    let again = orders.store.read(order).await.unwrap().unwrap();
    assert_eq!(again.state, State::Cancelled { reason }, "it is taken in once");
}

#[tokio::test]
async fn of_an_order_that_payment_alone_knows_the_money_goes_back_and_the_pieces_once_they_are_named() {
    let (orders, order) = (Orders::new().await, Uuid::now_v7());
    orders.hear_of(order, None).await;
    orders
        .run("UPDATE strangers SET heard_at = heard_at - interval '15 minutes'")
        .await;
    orders.sweeper().round().await.unwrap();
    assert_eq!(orders.asked(order).await, asked(&[("VoidPayment", 1)]));
    let three = Pieces {
        item_id: "ps5".into(),
        quantity: 3,
    };
    let mut connection = orders.pool.acquire().await.unwrap();
    let sold = Reply::Plain(Input::Committed);
    let named = orders.store.reply_in(&mut connection, order, &sold, Some(&three)).await;
    let named = named.unwrap().unwrap().order;
    assert_eq!((named.item_id.as_str(), named.quantity), ("ps5", 3));
    assert_eq!(
        orders.asked(order).await,
        asked(&[("ReleaseStock", 1), ("VoidPayment", 1)])
    );
}

/// What an order that has come back from an archive hears of the time since: payment first.
#[tokio::test]
async fn a_paid_order_is_kept_though_its_charge_is_heard_before_its_reservation() {
    let orders = Orders::new().await;
    let order = orders.place().await;
    for _ in 0..2 {
        let early = orders.store.apply(order, Input::Charged, None).await.unwrap();
        assert_eq!((early.order.state, early.before), (State::Pending, State::Pending));
    }
    let applied = orders
        .store
        .apply(order, Input::Reserved, Some(&price()))
        .await
        .unwrap();
    assert_eq!(
        (applied.order.state, applied.before),
        (State::Confirmed, State::Pending)
    );
    assert_eq!(
        orders.asked(order).await,
        asked(&[("ChargePayment", 1), ("CommitStock", 1), ("ReserveStock", 1)])
    );
    // Everybody has heard of it under this version before: nobody is told of a sale twice.
    let told: Vec<(String, i64)> =
        sqlx::query_as("SELECT type, version FROM outbox WHERE aggregate = $1 ORDER BY version")
            .bind(format!("order:{order}"))
            .fetch_all(&orders.pool)
            .await
            .unwrap();
    assert_eq!(told, asked(&[("OrderCreated", 1), ("OrderConfirmed", 3)]));
    let taken = orders.store.history(order, 0, 100).await.unwrap();
    let taken: Vec<_> = taken
        .iter()
        .map(|taken| (taken.input.as_str(), taken.to_state.as_str(), taken.verdict.as_str()))
        .collect();
    assert_eq!(
        taken,
        [
            ("Charged", "PENDING", "early"),
            ("Reserved", "RESERVED", "applied"),
            ("Charged", "CONFIRMED", "applied"),
        ]
    );
}

#[tokio::test]
async fn the_money_of_an_early_charge_is_asked_back_wherever_else_the_order_goes() {
    let orders = Orders::new().await;
    for input in [
        Input::Rejected(Reason::OutOfStock),
        Input::Expired,
        Input::Cancel(Reason::CancelledByCustomer),
        Input::Cancel(Reason::AmountOutOfRange),
        Input::Released,
        Input::Voided,
        Input::PaymentRefunded,
    ] {
        let order = orders.place().await;
        orders.store.apply(order, Input::Charged, None).await.unwrap();
        let over = orders.store.apply(order, input, None).await.unwrap().order.state;
        let settled = matches!(
            over,
            State::Cancelling {
                payment_settled: true,
                ..
            }
        );
        assert!(over.reason().is_some() && !settled, "{input:?}: {over:?}");
        let asked = orders.asked(order).await;
        assert!(asked.contains(&("VoidPayment".to_owned(), 1)), "{input:?}: {asked:?}");
    }
}

/// One is taken in while the transaction of the other is open.
#[tokio::test]
async fn a_charge_and_a_reservation_that_are_heard_at_once_miss_each_other_never() {
    let orders = Orders::new().await;
    let reserved = Reply::Reserved {
        unit_price_minor: price().amount_minor(),
        currency: "EUR".into(),
    };
    let charged = Reply::Plain(Input::Charged);
    for (first, second) in [(&reserved, &charged), (&charged, &reserved)] {
        let order = orders.place().await;
        let mut open = valerix_kit::postgres::begin(&orders.pool).await.unwrap();
        let held = orders.store.reply_in(&mut open, order, first, None).await.unwrap();
        let meanwhile = async {
            let mut other = valerix_kit::postgres::begin(&orders.pool).await.unwrap();
            let taken = orders.store.reply_in(&mut other, order, second, None).await;
            other.commit().await.unwrap();
            taken.unwrap().unwrap().order.state
        };
        let (state, ()) = tokio::join!(meanwhile, async {
            eventually("the second waits for the first", || async {
                let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
                             AND wait_event_type = 'Lock')";
                let waits: bool = sqlx::query_scalar(waits).fetch_one(&orders.pool).await.unwrap();
                waits.then_some(())
            })
            .await;
            open.commit().await.unwrap();
        });
        assert_eq!(state, State::Confirmed, "after {:?}", held.unwrap().order.state);
    }
}

fn price() -> Money {
    Money::new(49_990, "EUR").unwrap()
}
