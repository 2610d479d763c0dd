//! Who one is, and what becomes of a token.

use std::sync::{Arc, Mutex};

use http::Method;
use serde_json::json;
use valerix_kit::testing::Answer;

use super::cluster::Cluster;
use super::support::{Console, experiment};

#[tokio::test]
async fn a_token_is_exchanged_for_a_cookie_that_no_script_and_no_other_site_can_use() {
    let cluster = Cluster::new();
    cluster.allow("ann", &["*"]);
    let console = Console::with(cluster, |config| config.secure_cookie = true).await;
    let answer = console.server.post("/api/session", &json!({"token": " ann\n"})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Secure", "Max-Age=28800"] {
        assert!(cookie.contains(part), "{part}: {cookie}");
    }
    assert!(
        !answer.text.contains("\"ann\"") && !cookie.contains("ann"),
        "the token itself never comes back"
    );
    assert_eq!(answer.body()["user"], "user:ann");
    assert_eq!(answer.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn without_signing_in_one_looks_only_where_the_console_is_open_and_never_commands() {
    for open in [false, true] {
        let console = Console::with(Cluster::new(), |config| config.anonymous_read = open).await;
        let session = console.server.get("/api/session").await.body();
        assert_eq!(
            (&session["user"], &session["anonymousRead"]),
            (&json!(null), &json!(open))
        );
        let looked = console.server.get("/api/happened").await;
        assert_eq!(looked.status, if open { 200 } else { 401 }, "{looked:?}");
        let stream = console.server.call(Method::GET, "/api/events").send().await.unwrap();
        assert_eq!(stream.status().as_u16(), if open { 200 } else { 401 });
        let commanded = console.server.post("/api/experiments/shop/slow/stop", &json!({})).await;
        assert_eq!(
            (commanded.status, commanded.problem().as_str()),
            (401, "unauthenticated")
        );
        assert!(console.cluster.writes().is_empty());
    }
}

#[tokio::test]
async fn a_token_that_the_api_server_does_not_accept_begins_and_keeps_no_session() {
    let cluster = Cluster::new();
    let console = Console::start(cluster.clone()).await;
    for (token, status) in [("nobody", 401), ("", 422), ("a\u{7f}b", 422)] {
        let answer = console.server.post("/api/session", &json!({"token": token})).await;
        assert_eq!(answer.status, status, "{token:?}: {answer:?}");
        assert!(!answer.headers.contains_key("set-cookie"));
    }
    cluster.allow("ann", &["*"]);
    let ann = console.sign_in("ann").await;
    assert_eq!(ann.get("/api/happened").await.status, 200);
    cluster.revoke("ann");
    assert_eq!(ann.get("/api/happened").await.problem(), "signed-out");
    assert_eq!(
        ann.get("/api/session").await.body()["user"],
        json!(null),
        "the session is over with the token"
    );
}

#[tokio::test]
async fn one_who_signs_out_is_out_and_only_the_page_can_do_it() {
    let cluster = Cluster::new();
    cluster.allow("ann", &["*"]);
    let console = Console::start(cluster).await;
    let ann = console.sign_in("ann").await;
    let end = || {
        console
            .server
            .call(Method::DELETE, "/api/session")
            .header("cookie", &ann.cookie)
    };
    assert_eq!(Answer::of(end()).await.problem(), "csrf");
    let other_site = end()
        .header("x-valerix-csrf", &ann.csrf)
        .header("sec-fetch-site", "cross-site");
    assert_eq!(Answer::of(other_site).await.problem(), "cross-site");
    assert_eq!(Answer::of(end().header("x-valerix-csrf", &ann.csrf)).await.status, 204);
    assert_eq!(ann.get("/api/happened").await.status, 401);
}

#[tokio::test]
async fn a_session_ends_with_its_time() {
    let cluster = Cluster::new();
    cluster.allow("ann", &["*"]);
    let console = Console::with(cluster, |config| config.session_lifetime = std::time::Duration::ZERO).await;
    let ann = console.sign_in("ann").await;
    assert_eq!(ann.get("/api/happened").await.problem(), "unauthenticated");
}

#[tokio::test]
async fn one_person_who_signs_in_without_end_keeps_nobody_out() {
    let cluster = Cluster::new();
    cluster.allow("ann", &["*"]);
    cluster.allow("bob", &["*"]);
    let console = Console::start(cluster).await;
    let bob = console.sign_in("bob").await;
    let first = console.sign_in("ann").await;
    let second = console.sign_in("ann").await;
    for _ in 0..19 {
        console.sign_in("ann").await;
    }
    assert_eq!(
        first.get("/api/happened").await.status,
        401,
        "her oldest session made room"
    );
    assert_eq!(second.get("/api/happened").await.status, 200);
    assert_eq!(bob.get("/api/happened").await.status, 200, "others are as they were");
}

/// Everything that is logged, on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_token_is_in_no_log() {
    let log = Log::default();
    let writer = log.clone();
    let everything = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // A test has one thread, and so has all that it starts.
    let _logged = tracing::subscriber::set_default(everything);
    // In three parts, as a token of the cluster is; the first one says here who it is.
    let (token, secrets) = ("ann.s3cret.s1gned", ["s3cret", "s1gned"]);
    let cluster = Cluster::new();
    cluster.allow(token, &["shop"]);
    cluster.put("chaosexperiments", "shop", "slow", experiment());
    let console = Console::start(cluster.clone()).await;
    let ann = console.sign_in(token).await;
    let mut stream = ann.follow().await;
    stream.next().await.expect("a snapshot");
    let accepted = ann.command("/api/experiments/shop/slow/stop", &json!({})).await;
    assert_eq!(accepted.status, 200, "{accepted:?}");
    assert_eq!(cluster.writes().len(), 1);
    let missing = ann.command("/api/experiments/shop/none/stop", &json!({})).await;
    assert_eq!(missing.status, 404, "{missing:?}");
    let created = json!({"namespace": "shop", "name": "new", "spec": {"count": 0}});
    let invalid = ann.command("/api/experiments", &created).await;
    assert_eq!(invalid.status, 422, "{invalid:?}");
    let forbidden = ann.command("/api/experiments/vault/slow/stop", &json!({})).await;
    assert_eq!(forbidden.status, 403, "{forbidden:?}");
    for token in ["eve.s3cret.s1gned", "ann.s3cret.s1gned\u{7f}"] {
        let refused = console.server.post("/api/session", &json!({"token": token})).await;
        assert!(refused.status >= 400, "{refused:?}");
    }
    cluster.revoke(token);
    assert_eq!(ann.get("/api/happened").await.problem(), "signed-out");
    cluster.go_down();
    let away = console.server.post("/api/session", &json!({"token": token})).await;
    assert_eq!(away.status, 503, "{away:?}");
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(log.contains("signed in") && log.contains("user:ann"), "{log}");
    let tells = |line: &&str| secrets.iter().any(|secret| line.contains(secret));
    let told: Vec<&str> = log.lines().filter(tells).collect();
    assert!(told.is_empty(), "{told:#?}");
}
