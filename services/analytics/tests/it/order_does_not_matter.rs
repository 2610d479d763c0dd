//! Events come twice and in any order; the figures are the same.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use uuid::Uuid;
use valerix_analytics::facts::{Fact, Step};
use valerix_analytics::startup::migrations;
use valerix_analytics::store;
use valerix_analytics::summary::Summary;
use valerix_kit::money::Money;
use valerix_kit::postgres::begin;
use valerix_kit::testing::TestDatabase;

/// Every order of `0..count`.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![vec![]];
    }
    let shorter = permutations(count - 1);
    let insert = |permutation: &Vec<usize>, place: usize| {
        let mut longer = permutation.clone();
        longer.insert(place, count - 1);
        longer
    };
    let longer = |permutation| (0..count).map(move |place| insert(permutation, place));
    shorter.iter().flat_map(longer).collect()
}

/// The summary after `facts` in this order; each transaction is undone.
async fn summary(pool: &PgPool, facts: impl Iterator<Item = &Fact>) -> Summary {
    let mut transaction = begin(pool).await.unwrap();
    for fact in facts {
        store::count(&mut transaction, fact).await.unwrap();
    }
    transaction.commit().await.unwrap();
    let (from, to) = (start(), start() + TimeDelta::hours(1));
    let summary = Summary::of(from, to, &store::figures(pool, from, to).await.unwrap());
    sqlx::raw_sql("TRUNCATE orders, figures").execute(pool).await.unwrap();
    summary
}

fn start() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-05-04T12:00:00Z").unwrap().to_utc()
}

#[tokio::test]
async fn in_every_order_and_with_every_event_twice_the_figures_are_the_same() {
    let database = TestDatabase::create().await;
    let pool = database.pool().await;
    migrations().run(&pool).await.unwrap();
    let (sold, lost) = (Uuid::now_v7(), Uuid::now_v7());
    let fact = |order_id, seconds, step| Fact {
        order_id,
        at: start() + TimeDelta::seconds(seconds),
        step,
    };
    let price = Money::new(49_900, "EUR").unwrap();
    let facts = [
        fact(sold, 1, Step::Created),
        fact(sold, 61, Step::Confirmed(price.clone())),
        fact(sold, 200, Step::Refunded(price)),
        fact(lost, 59, Step::Created),
        fact(lost, 60, Step::Cancelled("OUT_OF_STOCK".into())),
    ];
    let expected = summary(&pool, facts.iter()).await;
    let total = &expected.total;
    assert_eq!(
        [total.created, total.confirmed, total.cancelled, total.refunded],
        [2, 1, 1, 1]
    );
    assert_eq!(total.cancelled_by_reason["OUT_OF_STOCK"], 1);
    assert_eq!(
        (total.revenue["EUR"].taken_minor, total.revenue["EUR"].refunded_minor),
        (49_900, 49_900)
    );
    assert_eq!(expected.conversion, Some(0.5));
    let latency = total.latency.unwrap();
    assert_eq!((latency.count, latency.sum_ms), (2, 61_000));
    assert!((1_000..=1_125).contains(&latency.p50_ms) && (60_000..=67_500).contains(&latency.p99_ms));
    let created: Vec<u64> = expected.minutes.iter().map(|minute| minute.period.created).collect();
    assert_eq!(created, [2, 0, 0], "12:00, 12:01 and 12:03");
    for permutation in permutations(facts.len()) {
        let twice = permutation.iter().chain(permutation.iter().rev());
        let found = summary(&pool, twice.map(|place| &facts[*place])).await;
        assert_eq!(found, expected, "{permutation:?}");
    }
}
