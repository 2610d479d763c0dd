//! Orders while something is slow, dead or late: answered in time, finished afterwards, nothing doubled.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use redis::AsyncCommands;
use serde_json::json;

use crate::shop::{Shop, Told, hasty_payment_policy, order_policy};

/// The budget of an answer is 2 s; the rest is for a busy machine. Whatever is slow here takes longer than this by far.
const LONGEST_ANSWER: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_slow_inventory_queues_orders_opens_the_breaker_and_loses_nothing() {
    let shop = Shop::start(100, &[]).await;
    assert_eq!(shop.place("ps5", 1).await.status, 201);
    let now = Utc::now();
    let fault = |run: &str, seconds: i64| {
        json!({"version": 1, "faults": [{
            "run": run, "fault": {"latency": {"delay": "10s"}}, "podUIDs": ["uid-inventory"],
            "duration": format!("{seconds}s"), "notAfter": now + TimeDelta::seconds(600), "intentAt": now,
        }]})
    };
    shop.document("inventory", "faults.json", &fault("slow-1", 8));
    let mut queued = vec![];
    shop.until("the fault is felt", || async {
        let answer = shop.place("ps5", 1).await;
        assert!(answer.took < LONGEST_ANSWER, "{answer:?}");
        (answer.status == 202).then_some(())
    })
    .await;
    for _ in 0..10 {
        let answer = shop.place("ps5", 1).await;
        assert_eq!((answer.status, &answer.body()["status"]), (202, &json!("QUEUED")));
        assert!(answer.took < LONGEST_ANSWER, "{answer:?}");
        queued.push((answer.order(), answer.took));
    }
    let fastest = queued.iter().map(|(_, took)| *took).min().unwrap();
    assert!(
        fastest < Duration::from_secs(1),
        "no open breaker spared anyone the wait: {fastest:?}"
    );
    // By event, while HTTP is still slow.
    for (order, _) in queued {
        shop.reaches(order, "CONFIRMED").await;
    }
    shop.until("orders are confirmed over HTTP again", || async {
        (shop.place("ps5", 1).await.status == 201).then_some(())
    })
    .await;
    shop.adds_up(100).await;
}

#[tokio::test]
async fn a_dead_inventory_queues_orders_and_they_are_confirmed_when_it_is_back() {
    let mut shop = Shop::start(5, &[]).await;
    shop.kill("inventory");
    let mut orders = vec![];
    for _ in 0..7 {
        let answer = shop.place("ps5", 1).await;
        assert_eq!((answer.status, &answer.body()["status"]), (202, &json!("QUEUED")));
        assert!(answer.took < LONGEST_ANSWER, "{answer:?}");
        orders.push(answer.order());
    }
    shop.spawn("inventory");
    shop.ready("inventory").await;
    shop.adds_up(5).await;
    let mut confirmed = 0;
    for order in orders {
        let body = shop.get("order", &format!("/api/orders/{order}")).await.body();
        confirmed += i32::from(body["status"] == "CONFIRMED");
    }
    assert_eq!(confirmed, 5);
}

#[tokio::test]
async fn a_payment_that_dies_between_its_two_commits_charges_once() {
    // Order waits for payment, and payment for the processor, until payment is dead.
    let settings = [
        ("processor", "LATE_PERCENT", "100"),
        ("processor", "LATE_BY", "1h"),
        ("payment", "SETTLE_LEASE", "6s"),
        ("order", "ORDER_BUDGET", "9s"),
    ];
    let mut shop = Shop::start(5, &settings).await;
    let mut policy = order_policy();
    policy["inbound"]["timeout"] = json!("9s");
    policy["inbound"]["idempotency"]["lockTimeout"] = json!("1m");
    policy["targets"][1]["timeout"] = json!({"request": "9s", "attempt": "9s"});
    shop.policy("order", &policy);
    shop.restart("order").await;
    let body = json!({"item_id": "ps5", "quantity": 1});
    let (answer, ()) = tokio::join!(shop.try_place("dies", &body), async {
        // The money is taken, and nobody but the processor knows.
        shop.until("the processor has charged", || async {
            (shop.ledger().await.len() == 1).then_some(())
        })
        .await;
        shop.signal("payment", "-KILL");
    });
    let answer = answer.unwrap();
    assert_eq!(
        (answer.status, &answer.body()["status"]),
        (202, &json!("QUEUED")),
        "{answer:?}"
    );
    shop.kill("payment");
    let state: String = sqlx::query_scalar("SELECT state FROM payments")
        .fetch_one(&shop.pool("payment").await)
        .await
        .unwrap();
    assert_eq!(state, "PROCESSING");
    shop.spawn("payment");
    shop.ready("payment").await;
    shop.reaches(answer.order(), "CONFIRMED").await;
    assert_eq!(shop.ledger().await.len(), 1);
    shop.adds_up(5).await;
}

