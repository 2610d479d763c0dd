//! Every database write of the library, dropped after each of its polls: a second session sees all of it or nothing, and
//! the session that goes back to the pool is clean.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use http::{Method, StatusCode};
use sqlx::PgPool;
use uuid::Uuid;
use valerix_resilience::idempotency::{
    Attempt, Claim, Completion, Idempotency, IdempotentRequest, Local, SCHEMA, StoredAnswer,
};
use valerix_resilience::postgres::begin;

use crate::support::{PATIENCE, database};

/// Every attempt may be taken over at once.
const IDEMPOTENCY: Idempotency = Idempotency::new(Duration::from_secs(3_600), Duration::ZERO);

/// When the future is dropped.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Right after a poll.
    After(usize),
    /// When it has been woken for the poll that follows, which never comes.
    Before(usize),
}

impl Cut {
    fn all() -> impl Iterator<Item = [Self; 2]> {
        (0..).map(|polls| [Self::After(polls + 1), Self::Before(polls + 1)])
    }
}

/// Polls `future` as often as it wants to be polled, and drops it at the cut. `None`: it had not ended by then.
async fn cut<F: Future>(cut: Cut, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut polls = 0;
    poll_fn(|context| {
        if matches!(cut, Cut::Before(most) if polls == most) {
            return Poll::Ready(None);
        }
        let polled = future.as_mut().poll(context).map(Some);
        polls += 1;
        match cut {
            Cut::After(most) if polled.is_pending() && polls == most => Poll::Ready(None),
            _ => polled,
        }
    })
    .await
}

struct World {
    /// One session, so that what a cancelled write left behind is met again.
    writer: PgPool,
    /// The second session.
    observer: PgPool,
}

impl World {
    async fn new() -> Self {
        let observer = database().await;
        sqlx::raw_sql(SCHEMA).execute(&observer).await.unwrap();
        sqlx::raw_sql("CREATE TABLE effects (key text NOT NULL); CREATE TABLE notes (id uuid PRIMARY KEY)")
            .execute(&observer)
            .await
            .unwrap();
        let writer = sqlx::postgres::PgPoolOptions::new()
            .max_connections(1)
            .connect_with(observer.connect_options().as_ref().clone())
            .await
            .unwrap();
        Self { writer, observer }
    }

    async fn count(&self, statement: &'static str, key: &str) -> i64 {
        sqlx::query_scalar(statement)
            .bind(key)
            .fetch_one(&self.observer)
            .await
            .unwrap()
    }

    async fn effects(&self, key: &str) -> i64 {
        self.count("SELECT count(*) FROM effects WHERE key = $1", key).await
    }

    async fn answers(&self, key: &str) -> i64 {
        self.count(
            "SELECT count(*) FROM idempotency_keys WHERE key = $1 AND status IS NOT NULL",
            key,
        )
        .await
    }

    async fn claims(&self, key: &str) -> i64 {
        self.count("SELECT count(*) FROM idempotency_keys WHERE key = $1", key)
            .await
    }

    /// The next user of the session finds it outside of any transaction, without a lock, and what it writes is there.
    async fn assert_clean(&self, what: &str) {
        let session = tokio::time::timeout(PATIENCE, self.writer.acquire()).await;
        let mut session = session
            .unwrap_or_else(|_| panic!("{what}: the session never came back"))
            .unwrap();
        let process: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&mut *session)
            .await
            .unwrap();
        let state: String = sqlx::query_scalar("SELECT state FROM pg_stat_activity WHERE pid = $1")
            .bind(process)
            .fetch_one(&self.observer)
            .await
            .unwrap();
        assert_eq!(state, "idle", "{what}");
        let locks: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_locks WHERE pid = $1")
            .bind(process)
            .fetch_one(&self.observer)
            .await
            .unwrap();
        assert_eq!(locks, 0, "{what}");
        let note = Uuid::new_v4().to_string();
        let written = sqlx::query("INSERT INTO notes VALUES ($1::uuid)")
            .bind(&note)
            .execute(&mut *session)
            .await
            .unwrap();
        assert_eq!(written.rows_affected(), 1, "{what}");
        let seen = self.count("SELECT count(*) FROM notes WHERE id = $1::uuid", &note);
        assert_eq!(seen.await, 1, "{what}: a second session does not see what answered Ok");
    }
}

