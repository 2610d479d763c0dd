//! Orders whose database came back from an archive: it does not know them, or not how far they had come, and others do.

use uuid::Uuid;
use valerix_kit::money::Money;
use valerix_kit::testing::eventually;
use valerix_order::events::Pieces;
use valerix_order::saga::reply::Reply;
use valerix_order::saga::state::{Input, Reason, State};

use super::Orders;

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

/// It was cancelled before its database came back, after its charge had come through: inventory has released what the archive
/// says is reserved, and payment is heard first.
#[tokio::test]
async fn a_sale_that_inventory_has_released_is_not_asked_for_for_ever() {
    let orders = Orders::new().await;
    for payment_is_heard_out in [false, true] {
        let order = orders.place().await;
        orders
            .store
            .apply(order, Input::Reserved, Some(&price()))
            .await
            .unwrap();
        let (released, refunded) = (Input::Released, Input::PaymentRefunded);
        let told = if payment_is_heard_out {
            [refunded, released]
        } else {
            [released, refunded]
        };
        for input in [Input::Charged].into_iter().chain(told) {
            orders.store.apply(order, input, None).await.unwrap();
        }
        let over = orders.store.apply(order, Input::Returned, None).await.unwrap().order;
        assert_eq!(over.state, State::Refunded, "after {told:?}");
        let open: Vec<String> = sqlx::query_scalar("SELECT action FROM commands WHERE order_id = $1")
            .bind(order)
            .fetch_all(&orders.pool)
            .await
            .unwrap();
        assert!(open.is_empty(), "after {told:?} it asks for {open:?}");
        // Everybody who has heard of the sale hears that the money went back.
        let told: Vec<String> = sqlx::query_scalar("SELECT type FROM outbox WHERE aggregate = $1 ORDER BY version")
            .bind(format!("order:{order}"))
            .fetch_all(&orders.pool)
            .await
            .unwrap();
        assert_eq!(told, ["OrderCreated", "OrderConfirmed", "OrderRefunded"]);
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
