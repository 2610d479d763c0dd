//! Many objects, many changes, readers who come and go: whoever reads ends with what is true.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cluster::Cluster;
use super::support::{Console, Stream, followed, names, service};

/// What a page knows after the messages that it was told.
#[derive(Default)]
struct Page(BTreeMap<String, String>);

impl Page {
    fn learn(&mut self, message: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = |object: &Value| format!("{}/{}", text(&object["namespace"]), text(&object["name"]));
        match message["type"].as_str() {
            Some("snapshot") => {
                let objects = message["objects"].as_array().unwrap().iter();
                self.0 = objects.map(|object| (key(object), text(&object["message"]))).collect();
            }
            Some("upserted") => {
                self.0
                    .insert(key(&message["object"]), text(&message["object"]["message"]));
            }
            Some("deleted") => {
                self.0.remove(&key(message));
            }
            _ => {}
        }
    }

    /// Reads until `wanted` holds, and says how many messages that took. One that is let go comes back, as a page does.
    async fn until(
        &mut self,
        what: &str,
        console: &Console,
        stream: &mut Stream,
        wanted: impl Fn(&Self) -> bool,
    ) -> usize {
        let begun = Instant::now();
        let mut messages = 0;
        while !wanted(self) {
            assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
            match stream.next().await {
                Some(message) => self.learn(&message),
                None => *stream = console.follow(None).await,
            }
            messages += 1;
        }
        messages
    }
}

fn put(cluster: &Cluster, number: usize, message: &str) {
    cluster.put(
        "resilientservices",
        "shop",
        &format!("service-{number}"),
        service(message),
    );
}

#[tokio::test]
async fn a_thousand_services_are_listed_and_every_change_of_them_arrives() {
    let cluster = Cluster::new();
    for number in 0..1_000 {
        put(&cluster, number, "first");
    }
    let console = Console::with(cluster.clone(), |config| config.anonymous_read = true).await;
    followed(&cluster).await;
    let (mut page, mut stream) = (Page::default(), console.follow(None).await);
    page.until("all of them", &console, &mut stream, |page| page.0.len() == 1_000)
        .await;
    for number in 0..1_000 {
        put(&cluster, number, "second");
    }
    cluster.remove("resilientservices", "shop", "service-7");
    let is_new = |page: &Page| page.0.len() == 999 && page.0.values().all(|message| message == "second");
    page.until("every change", &console, &mut stream, is_new).await;
}

/// More changes than are kept for anyone: what was missed is told as a whole, and nothing waits meanwhile.
#[tokio::test]
async fn a_reader_who_is_behind_begins_anew_and_ends_with_what_is_true() {
    let cluster = Cluster::new();
    for number in 0..50 {
        put(&cluster, number, "first");
    }
    let console = Console::with(cluster.clone(), |config| config.anonymous_read = true).await;
    followed(&cluster).await;
    let (mut slow, mut stream) = (Page::default(), console.follow(None).await);
    slow.until("all of them", &console, &mut stream, |page| page.0.len() == 50)
        .await;
    let (mut quick, mut other) = (Page::default(), console.follow(None).await);
    // The slow one reads nothing until the quick one has seen the end of it all.
    let rounds = 2_000;
    let padding = "x".repeat(4_000);
    for round in 0..rounds {
        put(&cluster, round % 50, &format!("{round} {padding}"));
        if round % 200 == 0 {
            let seen = format!("{round} {padding}");
            quick
                .until("the change", &console, &mut other, |page| {
                    page.0.values().any(|message| *message == seen)
                })
                .await;
        }
    }
    let newest = |page: &Page| {
        let number = |message: &String| message.split(' ').next().and_then(|round| round.parse::<usize>().ok());
        page.0.len() == 50
            && page
                .0
                .values()
                .all(|message| number(message).is_some_and(|round| round >= rounds - 50))
    };
    quick.until("the end", &console, &mut other, newest).await;
    let messages = slow.until("the end", &console, &mut stream, newest).await;
    assert!(
        messages < rounds,
        "{messages} messages: each change was kept for a reader who did not read"
    );
}

