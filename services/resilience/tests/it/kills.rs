//! A hundred clients with the same key against a real process that is killed with -9 at each step in turn: one effect,
//! one answer.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;
use uuid::Uuid;
use valerix_resilience::idempotency::Idempotency;

use crate::payments::migrate;
use crate::process::Process;
use crate::support::{PATIENCE, database};

const CLIENTS: usize = 100;
const SIGKILL: i32 = 9;
/// Where a trigger holds the work up, see [`migrate`].
const INSERT: i64 = 1;
const INSERT_COMMIT: i64 = 2;
const UPDATE: i64 = 3;
const UPDATE_COMMIT: i64 = 4;

struct World {
    pool: PgPool,
    mode: &'static str,
    url: String,
    http: reqwest::Client,
}

/// What the page says a replay repeats, and what it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Got {
    status: u16,
    body: String,
    content_type: String,
    location: Option<String>,
    replayed: bool,
    request_id: Option<String>,
    has_date: bool,
}

impl Got {
    fn kept(&self) -> (u16, &str, &str, Option<&str>) {
        (self.status, &self.body, &self.content_type, self.location.as_deref())
    }
}

impl World {
    async fn new(mode: &'static str) -> Self {
        let pool = database().await;
        migrate(&pool).await;
        let url = sqlx::ConnectOptions::to_url_lossy(pool.connect_options().as_ref()).to_string();
        Self {
            pool,
            mode,
            url,
            http: reqwest::Client::new(),
        }
    }

    async fn start(&self, settings: &[(&str, &str)]) -> (Process, SocketAddr) {
        let common = [("DATABASE", self.url.as_str()), ("MODE", self.mode)];
        let mut process = Process::start("payments", &[&common[..], settings].concat());
        let address = process.hear().await.expect("it serves").parse().unwrap();
        (process, address)
    }

    async fn post(&self, address: SocketAddr, key: Option<&str>, body: &'static str) -> reqwest::Result<Got> {
        let mut request = self.http.post(format!("http://{address}/payments")).body(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", format!("\"{key}\""));
        }
        let response = request.send().await?;
        let headers = response.headers().clone();
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        Ok(Got {
            status: response.status().as_u16(),
            content_type: text("content-type").unwrap_or_default(),
            location: text("location"),
            replayed: text("idempotent-replayed").is_some_and(|value| value == "true"),
            request_id: text("x-request-id"),
            has_date: text("date").is_some(),
            body: response.text().await?,
        })
    }

    /// A client that follows 409 and comes again after a lost connection, until it has its answer.
    async fn insist(&self, mut address: watch::Receiver<Option<SocketAddr>>, key: &str) -> Got {
        let mut pause = Duration::from_millis(100);
        loop {
            let current = address.wait_for(Option::is_some).await.unwrap().unwrap();
            match self.post(current, Some(key), "{}").await {
                Ok(answer) if !matches!(answer.status, 409 | 503) => return answer,
                _ => tokio::time::sleep(pause).await,
            }
            // As many as can be served on a busy machine.
            pause = (pause * 5 / 4).min(Duration::from_millis(500));
        }
    }

    /// Holds up whatever reaches the place `lock`, until the connection is dropped.
    async fn hold(&self, lock: i64) -> PgConnection {
        let mut connection = self.pool.acquire().await.unwrap().detach();
        sqlx::query("SELECT pg_advisory_lock($1)")
            .bind(lock)
            .execute(&mut connection)
            .await
            .unwrap();
        connection
    }

    /// Returns when a session is held up.
    async fn held(&self) {
        let held = async {
            let waiting = "SELECT count(*) FROM pg_stat_activity
                           WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'";
            while sqlx::query_scalar::<_, i64>(waiting)
                .fetch_one(&self.pool)
                .await
                .unwrap()
                == 0
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, held).await.expect("somebody is held up");
    }

    async fn count(&self, statement: &'static str, key: &str) -> i64 {
        sqlx::query_scalar(statement)
            .bind(key)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}

/// How the processes of a scenario die, one after the other.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// At a step of the handler, by its own hand.
    At(&'static str),
    /// While Postgres works on a statement or a commit of it.
    Within(i64),
}