/// Cuts `write` after each of its polls, with a fresh key each time, until it ends before the cut; `judge` looks at what
/// is there of it.
async fn at_every_poll<W, J, P>(world: &World, name: &str, prepare: impl AsyncFn(&World, &str) -> P, write: W, judge: J)
where
    W: AsyncFn(&World, &str, P),
    J: AsyncFn(&World, &str, &str),
{
    let mut tried = 0;
    for cuts in Cut::all() {
        let mut ended = 0;
        for at in cuts {
            let key = Uuid::new_v4().to_string();
            let prepared = prepare(world, &key).await;
            let what = format!("{name}, cut {at:?}");
            ended += usize::from(cut(at, write(world, &key, prepared)).await.is_some());
            world.assert_clean(&what).await;
            judge(world, &key, &what).await;
            tried += 1;
        }
        if ended == cuts.len() {
            break;
        }
    }
    assert!(tried > 2, "{name} was never cut");
}

fn request(key: &str) -> IdempotentRequest {
    IdempotentRequest::new(key, "anonymous", &Method::POST, "/payments", "/payments", b"{}")
}

fn answer() -> StoredAnswer {
    StoredAnswer::json(StatusCode::CREATED, &"paid").unwrap()
}

async fn nothing(_: &World, _: &str) {}

