//! What a database is bound to beside its contents, and which server is meant: on a server of this test's own, since such
//! things are settings of a whole server.

use super::{harness::Restoring, server::Server};
use crate::harness::{Database, SMALL};

/// Names of the server's databases, with how many rows the living one has.
async fn state(server: &Server) -> (String, String) {
    let names = "SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database";
    let rows = "SELECT count(*)::text FROM t";
    (server.text("postgres", names).await, server.text("living", rows).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bound_to_more_than_its_contents_or_to_another_server_is_not_replaced() {
    let database = Database::new("orders", SMALL).await;
    let mut restoring = Restoring::of(&[("orders", &database)]).await;
    restoring.replacing("orders", "living");
    let server = Server::start(&["max_prepared_transactions=5", "wal_level=logical"]).await;
    server.execute("postgres", "CREATE DATABASE living").await;
    server
        .execute("living", "CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
        .await;
    let before = state(&server).await;

    restoring.secret(1, "host", "127.0.0.1");
    restoring.secret(1, "port", &server.port.to_string());
    let ended = restoring.run("two-servers").await;
    restoring.assert_failed(
        &ended,
        "TargetRefused",
        &["secrets target and admin speak of two servers"],
    );

    restoring.secret(0, "host", "127.0.0.1");
    restoring.secret(0, "port", &server.port.to_string());
    let slot = "SELECT pg_create_logical_replication_slot('reader', 'pgoutput')";
    for (pod, bound, freed, told) in [
        (
            "prepared",
            "BEGIN; DELETE FROM t; PREPARE TRANSACTION 'open'",
            "ROLLBACK PREPARED 'open'",
            ["prepared transactions", "ROLLBACK PREPARED"],
        ),
        (
            "slot",
            slot,
            "SELECT pg_drop_replication_slot('reader')",
            ["replication slots", "drop them first"],
        ),
    ] {
        server.execute("living", bound).await;
        restoring.put();
        let ended = restoring.run(pod).await;
        restoring.assert_failed(&ended, "TargetRefused", &told);
        assert_eq!(state(&server).await, before, "{pod}");
        server.execute("living", freed).await;
    }
    database.drop().await;
}
