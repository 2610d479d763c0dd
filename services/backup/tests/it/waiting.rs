//! What stands in the way and passes by itself does not cost the day.

use crate::{
    api::{Moment, Trap},
    harness::{Database, Harness, SMALL},
};
use sqlx::Executor;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_comes_back_within_the_deadline_is_dumped() {
    let database = Database::new("orders", SMALL).await;
    let harness = Harness::new(&[("orders", &database.name)]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    harness.secret(0, "host", "127.0.0.1");
    harness.secret(0, "port", &address.port().to_string());
    let pod = harness.pod("pod");
    // It is told while it is waited for.
    let told = async {
        while !harness
            .message()
            .contains("trying again until job.deadline: databases[0] orders: not reachable")
        {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), told)
        .await
        .unwrap();
    assert_eq!(harness.record()["status"]["reason"], "DatabaseUnreachable");
    assert_eq!(harness.record()["status"]["phase"], "Dumping");
    let server = format!("{}:{}", harness.server.get_host(), harness.server.get_port());
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let server = server.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    let ended = harness.ended(pod, "pod").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    harness.assert_agreement();
    assert_eq!(harness.record()["status"]["reason"], "Stored");
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_killed_once_costs_one_more_dump() {
    let database = Database::new("orders", SMALL).await;
    let harness = Harness::new(&[("orders", &database.name)]).await;
    let mut lock = harness.connect(&database.name).await;
    lock.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let pod = harness.pod("pod");
    let mut control = harness.connect("postgres").await;
    loop {
        let killed = sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'",
        )
        .bind(&database.name)
        .fetch_all(&mut control)
        .await
        .unwrap();
        if !killed.is_empty() {
            break;
        }
    }
    drop(lock);
    let ended = harness.ended(pod, "pod").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.log.contains("pg_dump lost the connection"), "{}", ended.log);
    harness.assert_agreement();
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_never_written_over_a_slot_that_another_pod_is_storing() {
    let database = Database::new("orders", SMALL).await;
    let harness = Harness::new(&[("orders", &database.name)]).await;
    let trap = Trap::new("Dumping", Moment::Before);
    harness.api.set_trap(Some(trap.clone()));
    let late = harness.pod("late");
    trap.bitten.notified().await;
    // Another pod has passed the fence meanwhile; the late one goes on preparing and says nothing of it.
    let mut record = harness.record();
    record["status"] = serde_json::json!({"phase": "Uploading", "upload": {"state": "Started", "podUID": "other", "sha256": "abc",
        "startedAt": "2026-08-21T00:00:01Z"}});
    harness.api.put(record);
    trap.release.notify_one();
    let ended = harness.ended(late, "late").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(harness.api.phases(), ["Uploading", "Completed"], "no step back");
    harness.assert_agreement();
    database.drop().await;
}
