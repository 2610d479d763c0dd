//! Commands that arrive by event: duplicated, reordered, poisonous.

use serde_json::json;
use uuid::Uuid;
use valerix_kit::events::EventBus;
use valerix_kit::testing::eventually;

use crate::app::{App, command, fresh_event};

#[tokio::test]
async fn reserve_then_commit_by_event_sells_the_stock() {
    let app = App::spawn(10).await;
    let order = Uuid::new_v4();
    app.command("ReserveStock", command(order, 4), fresh_event()).await;
    let answers = app.answers(order, 1).await;
    assert_eq!(
        answers[0],
        (
            "InventoryReserved".to_owned(),
            json!({"order_id": order, "item_id": "ps5", "quantity": 4, "unit_price_minor": 49900, "currency": "EUR"})
        )
    );
    app.command("CommitStock", command(order, 4), fresh_event()).await;
    assert_eq!(app.answers(order, 2).await[1].0, "StockCommitted");
    assert_eq!(
        (app.state(order).await.as_str(), app.available().await),
        ("COMMITTED", 6)
    );
    let (_, body) = app.deduct(order, 4).await;
    assert_eq!(
        body["outcome"], "RESERVED",
        "a late duplicate of the fast path hears what was decided"
    );
    app.assert_stock_adds_up().await;
}

#[tokio::test]
async fn a_duplicated_command_is_carried_out_once_and_a_repeated_one_is_answered_again() {
    let app = App::spawn(10).await;
    let order = Uuid::new_v4();
    let event = fresh_event();
    for _ in 0..5 {
        app.command("ReserveStock", command(order, 4), event).await;
    }
    let lag = || async {
        let subscription = valerix_kit::events::Subscription {
            topics: vec!["inventory.commands".into()],
            group: "inventory".into(),
            consumer: "none".into(),
        };
        let lag = app.bus.lag(&subscription).await.ok()?;
        (lag[0].1 == 0).then_some(())
    };
    eventually("all duplicates are consumed", lag).await;
    assert_eq!(app.answers(order, 1).await.len(), 1, "the same event is answered once");
    app.command("ReserveStock", command(order, 4), fresh_event()).await;
    assert_eq!(
        app.answers(order, 2).await[1].0,
        "InventoryReserved",
        "a new event is answered again"
    );
    assert_eq!(app.available().await, 6);
}

#[tokio::test]
async fn a_release_that_comes_before_its_reserve_leaves_nothing_held() {
    let app = App::spawn(10).await;
    let (by_http, by_event) = (Uuid::new_v4(), Uuid::new_v4());
    for order in [by_http, by_event] {
        app.command("ReleaseStock", command(order, 4), fresh_event()).await;
        assert_eq!(app.answers(order, 1).await[0].0, "StockReleased");
    }
    let (status, body) = app.deduct(by_http, 4).await;
    assert_eq!((status, &body["outcome"]), (200, &json!("RELEASED")));
    app.command("ReserveStock", command(by_event, 4), fresh_event()).await;
    let answers = app.answers(by_event, 2).await;
    assert_eq!(
        (answers[1].0.as_str(), &answers[1].1["reason"]),
        ("InventoryRejected", &json!("RELEASED"))
    );
    assert_eq!(app.available().await, 10);
    app.assert_stock_adds_up().await;
}

#[tokio::test]
async fn a_release_gives_back_once() {
    let app = App::spawn(10).await;
    let order = Uuid::new_v4();
    app.deduct(order, 4).await;
    for _ in 0..3 {
        app.command("ReleaseStock", command(order, 4), fresh_event()).await;
    }
    let answers = app.answers(order, 4).await;
    assert!(
        answers[1..].iter().all(|(name, _)| name == "StockReleased"),
        "{answers:?}"
    );
    assert_eq!(
        (app.state(order).await.as_str(), app.available().await),
        ("RELEASED", 10)
    );
    assert_eq!(app.deduct(order, 4).await.1["outcome"], "RELEASED");
    app.assert_stock_adds_up().await;
}

#[tokio::test]
async fn releasing_a_refused_order_keeps_the_refusal() {
    let app = App::spawn(1).await;
    let order = Uuid::new_v4();
    app.deduct(order, 4).await;
    app.command("ReleaseStock", command(order, 4), fresh_event()).await;
    assert_eq!(app.answers(order, 2).await[1].0, "StockReleased");
    assert_eq!(
        (app.state(order).await.as_str(), app.available().await),
        ("REJECTED", 1)
    );
}