#[tokio::test]
async fn a_page_that_was_cut_off_knows_after_its_return_what_is_there_and_what_is_not() {
    let cluster = Cluster::new();
    for number in 0..3 {
        put(&cluster, number, "first");
    }
    let console = Console::with(cluster.clone(), |config| config.anonymous_read = true).await;
    followed(&cluster).await;
    let (mut page, mut stream) = (Page::default(), console.follow(None).await);
    page.until("all of them", &console, &mut stream, |page| page.0.len() == 3)
        .await;
    drop(stream);
    cluster.remove("resilientservices", "shop", "service-0");
    put(&cluster, 1, "second");
    put(&cluster, 9, "new");
    let mut stream = console.follow(None).await;
    let first = stream.next().await.expect("a message");
    assert_eq!(first["type"], "snapshot", "everything comes first");
    page.learn(&first);
    let is_true = |page: &Page| {
        let is = |name: &str, message: &str| page.0.get(name).is_some_and(|known| known == message);
        page.0.len() == 3
            && is("shop/service-1", "second")
            && is("shop/service-2", "first")
            && is("shop/service-9", "new")
    };
    page.until("what is true", &console, &mut stream, is_true).await;
}

#[tokio::test]
async fn an_api_server_that_hangs_is_told_within_five_seconds_and_so_is_its_return() {
    let cluster = Cluster::new();
    put(&cluster, 1, "well");
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
    let begun = Instant::now();
    cluster.hang();
    let told = stream.until("all is late", late(true)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(told["streams"][0]["error"], "the API server does not answer");
    assert_eq!(
        names(&console.follow(None).await.next().await.unwrap()),
        ["ResilientService/shop/service-1"]
    );
    let begun = Instant::now();
    cluster.come_back();
    stream.until("all is current again", late(false)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// What a person may see is asked of the API server too: while it hangs, nobody is told that the console is gone or that
/// one may not look.
#[tokio::test]
async fn an_api_server_that_hangs_is_not_taken_for_a_refusal_by_those_who_signed_in() {
    let cluster = Cluster::new();
    cluster.allow("bob", &["shop"]);
    cluster.allow("new", &["shop"]);
    put(&cluster, 1, "well");
    let console = Console::start(cluster.clone()).await;
    followed(&cluster).await;
    let (bob, new) = (console.sign_in("bob").await, console.sign_in("new").await);
    let mut stream = bob.follow().await;
    stream
        .until("his services", |message| {
            message["type"] == "snapshot" && names(message).len() == 1
        })
        .await;
    cluster.hang();
    // Something new somewhere is a reason to ask at once.
    cluster.put("resilientservices", "elsewhere", "order", service("well"));
    let is_honest = |message: &Value| {
        let streams = message["streams"].as_array();
        streams.is_some_and(|all| {
            all.iter()
                .all(|one| one["error"] == "the API server does not answer" && one["forbidden"] == false)
        })
    };
    let begun = Instant::now();
    stream.until("the cluster is silent", is_honest).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // One heartbeat after the other, and the question hangs: so does not the page.
    for _ in 0..3 {
        let begun = Instant::now();
        let beat = stream
            .until("a sign of life", |message| message["type"] == "heartbeat")
            .await;
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        assert!(is_honest(&beat), "{beat}");
    }
    let begun = Instant::now();
    let again = bob.follow().await.next().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(
        names(&again),
        ["ResilientService/shop/service-1"],
        "what he saw he sees"
    );
    assert!(is_honest(&again), "{again}");
    let mut news = new.follow().await;
    let first = news.next().await.unwrap();
    assert!(names(&first).is_empty() && is_honest(&first), "{first}");
    assert_eq!(first["streams"][0]["asOf"], Value::Null, "nothing is known: {first}");
    let begun = Instant::now();
    cluster.come_back();
    news.until("what one may see", |message| {
        message["type"] == "snapshot" && names(message).len() == 1
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn who_may_see_few_of_many_namespaces_is_not_asked_about_all_of_them_each_time() {
    let cluster = Cluster::new();
    cluster.allow("bob", &["n-7"]);
    for number in 0..400 {
        cluster.put("resilientservices", &format!("n-{number}"), "order", service("well"));
    }
    let console = Console::start(cluster.clone()).await;
    followed(&cluster).await;
    let bob = console.sign_in("bob").await;
    let asked = || {
        let requests = cluster.requests().into_iter();
        requests
            .filter(|request| request.path.ends_with("/selfsubjectaccessreviews"))
            .count()
    };
    let mut stream = bob.follow().await;
    stream
        .until("his service", |message| {
            message["type"] == "snapshot" && names(message).len() == 1
        })
        .await;
    let first = asked();
    assert!(first > 2_000, "more than is kept: {first}");
    cluster.allow("bob", &["n-7", "new"]);
    cluster.put("resilientservices", "new", "order", service("well"));
    stream
        .until("the new one", |message| {
            message["type"] == "snapshot" && names(message).len() == 2
        })
        .await;
    let again = asked() - first;
    assert!(again < 1_000, "{again} of {first} were asked again");
}
