//! Autovacuum works in what was just restored: it is nobody's session, and only a superuser may end it.

use super::{harness::Restoring, server::Server};
use crate::{
    api::{Moment, Trap},
    harness::Harness,
};
use std::time::Duration;

/// Autovacuum is there at once, and for longer than a test takes; and in every database, however long the others keep it.
const EAGER_AND_SLOW: [&str; 6] = [
    "autovacuum_naptime=1s",
    "autovacuum_max_workers=8",
    "autovacuum_vacuum_insert_threshold=1",
    "autovacuum_vacuum_insert_scale_factor=0",
    "autovacuum_vacuum_cost_delay=100ms",
    "autovacuum_vacuum_cost_limit=1",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_no_superuser_restores_where_autovacuum_is_at_work() {
    let server = Server::start(&EAGER_AND_SLOW).await;
    server.execute("postgres", "CREATE ROLE weak LOGIN CREATEDB").await;
    server.execute("postgres", "CREATE DATABASE orders").await;
    server
        .execute(
            "orders",
            "CREATE TABLE t (id int, note text); INSERT INTO t SELECT i, repeat(md5(i::text), 8) FROM generate_series(1, 20000) i",
        )
        .await;
    let mut harness = Harness::new(&[("orders", "orders")]).await;
    harness.server = server.options.clone();
    harness.secret(0, "host", "127.0.0.1");
    harness.secret(0, "port", &server.port.to_string());
    harness.secret(0, "username", "postgres");
    let mut restoring = Restoring::from(harness).await;
    restoring.secret(0, "username", "weak");
    restoring.make_new(&[("orders", "new")]);
    let trap = Trap::new("Swapping", Moment::After);
    restoring.harness.api.set_trap(Some(trap.clone()));
    let pod = restoring.pod("pod", &[]);
    trap.bitten.notified().await;
    let staged = restoring.staged();
    let at_work = format!(
        "SELECT count(*)::text FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND datname = '{staged}'"
    );
    let comes = async {
        while server.text("postgres", &at_work).await == "0" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(100), comes)
        .await
        .expect("autovacuum is at work");
    trap.release.notify_one();
    let ended = restoring.harness.ended(pod, "pod").await;
    restoring.assert_completed(&ended);
    assert_eq!(server.text("new", "SELECT count(*)::text FROM t").await, "20000");
}