#[tokio::test]
async fn commands_that_break_the_rules_end_as_dead_letters_and_hold_up_nobody() {
    let app = App::spawn(10).await;
    let (sold, released, unknown, other) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    app.deduct(sold, 1).await;
    app.command("CommitStock", command(sold, 1), fresh_event()).await;
    app.answers(sold, 2).await;
    app.command("ReleaseStock", command(released, 1), fresh_event()).await;
    app.answers(released, 1).await;

    app.command("CommitStock", command(released, 1), fresh_event()).await;
    app.command("CommitStock", command(unknown, 10), fresh_event()).await;
    app.command("ReserveStock", command(sold, 7), fresh_event()).await;
    app.command("ReserveStock", json!({"order_id": "x"}), fresh_event())
        .await;
    app.command("PaintStock", command(unknown, 1), fresh_event()).await;
    app.command("ReserveStock", command(other, 1), fresh_event()).await;
    assert_eq!(app.answers(other, 1).await[0].0, "InventoryReserved");
    eventually("there are five dead letters", || async {
        (app.dead().await.len() == 5).then_some(())
    })
    .await;
    assert_eq!(
        (app.state(sold).await.as_str(), app.available().await),
        ("COMMITTED", 8)
    );
    assert_eq!(
        app.said(sold).await.len(),
        2,
        "nothing was said about what was not done"
    );
    app.assert_stock_adds_up().await;
}

/// The database came back from an archive that does not know the order any more.
#[tokio::test]
async fn a_sale_whose_reservation_was_lost_takes_its_pieces_once_more() {
    let app = App::spawn(10).await;
    let (sold, returned) = (Uuid::new_v4(), Uuid::new_v4());
    for _ in 0..2 {
        app.command("CommitStock", command(sold, 4), fresh_event()).await;
    }
    let answers = app.answers(sold, 2).await;
    assert!(
        answers.iter().all(|(name, _)| name == "StockCommitted"),
        "it is answered as any sale: {answers:?}"
    );
    assert_eq!(
        (app.state(sold).await.as_str(), app.available().await),
        ("COMMITTED", 6)
    );
    // Its return is heard first: the sale is over with it.
    app.command("ReturnStock", command(returned, 4), fresh_event()).await;
    assert_eq!(app.answers(returned, 1).await[0].0, "StockReturned");
    app.command("CommitStock", command(returned, 4), fresh_event()).await;
    assert_eq!(app.answers(returned, 2).await[1].0, "StockCommitted");
    assert_eq!(app.state(returned).await, "RETURNED");
    app.assert_stock_adds_up().await;

    // Not more than there are: it waits as a dead letter, and for the next copy of the command.
    let late = Uuid::new_v4();
    app.command("CommitStock", command(late, 7), fresh_event()).await;
    eventually("it is a dead letter", || async {
        (app.dead().await.len() == 1).then_some(())
    })
    .await;
    assert_eq!(app.said(late).await, [], "nothing is said of it");
    app.command("ReturnStock", command(sold, 4), fresh_event()).await;
    app.answers(sold, 3).await;
    app.command("CommitStock", command(late, 7), fresh_event()).await;
    assert_eq!(app.answers(late, 1).await[0].0, "StockCommitted");
    assert_eq!(app.available().await, 3);
    app.assert_stock_adds_up().await;
}

/// The database came back from an archive in which there were fewer pieces, and the reservation was heard before the sale.
#[tokio::test]
async fn a_sale_whose_reservation_was_refused_since_takes_its_pieces_when_they_are_there() {
    let app = App::spawn(5).await;
    let (holds, sold, returned) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    app.deduct(holds, 4).await;
    for order in [sold, returned] {
        assert_eq!(app.deduct(order, 3).await.1["outcome"], "REJECTED");
    }
    app.command("CommitStock", command(sold, 3), fresh_event()).await;
    eventually("it is a dead letter as long as there are too few", || async {
        (app.dead().await.len() == 1).then_some(())
    })
    .await;
    app.command("ReturnStock", command(returned, 3), fresh_event()).await;
    assert_eq!(app.answers(returned, 2).await[1].0, "StockReturned");
    app.command("ReleaseStock", command(holds, 4), fresh_event()).await;
    app.answers(holds, 2).await;

    app.command("CommitStock", command(sold, 3), fresh_event()).await;
    assert_eq!(app.answers(sold, 2).await[1].0, "StockCommitted");
    assert_eq!(
        (app.state(sold).await.as_str(), app.available().await),
        ("COMMITTED", 2)
    );
    // A copy of the other one's sale is late: it is over with its return.
    app.command("CommitStock", command(returned, 3), fresh_event()).await;
    assert_eq!(app.answers(returned, 3).await[2].0, "StockCommitted");
    assert_eq!(
        (app.state(returned).await.as_str(), app.available().await),
        ("RETURNED", 2)
    );
    app.assert_stock_adds_up().await;
}