#[tokio::test]
async fn an_order_that_expires_before_its_charge_is_made_is_never_charged() {
    let shop = Shop::start(
        5,
        &[
            ("processor", "DELAY", "1h"),
            ("order", "ORDER_EXPIRY", "2500ms"),
            ("order", "SWEEP_INTERVAL", "100ms"),
        ],
    )
    .await;
    let answer = shop.place("ps5", 2).await;
    assert_eq!(
        (answer.status, &answer.body()["status"]),
        (202, &json!("QUEUED")),
        "{answer:?}"
    );
    shop.reaches(answer.order(), "CANCELLED").await;
    let body = shop
        .get("order", &format!("/api/orders/{}", answer.order()))
        .await
        .body();
    assert_eq!(body["reason"], "EXPIRED");
    shop.adds_up(5).await;
    assert_eq!(shop.available("ps5").await, 5);
    assert_eq!(statuses(&shop).await, ["CANCELLED"]);
}

#[tokio::test]
async fn an_order_that_expires_while_the_processor_is_away_is_never_charged() {
    let mut shop = Shop::start(5, &[("payment", "SETTLE_LEASE", "1s")]).await;
    shop.kill("processor");
    let answer = shop.place("ps5", 2).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let (order, payment) = (shop.pool("order").await, shop.pool("payment").await);
    sqlx::query("UPDATE orders SET expires_at = now()")
        .execute(&order)
        .await
        .unwrap();
    shop.until("the payment is voided", || async {
        let voided: bool = sqlx::query_scalar("SELECT void_requested FROM payments")
            .fetch_one(&payment)
            .await
            .unwrap();
        voided.then_some(())
    })
    .await;
    shop.spawn("processor");
    shop.ready("processor").await;
    shop.reaches(answer.order(), "CANCELLED").await;
    shop.adds_up(5).await;
    assert_eq!(statuses(&shop).await, ["CANCELLED"]);
}

#[tokio::test]
async fn an_order_that_expires_after_its_charge_was_made_is_refunded_and_its_stock_returned() {
    let late = [
        ("processor", "LATE_PERCENT", "100"),
        ("processor", "LATE_BY", "1h"),
        ("payment", "SETTLE_LEASE", "1s"),
    ];
    let mut shop = Shop::start(5, &late).await;
    let body = json!({"item_id": "ps5", "quantity": 2});
    let (answer, ()) = tokio::join!(shop.try_place("expires", &body), async {
        shop.until("the processor has charged", || async {
            (shop.ledger().await.len() == 1).then_some(())
        })
        .await;
        shop.signal("payment", "-KILL");
    });
    shop.kill("payment");
    sqlx::query("UPDATE orders SET expires_at = now()")
        .execute(&shop.pool("order").await)
        .await
        .unwrap();
    let order = answer.unwrap().order();
    shop.reaches(order, "CANCELLING").await;
    shop.spawn("payment");
    shop.ready("payment").await;
    shop.reaches(order, "CANCELLED").await;
    shop.adds_up(5).await;
    assert_eq!(shop.available("ps5").await, 5);
    assert_eq!(statuses(&shop).await, ["REFUNDED"]);
}

/// What the processor's ledger says of each key.
async fn statuses(shop: &Shop) -> Vec<String> {
    shop.ledger().await.into_values().map(|(status, _)| status).collect()
}

#[tokio::test]
async fn a_processor_slower_than_any_attempt_charges_once_and_the_order_is_confirmed() {
    for misbehaviour in [
        [("processor", "DELAY", "1s"), ("processor", "LATE_PERCENT", "0")],
        [("processor", "LATE_PERCENT", "100"), ("processor", "LATE_BY", "1h")],
    ] {
        let settings: Vec<_> = misbehaviour
            .into_iter()
            .chain([("payment", "SETTLE_LEASE", "1s")])
            .collect();
        let mut shop = Shop::start(5, &settings).await;
        shop.policy("payment", &hasty_payment_policy());
        shop.restart("payment").await;
        let answers = futures::future::join_all((0..3).map(|_| shop.place("ps5", 1))).await;
        for answer in answers {
            assert_eq!(answer.status, 202, "{answer:?}");
            shop.reaches(answer.order(), "CONFIRMED").await;
        }
        shop.adds_up(5).await;
        assert_eq!(statuses(&shop).await, ["SUCCEEDED"; 3]);
    }
}

