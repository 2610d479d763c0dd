//! What stands in the way and passes by itself does not cost the day.

use crate::{
    api::{Moment, Trap},
    bucket::{Bucket, KEY},
    harness::{Database, Harness, SMALL},
    store::Habit,
};
use axum::http::Method;
use serde_json::json;
use sqlx::Executor;
use std::time::Duration;
use tokio::{
    io::copy_bidirectional,
    net::{TcpSocket, TcpStream},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_comes_back_within_the_deadline_is_dumped() {
    let database = Database::new("orders", SMALL).await;
    let harness = Harness::new(&[("orders", &database.name)]).await;
    // Nobody listens here, and nobody else takes the port meanwhile.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
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
    let listener = socket.listen(16).unwrap();
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

/// Waits until a pod has waited so often.
async fn waited(harness: &Harness, uid: &str, times: usize) {
    let log = harness.log(uid);
    let waited = async {
        while std::fs::read_to_string(&log).unwrap().matches("; trying again").count() < times {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_comes_back_within_the_deadline_gets_the_archive() {
    let database = Database::new("orders", SMALL).await;
    let mut bucket = Bucket::new(&database).await;
    bucket.harness.spec["retention"] = json!({"daily": 1, "weekly": 0, "monthly": 0, "minVerified": 1});
    let stranger = [("valerix-policy-uid", "stranger"), ("valerix-slot", "2026-08-20")];
    bucket.store.put("pg/shop/nightly/20260820.tar.zst", b"x", &stranger);
    bucket.store.be_away(true);
    let pod = bucket.harness.pod("pod");
    waited(&bucket.harness, "pod", 3).await;
    // It is told while it is waited for, a moment after the log has it.
    let told = async {
        while !bucket.harness.message().starts_with("tried 3 times") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.unwrap();
    let status = bucket.status();
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Scheduled"), &json!("DestinationUnreadable")),
        "{status}"
    );
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("tried 3 times, trying again until job.deadline: failed to read pg/shop/nightly/20260821"),
        "{message}"
    );
    bucket.store.be_away(false);
    let ended = bucket.harness.ended(pod, "pod").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let status = bucket.status();
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Completed"), &json!("Stored"))
    );
    assert_eq!(bucket.store.puts(KEY), 1);
    // What it could not tell at first is asked before anything is removed.
    let told = status["retention"]["message"].as_str().unwrap();
    assert!(told.contains("1 of other policies are theirs and stay"), "{told}");
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_goes_away_during_the_dump_is_waited_for_before_the_fence() {
    let database = Database::new("orders", SMALL).await;
    let bucket = Bucket::new(&database).await;
    let trap = Trap::new("Verifying", Moment::After);
    bucket.harness.api.set_trap(Some(trap.clone()));
    let pod = bucket.harness.pod("pod");
    trap.bitten.notified().await;
    bucket.store.be_away(true);
    trap.release.notify_one();
    waited(&bucket.harness, "pod", 1).await;
    assert_eq!(bucket.status()["upload"]["state"], "None");
    bucket.store.be_away(false);
    let ended = bucket.harness.ended(pod, "pod").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(bucket.harness.api.phases().last().unwrap(), "Completed");
    bucket.assert_agreement();
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_goes_away_with_the_archive_is_asked_until_it_tells() {
    let database = Database::new("orders", SMALL).await;
    let bucket = Bucket::new(&database).await;
    bucket.store.take_habit(Habit::Cut { stores: true });
    bucket.store.go_away_with_an_archive();
    let pod = bucket.harness.pod("pod");
    waited(&bucket.harness, "pod", 3).await;
    assert_eq!(bucket.status()["upload"]["state"], "Started");
    bucket.store.be_away(false);
    let ended = bucket.harness.ended(pod, "pod").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(bucket.store.count(&Method::PUT), 1);
    bucket.assert_agreement();
    assert_eq!(bucket.status()["phase"], "Completed");
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stays_away_costs_the_day_at_the_deadline() {
    let database = Database::new("orders", SMALL).await;
    let mut bucket = Bucket::new(&database).await;
    bucket.harness.spec["destination"]["s3"]["endpoint"] = "http://127.0.0.1:1".into();
    // Room for the pauses of 2, 4 and 8 s, and not for that of 16 s.
    bucket.harness.spec["job"] = json!({"deadline": "32s"});
    let ended = bucket.harness.run("pod").await;
    bucket
        .harness
        .assert_failed(&ended, 25, "DestinationUnreadable", &["20260821"]);
    assert_eq!(ended.log.matches("; trying again").count(), 3, "{}", ended.log);
    assert_eq!(bucket.store.count(&Method::PUT), 0);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_stopped_while_it_waits_says_what_for() {
    let harness = Harness::new(&[("orders", "orders")]).await;
    harness.secret(0, "host", "127.0.0.1");
    harness.secret(0, "port", "1");
    let pod = harness.pod("pod");
    waited(&harness, "pod", 1).await;
    let told = async {
        while harness.record()["status"]["reason"] != "DatabaseUnreachable" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.unwrap();
    let status = std::process::Command::new("kill")
        .args(["-TERM", &pod.id().unwrap().to_string()])
        .status();
    assert!(status.unwrap().success());
    let ended = harness.ended(pod, "pod").await;
    assert_eq!(ended.code, Some(10), "{}", ended.log);
    assert_eq!(harness.record()["status"]["reason"], "Interrupted");
    let message = harness.message();
    for text in ["stopped by SIGTERM", "before that: tried 1 times", "not reachable"] {
        assert!(message.contains(text), "`{text}` in `{message}`");
    }
}