async fn act(connection: &mut sqlx::PgConnection, key: &str) {
    sqlx::query("INSERT INTO effects VALUES ($1)")
        .bind(key)
        .execute(connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_begin_leaves_no_transaction() {
    let world = World::new().await;
    let write = async |world: &World, key: &str, ()| {
        let mut transaction = begin(&world.writer).await.unwrap();
        act(&mut transaction, key).await;
    };
    let judge = async |world: &World, key: &str, what: &str| {
        assert_eq!(world.effects(key).await, 0, "{what}: nobody committed");
    };
    at_every_poll(&world, "begin", nothing, write, judge).await;
}

async fn pay(world: &World, key: &str) -> StoredAnswer {
    let mut claim = match IDEMPOTENCY.begin(&world.writer, &request(key)).await.unwrap() {
        Local::Fresh(claim) => claim,
        Local::Replay(answer) => return answer,
        other => panic!("{other:?}"),
    };
    act(claim.transaction(), key).await;
    claim.commit(answer()).await.unwrap().into_answer()
}

#[tokio::test]
async fn a_local_request_is_there_with_its_answer_or_not_at_all() {
    let world = World::new().await;
    let write = async |world: &World, key: &str, ()| {
        pay(world, key).await;
    };
    let judge = async |world: &World, key: &str, what: &str| {
        let effects = world.effects(key).await;
        assert_eq!(effects, world.answers(key).await, "{what}");
        assert_eq!(effects, world.claims(key).await, "{what}");
        let answered = pay(world, key).await;
        assert_eq!(
            answered.is_replayed(),
            effects == 1,
            "{what}: the key is free, or replays"
        );
        assert_eq!(world.effects(key).await, 1, "{what}");
    };
    at_every_poll(&world, "local", nothing, write, judge).await;
}

/// Makes room first: the key holds an answer that has expired.
#[tokio::test]
async fn an_expired_answer_is_replaced_or_stays() {
    let world = World::new().await;
    let prepare = async |world: &World, key: &str| {
        pay(world, key).await;
        sqlx::query("UPDATE idempotency_keys SET expires_at = '-infinity' WHERE key = $1")
            .bind(key)
            .execute(&world.observer)
            .await
            .unwrap();
    };
    let write = async |world: &World, key: &str, ()| {
        pay(world, key).await;
    };
    let judge = async |world: &World, key: &str, what: &str| {
        let fresh = "SELECT count(*) FROM idempotency_keys WHERE key = $1 AND expires_at > now()";
        assert_eq!(world.effects(key).await, 1 + world.count(fresh, key).await, "{what}");
        assert_eq!(world.answers(key).await, 1, "{what}");
    };
    at_every_poll(&world, "local after expiry", prepare, write, judge).await;
}

/// Commit 1 of recovery-point mode, with the resource (here an effect).
async fn start(world: &World, key: &str) -> Attempt {
    let mut transaction = begin(&world.writer).await.unwrap();
    let claim = IDEMPOTENCY
        .claim(&mut transaction, &request(key), Uuid::new_v4())
        .await
        .unwrap();
    let attempt = match claim {
        Claim::Started(attempt) => {
            act(&mut transaction, key).await;
            attempt
        }
        Claim::TakenOver(attempt) => attempt,
        other => panic!("{other:?}"),
    };
    transaction.commit().await.unwrap();
    attempt
}

#[tokio::test]
async fn a_claim_is_there_with_its_resource_or_not_at_all() {
    let world = World::new().await;
    let write = async |world: &World, key: &str, ()| {
        start(world, key).await;
    };
    let judge = async |world: &World, key: &str, what: &str| {
        assert_eq!(world.effects(key).await, world.claims(key).await, "{what}");
        let again = start(world, key).await;
        assert_eq!(world.effects(key).await, 1, "{what}: attempt {}", again.number());
    };
    at_every_poll(&world, "claim", nothing, write, judge).await;
}

#[tokio::test]
async fn a_takeover_counts_or_does_not() {
    let world = World::new().await;
    let write = async |world: &World, key: &str, _: Attempt| {
        start(world, key).await;
    };
    let judge = async |world: &World, key: &str, what: &str| {
        let number: i32 = sqlx::query_scalar("SELECT attempt FROM idempotency_keys WHERE key = $1")
            .bind(key)
            .fetch_one(&world.observer)
            .await
            .unwrap();
        assert_eq!(start(world, key).await.number(), number + 1, "{what}");
        assert_eq!(world.effects(key).await, 1, "{what}");
    };
    at_every_poll(&world, "takeover", start, write, judge).await;
}

async fn finish(world: &World, key: &str, attempt: Attempt) -> Completion {
    let mut transaction = begin(&world.writer).await.unwrap();
    attempt.guard(&mut transaction).await.unwrap();
    act(&mut transaction, key).await;
    let completed = attempt.complete(&mut transaction, answer()).await.unwrap();
    transaction.commit().await.unwrap();
    completed
}

#[tokio::test]
async fn an_outcome_is_there_with_its_answer_or_not_at_all() {
    let world = World::new().await;
    let write = async |world: &World, key: &str, attempt: Attempt| {
        finish(world, key, attempt).await;
    };
    let judge = async |world: &World, key: &str, what: &str| {
        let answers = world.answers(key).await;
        assert_eq!(
            world.effects(key).await,
            1 + answers,
            "{what}: the resource, and the outcome"
        );
        if answers == 0 {
            let attempt = start(world, key).await;
            assert!(
                matches!(finish(world, key, attempt).await, Completion::Stored(_)),
                "{what}"
            );
        }
        assert_eq!(world.effects(key).await, 2, "{what}");
    };
    at_every_poll(&world, "complete", start, write, judge).await;
}

#[tokio::test]
async fn a_release_and_an_expiry_happen_or_do_not() {
    let world = World::new().await;
    let write = async |world: &World, _: &str, attempt: Attempt| {
        let mut session = world.writer.acquire().await.unwrap();
        attempt.release(&mut session).await.unwrap();
    };
    let judge = async |world: &World, key: &str, what: &str| {
        assert_eq!(world.claims(key).await, 1, "{what}");
        assert_eq!(start(world, key).await.number(), 2, "{what}");
    };
    at_every_poll(&world, "release", start, write, judge).await;

    let prepare = async |world: &World, key: &str| {
        for expiry in ["-infinity", "infinity"] {
            let key = format!("{key} {expiry}");
            pay(world, &key).await;
            sqlx::query("UPDATE idempotency_keys SET expires_at = $2::timestamptz WHERE key = $1")
                .bind(key)
                .bind(expiry)
                .execute(&world.observer)
                .await
                .unwrap();
        }
    };
    let write = async |world: &World, _: &str, ()| {
        Idempotency::expire(&world.writer, 10).await.unwrap();
    };
    let judge = async |world: &World, key: &str, what: &str| {
        let gone = 1 - world.answers(&format!("{key} -infinity")).await;
        assert!((0..=1).contains(&gone), "{what}");
        assert_eq!(world.answers(&format!("{key} infinity")).await, 1, "{what}");
        let left = Idempotency::expire(&world.writer, 10).await.unwrap();
        assert_eq!(i64::try_from(left).unwrap(), 1 - gone, "{what}");
    };
    at_every_poll(&world, "expire", prepare, write, judge).await;
}