/// A hundred clients insist on an answer while process after process dies; the last one lives.
async fn survive(world: &Arc<World>, deaths: &[Death]) {
    let key = Uuid::new_v4().to_string();
    let (current, address) = watch::channel(None);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (world, address, key) = (Arc::clone(world), address.clone(), key.clone());
            tokio::spawn(async move { world.insist(address, &key).await })
        })
        .collect();
    for death in deaths {
        let ended = match *death {
            Death::At(step) => {
                let (process, address) = world.start(&[("KILL_AT", step)]).await;
                current.send_replace(Some(address));
                process.end().await
            }
            Death::Within(lock) => {
                let hold = world.hold(lock).await;
                let (process, address) = world.start(&[]).await;
                current.send_replace(Some(address));
                world.held().await;
                process.signal(Signal::KILL);
                let ended = process.end().await;
                drop(hold);
                ended
            }
        };
        assert_eq!(ended.signal(), Some(SIGKILL), "{death:?} was reached");
        current.send_replace(None);
    }
    let (_last, address) = world.start(&[]).await;
    current.send_replace(Some(address));
    let mut answers = Vec::new();
    for client in clients {
        let answer = tokio::time::timeout(PATIENCE * 3, client).await;
        answers.push(answer.unwrap_or_else(|_| panic!("{deaths:?}: no answer")).unwrap());
    }
    judge(world, &key, &answers, deaths).await;
}