#[tokio::test]
async fn a_caller_who_waits_less_than_the_budget_is_told_that_the_order_is_queued() {
    let mut shop = Shop::start(100, &[]).await;
    let mut policy = order_policy();
    // No breaker spares anyone the wait, and no time of the targets ends before the caller's.
    policy["mode"] = json!("Disabled");
    policy["targets"][0]["timeout"] = json!({"request": "10s", "attempt": "10s"});
    shop.policy("order", &policy);
    shop.restart("order").await;
    let now = Utc::now();
    let slow = json!({"version": 1, "faults": [{
        "run": "slow", "fault": {"latency": {"delay": "10s"}}, "podUIDs": ["uid-inventory"],
        "duration": "5m", "notAfter": now + TimeDelta::seconds(600), "intentAt": now,
    }]});
    shop.document("inventory", "faults.json", &slow);
    let told = async || {
        let answer = shop.place_within(1_000).await;
        assert!(answer.took < Duration::from_secs(3), "{answer:?}");
        answer
    };
    shop.until("the fault is in force", async || {
        let answer = told().await;
        assert!(matches!(answer.status, 201 | 202), "{answer:?}");
        (answer.status == 202).then_some(())
    })
    .await;
    // What the order has come to takes longer to write down than such a caller has left.
    slow_down(&shop, "BEFORE INSERT ON order_history", 0.4).await;
    for _ in 0..10 {
        let answer = told().await;
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.body()["status"], "QUEUED");
    }
}

/// Has Postgres take so many seconds at that moment of each row of order's.
async fn slow_down(shop: &Shop, moment: &str, seconds: f64) {
    let trigger = if moment.contains("DEFERRED") {
        "CONSTRAINT TRIGGER"
    } else {
        "TRIGGER"
    };
    let statements = format!(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep({seconds}); RETURN new; END $$;
         CREATE {trigger} slow {moment} FOR EACH ROW EXECUTE FUNCTION slow();"
    );
    let statements = sqlx::AssertSqlSafe(statements);
    sqlx::raw_sql(statements)
        .execute(&shop.pool("order").await)
        .await
        .unwrap();
}

async fn make_haste(shop: &Shop) {
    let statement = sqlx::raw_sql("DROP FUNCTION slow CASCADE");
    statement.execute(&shop.pool("order").await).await.unwrap();
}

#[tokio::test]
async fn a_slow_database_keeps_nobody_waiting_beyond_the_budget() {
    let shop = Shop::start(5, &[]).await;
    let slow = |moment| slow_down(&shop, moment, 6.0);
    // Nothing is stored; the order is stored.
    for (moment, status) in [("BEFORE INSERT ON orders", 503), ("BEFORE UPDATE ON orders", 202)] {
        slow(moment).await;
        let answer = shop.place("ps5", 1).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.took < LONGEST_ANSWER, "{answer:?}");
        make_haste(&shop).await;
    }
    shop.adds_up(5).await;
}

