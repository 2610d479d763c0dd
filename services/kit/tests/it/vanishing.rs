//! A Postgres that is gone without a word: nothing is refused, nothing is closed, nobody answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use valerix_kit::postgres::Database;
use valerix_kit::service::Service;
use valerix_kit::testing::{TestDatabase, eventually, service_args};

/// A way to a database. Taken away, what goes over it waits for ever; who comes afterwards finds another.
struct Way {
    url: String,
    gone: CancellationToken,
}

impl Way {
    async fn to(database: &TestDatabase) -> Self {
        let url = database.args().database_url.expose().to_owned();
        let (_, rest) = url.split_once('@').unwrap();
        let (server, name) = rest.split_once('/').unwrap();
        let server = server.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = url.replace(rest, &format!("{}/{name}", listener.local_addr().unwrap()));
        let gone = CancellationToken::new();
        let old = gone.clone();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut server = TcpStream::connect(&server).await.unwrap();
                let new = old.is_cancelled();
                let old = old.clone();
                tokio::spawn(async move {
                    let passed = async { drop(copy_bidirectional(&mut client, &mut server).await) };
                    if new {
                        return passed.await;
                    }
                    tokio::select! {
                        () = passed => return,
                        () = old.cancelled() => {}
                    }
                    // Both ends are held, not closed.
                    std::future::pending::<()>().await;
                });
            }
        });
        Self { url: own, gone }
    }
}

async fn sleeps(pool: &PgPool, seconds: f64) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_sleep($1)")
        .bind(seconds)
        .execute(pool)
        .await
        .map(drop)
}

async fn opened(database: &TestDatabase, way: &Way, connections: u32) -> (Service, Database) {
    let service = Service::new(&service_args("test")).await.unwrap();
    let mut args = database.args();
    args.database_url = way.url.clone().into();
    args.database_max_connections = connections;
    let opened = Database::open(&args, "test", &service.health).unwrap();
    opened.migrate(sqlx::migrate::Migrator::DEFAULT).await;
    (service, opened)
}

#[tokio::test]
async fn a_pool_whose_server_is_gone_without_a_word_is_of_use_again_within_seconds() {
    let database = TestDatabase::create().await;
    let way = Way::to(&database).await;
    let (_service, opened) = opened(&database, &way, 4).await;
    let pool = opened.pool();
    // All four are there: two at work with somebody who leaves, two idle.
    futures::future::join_all((0..4).map(|_| sleeps(pool, 0.05))).await;
    let left: Vec<_> = (0..2)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { tokio::time::timeout(Duration::from_secs(1), sleeps(&pool, 4.0)).await })
        })
        .collect();
    eventually("two are at work", || async { (pool.num_idle() == 2).then_some(()) }).await;
    way.gone.cancel();
    for left in left {
        assert!(left.await.unwrap().is_err(), "nobody answers");
    }
    let begun = Instant::now();
    sqlx::query("SELECT 1").execute(pool).await.unwrap();
    // And there is a place for four again.
    for answered in futures::future::join_all((0..4).map(|_| sleeps(pool, 0.05))).await {
        answered.unwrap();
    }
    // The kernel alone would wait for a quarter of an hour.
    assert!(begun.elapsed() < Duration::from_secs(15), "took {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_task_that_waits_for_a_server_that_is_gone_starts_again() {
    let database = TestDatabase::create().await;
    let way = Way::to(&database).await;
    let (service, opened) = opened(&database, &way, 2).await;
    sleeps(opened.pool(), 0.0).await.unwrap();
    let (begun, done) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (pool, counted, finished) = (opened.pool().clone(), begun.clone(), done.clone());
    service.tasks.spawn_when_ready("waiting", &opened, move |_| {
        let (pool, counted, finished) = (pool.clone(), counted.clone(), finished.clone());
        async move {
            let mut connection = pool.acquire().await.unwrap();
            // The first one is at work when the server goes.
            let seconds = if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                4.0
            } else {
                0.0
            };
            let statement = sqlx::query("SELECT pg_sleep($1)").bind(seconds);
            statement.execute(&mut *connection).await.unwrap();
            finished.fetch_add(1, Ordering::SeqCst);
        }
    });
    eventually("it has begun", || async {
        (begun.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    way.gone.cancel();
    eventually("it is done, by its second try", || async {
        // Whoever comes finds out; here that is the check of the service's health.
        let _ = service.health.deep().await;
        (done.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    assert_eq!(begun.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_statement_that_takes_long_says_nothing_about_the_server() {
    let database = TestDatabase::create().await;
    let way = Way::to(&database).await;
    let (_service, opened) = opened(&database, &way, 2).await;
    let vanished = opened.vanished();
    tokio::pin!(vanished);
    let pool = opened.pool();
    let worked = async {
        tokio::time::timeout(Duration::from_millis(100), sleeps(pool, 2.0))
            .await
            .unwrap_err();
        // The other one serves meanwhile, and the one that was left comes back when it is done.
        sleeps(pool, 0.0).await.unwrap();
        eventually("both are idle", || async { (pool.num_idle() == 2).then_some(()) }).await;
    };
    tokio::select! {
        () = worked => {}
        () = &mut vanished => panic!("the server was taken for gone"),
    }
}