/// The database of order did: it has forgotten the sale, and gives the order up.
#[tokio::test]
async fn a_release_of_what_is_sold_puts_it_back_once() {
    let app = App::spawn(10).await;
    let order = Uuid::new_v4();
    app.deduct(order, 4).await;
    app.command("CommitStock", command(order, 4), fresh_event()).await;
    assert_eq!(app.answers(order, 2).await[1].0, "StockCommitted");
    for _ in 0..2 {
        app.command("ReleaseStock", command(order, 4), fresh_event()).await;
    }
    let answers = app.answers(order, 4).await;
    assert_eq!(
        (answers[2].0.as_str(), answers[3].0.as_str()),
        ("StockReleased", "StockReleased")
    );
    assert_eq!(
        (app.state(order).await.as_str(), app.available().await),
        ("RETURNED", 10)
    );
    app.assert_stock_adds_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn http_and_events_of_many_orders_in_any_order_on_two_replicas_add_up() {
    let app = App::spawn(30).await;
    let second = app.replica(30).await;
    let orders: Vec<Uuid> = (0..40).map(|_| Uuid::new_v4()).collect();
    let work = orders.iter().enumerate().map(|(number, order)| {
        let (app, second) = (&app, &second);
        async move {
            let body = command(*order, 1);
            // Every third order is released, before, while or after it is reserved on either path.
            if number % 3 == 0 {
                app.command("ReleaseStock", body.clone(), fresh_event()).await;
            }
            let base = if number % 2 == 0 { &app.base } else { second };
            futures::join!(
                app.deduct_at(base, &body),
                app.command("ReserveStock", body.clone(), fresh_event())
            );
            if number % 3 == 1 {
                app.command("ReleaseStock", body.clone(), fresh_event()).await;
            }
        }
    });
    futures::future::join_all(work).await;
    for (number, order) in orders.iter().enumerate() {
        if number % 3 < 2 {
            eventually("released or refused", || async {
                (["RELEASED", "REJECTED"].contains(&app.state(*order).await.as_str())).then_some(())
            })
            .await;
        }
    }
    for order in &orders {
        eventually("the event is answered", || async {
            let said = app.said(*order).await;
            said.iter().any(|(name, _)| name.starts_with("Inventory")).then_some(())
        })
        .await;
    }
    assert!(app.dead().await.is_empty());
    app.assert_stock_adds_up().await;
}

#[tokio::test]
async fn a_return_puts_sold_pieces_back_once_also_before_their_sale() {
    let app = App::spawn(10).await;
    let (sold, held) = (Uuid::new_v4(), Uuid::new_v4());
    for order in [sold, held] {
        assert_eq!(app.deduct(order, 4).await.1["outcome"], "RESERVED");
    }
    app.command("CommitStock", command(sold, 4), fresh_event()).await;
    assert_eq!(app.answers(sold, 2).await[1].0, "StockCommitted");
    for (order, before) in [(sold, 2), (held, 1)] {
        app.answers(order, before).await;
        app.command("ReturnStock", command(order, 4), fresh_event()).await;
        app.command("ReturnStock", command(order, 4), fresh_event()).await;
        let answers = app.answers(order, before + 2).await;
        assert_eq!(answers[before].0, "StockReturned");
        assert_eq!(app.state(order).await, "RETURNED");
    }
    // The sale that was overtaken is answered and sells nothing; neither does a late reservation.
    app.command("CommitStock", command(held, 4), fresh_event()).await;
    assert_eq!(app.answers(held, 4).await[3].0, "StockCommitted");
    assert_eq!(app.deduct(held, 4).await.1["outcome"], "RELEASED");
    assert_eq!(app.available().await, 10);
    app.assert_stock_adds_up().await;
}

#[tokio::test]
async fn a_return_of_what_was_never_sold_changes_nothing() {
    let app = App::spawn(1).await;
    let (refused, unknown) = (Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(app.deduct(refused, 2).await.1["outcome"], "REJECTED");
    app.command("ReturnStock", command(refused, 2), fresh_event()).await;
    assert_eq!(app.answers(refused, 2).await[1].0, "StockReturned");
    assert_eq!(app.state(refused).await, "RETURNED");
    app.command("ReturnStock", command(unknown, 1), fresh_event()).await;
    assert_eq!(app.answers(unknown, 1).await[0].0, "StockReturned");
    assert_eq!(app.deduct(unknown, 1).await.1["outcome"], "RELEASED");
    assert_eq!(app.available().await, 1);
}
