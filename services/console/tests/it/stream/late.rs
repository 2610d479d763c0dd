//! In time, and honestly late: the operator, the API server or the reader is away.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[tokio::test]
async fn whether_the_operator_leads_is_told_within_five_seconds() {
    let cluster = Cluster::new();
    let lease = |holder: &str, second: u32| {
        let at = format!("2020-01-01T00:00:{second:02}.000000Z");
        json!({"kind": "Lease", "metadata": {}, "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": at}})
    };
    let put = |holder: &str, second: u32| cluster.put("leases", "system", "operator", lease(holder, second));
    put("one", 0);
    cluster.put("resilientservices", "shop", "order", service("well"));
    let console = Console::with(cluster.clone(), |config| {
        config.anonymous_read = true;
        config.operator_lease = Some("system/operator".parse().unwrap());
    })
    .await;
    followed(&cluster).await;
    let mut stream = console.follow(None).await;
    let silent = |reason: &'static str| {
        move |message: &Value| {
            let told = message["operatorSilence"]["reason"].as_str();
            told.is_some_and(|told| told.contains(reason))
        }
    };
    let leads = |message: &Value| message["type"] == "heartbeat" && message["operatorSilence"].is_null();
    stream
        .until("it leads, for all that its clock is years behind", leads)
        .await;
    for (what, reason) in [("given back", "given its Lease back"), ("deleted", "has no Lease")] {
        let begun = Instant::now();
        if what == "deleted" {
            cluster.remove("leases", "system", "operator");
        } else {
            put("", 1);
        }
        let told = stream.until(what, silent(reason)).await;
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{what}: {:?}",
            begun.elapsed()
        );
        assert!(told["operatorSilence"]["since"].is_string(), "{told}");
        let first = console.follow(None).await.next().await.unwrap();
        assert!(silent(reason)(&first), "who comes now is told at once: {first}");
        put("two", 2);
        stream.until("it leads again", leads).await;
    }
    // It dies: its next renewal, five seconds after this one, does not come.
    let renewed = Instant::now();
    put("two", 10);
    stream.until("it is dead", silent("does not renew")).await;
    assert!(renewed.elapsed() < Duration::from_secs(10), "{:?}", renewed.elapsed());
    put("three", 20);
    stream.until("another leads", leads).await;
}

#[tokio::test]
async fn while_the_api_server_is_away_the_page_is_late_and_afterwards_it_is_true_again() {
    let cluster = Cluster::new();
    cluster.put("resilientservices", "shop", "order", service("before"));
    let console = Console::with(cluster.clone(), |config| config.anonymous_read = true).await;
    followed(&cluster).await;
    let mut stream = console.follow(None).await;
    let late = |late: bool| {
        move |message: &Value| {
            let streams = message["streams"].as_array();
            message["type"] == "heartbeat" && streams.is_some_and(|all| all.iter().all(|one| one["late"] == late))
        }
    };
    stream.until("all is current", late(false)).await;
    cluster.go_down();
    let beat = stream.until("all is late", late(true)).await;
    assert_eq!(beat["streams"][0]["error"], "the API server does not answer");
    assert!(
        beat["streams"][0]["asOf"].is_string(),
        "it says until when it knew: {beat}"
    );
    cluster.put("resilientservices", "shop", "order", service("after"));
    cluster.come_back();
    stream
        .until("what happened meanwhile", |message| {
            message.to_string().contains("\"message\":\"after\"")
        })
        .await;
    stream.until("all is current again", late(false)).await;
}

#[tokio::test]
async fn whoever_does_not_read_is_let_go_and_costs_nobody_else_anything() {
    let cluster = Cluster::new();
    let console = Console::with(cluster.clone(), |config| config.anonymous_read = true).await;
    followed(&cluster).await;
    let address = console.server.base.strip_prefix("http://").unwrap();
    let mut deaf = tokio::net::TcpStream::connect(address).await.unwrap();
    deaf.write_all(b"GET /api/events HTTP/1.1\r\nHost: console\r\n\r\n")
        .await
        .unwrap();
    let mut head = [0; 12];
    deaf.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let mut stream = console.follow(None).await;
    stream.until("the snapshot", is("snapshot")).await;
    // More than the buffers of two sockets hold, each a message of a quarter of a megabyte.
    let large = "x".repeat(256 * 1024);
    for round in 0..100 {
        cluster.put(
            "resilientservices",
            "shop",
            "order",
            service(&format!("{round} {large}")),
        );
        stream
            .until("the change", |message| {
                message["object"]["message"]
                    .as_str()
                    .is_some_and(|text| text.starts_with(&format!("{round} ")))
            })
            .await;
    }
    // The place of the deaf one is free again: nothing is kept for it.
    eventually("it is let go", || async {
        let metrics = reqwest::get(format!("{}/metrics", console.server.report))
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        metrics.lines().any(|line| line == "console_streams 1").then_some(())
    })
    .await;
}
