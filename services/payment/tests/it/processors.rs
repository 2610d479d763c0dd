//! Another processor than the shop's own: payment knows of it what the trait says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use valerix_kit::events::redis_streams::RedisStreams;
use valerix_kit::events::relay::Relay;
use valerix_kit::money::Money;
use valerix_kit::testing::{TestDatabase, bus_args};
use valerix_payment::books::Charge;
use valerix_payment::metrics::Metrics;
use valerix_payment::payment::Payment;
use valerix_payment::processor::{Decision, LedgerError, Page, Processor, Repetition};
use valerix_payment::saga::state::{Input, Request, State};
use valerix_payment::settle::Settlement;
use valerix_payment::store::Store;
use valerix_resilience::Deadline;

/// Does what it is asked, and writes it down.
#[derive(Default)]
struct Obedient(Mutex<Vec<(Uuid, Request)>>);

#[async_trait]
impl Processor for Obedient {
    async fn ask(&self, payment: &Payment, request: Request, _: Repetition, _: Deadline) -> Option<Decision> {
        self.0.lock().unwrap().push((payment.id, request));
        let input = match request {
            Request::Charge => Input::Approved,
            Request::Cancel => Input::Refused,
            Request::Refund => Input::GivenBack,
        };
        Some(Decision { input, reason: None })
    }

    async fn charges(&self, _: Option<&str>) -> Result<Page, LedgerError> {
        let (charges, next_cursor) = (vec![], None);
        Ok(Page { charges, next_cursor })
    }

    async fn charge(&self, _: Uuid) -> Result<Option<Charge>, LedgerError> {
        Ok(None)
    }
}

#[tokio::test]
async fn any_processor_that_keeps_to_the_trait_takes_the_money_and_gives_it_back() {
    let database = TestDatabase::create().await;
    let pool = database.pool().await;
    valerix_payment::startup::migrations().run(&pool).await.unwrap();
    let registry = valerix_kit::metrics::Metrics::new().unwrap();
    let (processor, bus) = (Arc::new(Obedient::default()), Arc::new(RedisStreams::open(&bus_args())));
    let settlement = Settlement {
        store: Store::new(pool.clone(), Duration::from_secs(5)),
        processor: processor.clone(),
        relay: Relay::new(pool.clone(), bus, registry.clone()),
        metrics: Metrics::register(&registry).unwrap(),
    };
    let mut connection = pool.acquire().await.unwrap();
    let (order, money) = (Uuid::now_v7(), Money::new(500, "EUR").unwrap());
    for (input, wanted, end) in [
        (Input::Charge, Some(&money), State::Charged),
        (Input::Refund, None, State::Refunded),
    ] {
        let commanded = settlement
            .store
            .apply_in(&mut connection, order, input, wanted, None)
            .await;
        let payment = commanded.unwrap().payment;
        let deadline = Deadline::after(Duration::from_secs(60));
        let settled = settlement.settle(payment, Repetition::First, deadline).await.unwrap();
        assert_eq!(settled.state, end);
    }
    let id = Payment::new(order, None, State::Charged).id;
    let asked = processor.0.lock().unwrap().clone();
    assert_eq!(asked, [(id, Request::Charge), (id, Request::Refund)]);
}