async fn judge(world: &World, key: &str, answers: &[Got], deaths: &[Death]) {
    let first = &answers[0];
    assert_eq!(first.status, 201, "{deaths:?}: {first:?}");
    for answer in answers {
        assert_eq!(answer.kept(), first.kept(), "{deaths:?}: all got the same");
        assert!(answer.has_date, "{answer:?}");
    }
    let fresh = answers.iter().filter(|answer| !answer.replayed).count();
    assert!(fresh <= 1, "{deaths:?}: {fresh} were told that they were first");
    let mut ids: Vec<_> = answers.iter().map(|answer| answer.request_id.as_deref()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(
        ids.len(),
        answers.len(),
        "{deaths:?}: a replay has a request id of its own"
    );

    let effects: Vec<Uuid> = sqlx::query_scalar("SELECT payment FROM effects WHERE key = $1")
        .bind(key)
        .fetch_all(&world.pool)
        .await
        .unwrap();
    let [effect] = effects[..] else {
        panic!("{deaths:?}: {} effects", effects.len())
    };
    assert_eq!(first.location, Some(format!("/payments/{effect}")), "{deaths:?}");
    if world.mode == "recovery" {
        let resources = "SELECT count(*) FROM payments WHERE key = $1";
        assert_eq!(world.count(resources, key).await, 1, "{deaths:?}");
        let charges = "SELECT count(*) FROM ledger JOIN payments ON id = payment WHERE key = $1";
        assert_eq!(world.count(charges, key).await, 1, "{deaths:?}");
    }
}

#[tokio::test]
async fn in_one_transaction_a_death_at_any_step_leaves_one_effect_and_one_answer() {
    let world = Arc::new(World::new("local").await);
    for death in [
        Death::At("claimed"),
        Death::At("worked"),
        Death::Within(INSERT),
        Death::Within(INSERT_COMMIT),
        Death::At("committed"),
    ] {
        survive(&world, &[death]).await;
    }
    survive(&world, &["claimed", "worked", "committed"].map(Death::At)).await;
}

#[tokio::test]
async fn with_recovery_points_a_death_at_any_step_leaves_one_effect_and_one_answer() {
    let world = Arc::new(World::new("recovery").await);
    for death in [
        Death::At("claimed"),
        Death::Within(INSERT_COMMIT),
        Death::At("begun"),
        Death::At("charged"),
        Death::At("guarded"),
        Death::At("worked"),
        Death::Within(UPDATE),
        Death::At("completed"),
        Death::Within(UPDATE_COMMIT),
        Death::At("committed"),
    ] {
        survive(&world, &[death]).await;
    }
    survive(&world, &["begun", "taken over", "taken over", "charged"].map(Death::At)).await;
    let attempts: Vec<i32> = sqlx::query_scalar("SELECT attempt FROM idempotency_keys ORDER BY attempt DESC LIMIT 1")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    assert!(attempts[0] >= 5, "each process but the first took over: {attempts:?}");
}

/// The first attempt is not dead but stopped, in the middle of its work, and goes on after another has answered.
#[tokio::test]
async fn a_process_that_wakes_up_after_it_was_taken_over_changes_nothing() {
    let world = Arc::new(World::new("recovery").await);
    for step in ["begun", "charged", "worked", "completed"] {
        let key = Uuid::new_v4().to_string();
        let (mut slow, address) = world.start(&[("STOP_AT", step)]).await;
        let (_, addresses) = watch::channel(Some(address));
        let first = tokio::spawn({
            let (world, key) = (Arc::clone(&world), key.clone());
            async move { world.insist(addresses, &key).await }
        });
        assert_eq!(slow.hear().await.as_deref(), Some("stopped"), "{step}");
        let (_quick, address) = world.start(&[]).await;
        let (_, addresses) = watch::channel(Some(address));
        let second = tokio::time::timeout(PATIENCE * 3, world.insist(addresses, &key)).await;
        let second = second.expect("it is taken over");
        assert!(!second.replayed, "{step}: the second process did the work");
        assert!(!first.is_finished());
        slow.signal(Signal::CONT);
        let first = tokio::time::timeout(PATIENCE * 3, first).await.unwrap().unwrap();
        judge(&world, &key, &[first, second], &[Death::At(step)]).await;
    }
}

#[tokio::test]
async fn over_http_each_refusal_is_the_page_s_and_a_replay_survives_a_restart() {
    for mode in ["local", "recovery"] {
        let world = Arc::new(World::new(mode).await);
        let (process, address) = world.start(&[("LOCK_MS", "60000")]).await;
        let missing = world.post(address, None, "{}").await.unwrap();
        assert_eq!(missing.status, 400);
        assert!(missing.body.contains("idempotency-key-missing"), "{}", missing.body);

        // The first request runs as long as we like: its commit is held up, or its process is stopped between two.
        let (hold, address, stopped) = if mode == "local" {
            (Some(world.hold(INSERT_COMMIT).await), address, None)
        } else {
            let (stopped, address) = world.start(&[("STOP_AT", "charged"), ("LOCK_MS", "60000")]).await;
            (None, address, Some(stopped))
        };
        let first = tokio::spawn({
            let world = Arc::clone(&world);
            async move { world.post(address, Some("key"), "{}").await.unwrap() }
        });
        let mut stopped = stopped;
        match &mut stopped {
            None => world.held().await,
            Some(stopped) => assert_eq!(stopped.hear().await.as_deref(), Some("stopped")),
        }
        let (_beside, address) = world.start(&[("LOCK_MS", "60000")]).await;
        let twin = world.post(address, Some("key"), "{}").await.unwrap();
        assert_eq!(twin.status, 409, "{mode}");
        assert!(twin.body.contains("idempotency-in-progress"), "{}", twin.body);
        if mode == "recovery" {
            let other = world.post(address, Some("key"), "{\"other\": true}").await.unwrap();
            assert_eq!(other.status, 422, "it is known before the answer is");
        }
        assert!(!first.is_finished());
        drop(hold);
        if let Some(stopped) = &stopped {
            stopped.signal(Signal::CONT);
        }
        let first = first.await.unwrap();
        assert_eq!((first.status, first.replayed), (201, false));
        let other = world.post(address, Some("key"), "{\"other\": true}").await.unwrap();
        assert_eq!(other.status, 422);
        assert!(other.body.contains("idempotency-key-reused"), "{}", other.body);

        process.signal(Signal::KILL);
        process.end().await;
        let (_process, address) = world.start(&[]).await;
        let replay = world.post(address, Some("key"), "{}").await.unwrap();
        assert!(replay.replayed && replay.has_date);
        assert_eq!(replay.kept(), first.kept());
        assert_ne!(replay.request_id, first.request_id);
    }
}

#[tokio::test]
async fn a_request_whose_process_died_never_expires_and_is_continued() {
    let world = Arc::new(World::new("recovery").await);
    let (process, address) = world.start(&[("KILL_AT", "charged")]).await;
    assert!(world.post(address, Some("key"), "{}").await.is_err());
    assert_eq!(process.end().await.signal(), Some(SIGKILL));
    // Far beyond its time to live, it is a request that has not ended, and stays.
    sqlx::query("UPDATE idempotency_keys SET expires_at = '-infinity'")
        .execute(&world.pool)
        .await
        .unwrap();
    assert_eq!(Idempotency::expire(&world.pool, 10).await.unwrap(), 0);
    let begun: Uuid = sqlx::query_scalar("SELECT resource_id FROM idempotency_keys")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    let (_process, address) = world.start(&[]).await;
    let (_, addresses) = watch::channel(Some(address));
    let answer = world.insist(addresses, "key").await;
    assert_eq!(answer.location, Some(format!("/payments/{begun}")), "{answer:?}");
    // Answered, it is kept from then on, and expires like any other.
    assert_eq!(Idempotency::expire(&world.pool, 10).await.unwrap(), 0);
    sqlx::query("UPDATE idempotency_keys SET expires_at = '-infinity'")
        .execute(&world.pool)
        .await
        .unwrap();
    assert_eq!(Idempotency::expire(&world.pool, 10).await.unwrap(), 1);
}