#[tokio::test]
async fn a_commit_that_takes_longer_than_the_request_does_not_keep_the_key() {
    let mut shop = Shop::start(5, &[]).await;
    let mut policy = order_policy();
    policy["inbound"]["idempotency"]["lockTimeout"] = json!("1h");
    shop.policy("order", &policy);
    shop.restart("order").await;
    slow_down(&shop, "AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED", 6.0).await;
    let body = json!({"item_id": "ps5", "quantity": 1});
    let answer = shop.try_place("slow", &body).await.unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.took < LONGEST_ANSWER, "{answer:?}");
    let again = shop.until("the same key is answered", || async {
        let again = shop.try_place("slow", &body).await.unwrap();
        (!matches!(again.status, 409 | 503)).then_some(again)
    });
    let order = again.await.order();
    shop.reaches(order, "CONFIRMED").await;
    shop.adds_up(5).await;
    assert_eq!(
        shop.get("order", "/api/orders").await.body()["orders"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_database_that_was_away_for_a_moment_does_not_keep_the_key() {
    let mut shop = Shop::start(5, &[]).await;
    let mut policy = order_policy();
    policy["inbound"]["idempotency"]["lockTimeout"] = json!("1h");
    shop.policy("order", &policy);
    shop.restart("order").await;
    // The order waits for its item's row while its own database goes away.
    let mut lock = valerix_kit::postgres::begin(&shop.pool("inventory").await)
        .await
        .unwrap();
    sqlx::query("SELECT 1 FROM items WHERE item_id = 'ps5' FOR UPDATE")
        .execute(&mut *lock)
        .await
        .unwrap();
    let body = json!({"item_id": "ps5", "quantity": 1});
    let order = shop.pool("order").await;
    let (answer, ()) = tokio::join!(shop.try_place("blip", &body), async {
        shop.until("the order is stored", || async {
            let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM orders")
                .fetch_one(&order)
                .await
                .unwrap();
            (stored == 1).then_some(())
        })
        .await;
        shop.shut_database("order").await;
    });
    let answer = answer.unwrap();
    // It is stored, so it is accepted.
    assert_eq!(answer.status, 202, "{answer:?}");
    shop.open_database("order").await;
    drop(lock);
    let again = shop.until("the same key gets the same answer", || async {
        let again = shop.try_place("blip", &body).await.unwrap();
        (!matches!(again.status, 409 | 503)).then_some(again)
    });
    assert_eq!(again.await.text, answer.text);
    shop.reaches(answer.order(), "CONFIRMED").await;
    shop.adds_up(5).await;
}

#[tokio::test]
async fn a_void_that_meets_a_finished_charge_gives_the_money_back() {
    let mut shop = Shop::start(5, &[("processor", "DELAY", "3s")]).await;
    let answer = shop.place("ps5", 2).await;
    assert_eq!(
        (answer.status, &answer.body()["status"]),
        (202, &json!("QUEUED")),
        "{answer:?}"
    );
    // The charge is finished and announced, but order is dead and Redis loses the announcement.
    shop.kill("order");
    let payment = shop.pool("payment").await;
    shop.until("the charge is finished and announced", || async {
        let announced: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM outbox WHERE type = 'PaymentProcessed' AND published_at IS NOT NULL",
        )
        .fetch_one(&payment)
        .await
        .unwrap();
        (announced > 0).then_some(())
    })
    .await;
    let mut redis = valerix_kit::testing::redis().await;
    let removed: i64 = redis.del(shop.stream("payment.events")).await.unwrap();
    assert_eq!(removed, 1);
    sqlx::query("UPDATE orders SET expires_at = now()")
        .execute(&shop.pool("order").await)
        .await
        .unwrap();
    shop.spawn("order");
    shop.ready("order").await;

    shop.reaches(answer.order(), "CANCELLED").await;
    shop.adds_up(5).await;
    assert_eq!(shop.available("ps5").await, 5);
    assert_eq!(statuses(&shop).await, ["REFUNDED"]);
    let state: String = sqlx::query_scalar("SELECT state FROM payments")
        .fetch_one(&payment)
        .await
        .unwrap();
    assert_eq!(state, "REFUNDED");
}

#[tokio::test]
async fn commands_and_answers_that_redis_loses_are_sent_again() {
    let mut shop = Shop::start(5, &[("order", "COMMAND_RESEND", "1s")]).await;
    shop.kill("inventory");
    let answer = shop.place("ps5", 2).await;
    assert_eq!(answer.status, 202);
    let order = shop.pool("order").await;
    shop.until("the command is published", || async {
        let published: i64 =
            sqlx::query_scalar("SELECT count(*) FROM outbox WHERE type = 'ReserveStock' AND published_at IS NOT NULL")
                .fetch_one(&order)
                .await
                .unwrap();
        (published > 0).then_some(())
    })
    .await;
    let mut redis = valerix_kit::testing::redis().await;
    let _: i64 = redis.del(shop.stream("inventory.commands")).await.unwrap();
    shop.spawn("inventory");
    shop.reaches(answer.order(), "CONFIRMED").await;
    shop.adds_up(5).await;
}

#[tokio::test]
async fn a_processor_that_fails_and_answers_late_is_asked_until_it_answers_and_charges_once() {
    let shop = Shop::start(
        100,
        &[
            ("processor", "FAIL_PERCENT", "20"),
            ("processor", "FAIL_AFTER_PERCENT", "20"),
            ("processor", "LATE_PERCENT", "10"),
            ("processor", "LATE_BY", "1500ms"),
            ("processor", "DECLINE_PERCENT", "30"),
            ("payment", "SETTLE_LEASE", "1s"),
        ],
    )
    .await;
    let answers = futures::future::join_all((0..12).map(|_| shop.place("ps5", 2))).await;
    for answer in &answers {
        assert!(matches!(answer.status, 201 | 202), "{answer:?}");
        assert!(answer.took < LONGEST_ANSWER, "{answer:?}");
    }
    shop.adds_up(100).await;
}
