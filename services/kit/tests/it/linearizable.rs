//! Histories of many at once, each explained by one order of its steps or refused: of the lock, of the row that it guards, and
//! of what is kept under an idempotency key.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, StatusCode};
use sqlx::PgPool;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use valerix_kit::lock::{DistributedLock, Fence, LockError};
use valerix_kit::metrics::Metrics;
use valerix_kit::testing::chance::{Chance, rounds};
use valerix_kit::testing::{TestDatabase, bus_args};
use valerix_resilience::idempotency::{Idempotency, IdempotentRequest, Local, SCHEMA, Stored, StoredAnswer};

/// Clients at once. The search for an order grows fast with them.
const CLIENTS: usize = 4;
const STEPS: usize = 4;
/// Fewer where any step may have had its effect at any later time.
const POSTS: usize = 2;

/// What is seen of a thing while many use it: each step with its begin and its end.
struct Recorder<S: SequentialSpec>(Arc<Mutex<LinearizabilityTester<usize, S>>>);

impl<S: SequentialSpec> Clone for Recorder<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Recorder<S>
where
    S: SequentialSpec + Clone + Debug,
    S::Op: Clone + Debug,
    S::Ret: Clone + Debug,
{
    fn new(spec: S) -> Self {
        Self(Arc::new(Mutex::new(LinearizabilityTester::new(spec))))
    }

    /// A step that may never end: whoever is dropped in the midst of it may have had an effect.
    async fn step(&self, client: usize, operation: S::Op, work: impl Future<Output = S::Ret>) -> S::Ret {
        self.0.lock().unwrap().on_invoke(client, operation).unwrap();
        let answer = work.await;
        self.0.lock().unwrap().on_return(client, answer.clone()).unwrap();
        answer
    }

    fn is_explained(&self) -> bool {
        self.0.lock().unwrap().is_consistent()
    }

    fn must_be_explained(&self, seed: u64) {
        assert!(
            self.is_explained(),
            "seed {seed}: no order explains {:#?}",
            self.0.lock().unwrap()
        );
    }
}

/// A lock as one process would have it; its numbers only grow.
#[derive(Clone, Debug, Default)]
struct Mutual {
    held: Option<i64>,
    last: i64,
}

#[derive(Clone, Debug)]
enum LockStep {
    Acquire,
    Release(i64),
}

#[derive(Clone, Debug, PartialEq)]
enum LockAnswer {
    Granted(i64),
    Held,
    Released,
}

impl SequentialSpec for Mutual {
    type Op = LockStep;
    type Ret = LockAnswer;

    fn invoke(&mut self, step: &LockStep) -> LockAnswer {
        match step {
            LockStep::Acquire if self.held.is_some() => LockAnswer::Held,
            LockStep::Acquire => {
                self.last += 1;
                self.held = Some(self.last);
                LockAnswer::Granted(self.last)
            }
            LockStep::Release(token) => {
                self.held.take_if(|held| held == token);
                LockAnswer::Released
            }
        }
    }

    fn is_valid_step(&mut self, step: &LockStep, answer: &LockAnswer) -> bool {
        match (step, answer) {
            (LockStep::Acquire, LockAnswer::Granted(token)) => {
                let granted = self.held.is_none() && *token > self.last;
                (self.held, self.last) = (Some(*token), *token);
                granted
            }
            _ => self.invoke(step) == *answer,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_is_held_by_one_after_the_other() {
    let (_, seed) = Chance::seeded(5);
    let args = bus_args();
    for round in 0..rounds(10) {
        let name: &'static str = format!("lock-{round}").leak();
        // Each client as in a process of its own.
        let locks = [(); CLIENTS]
            .map(|()| DistributedLock::new(&args, name, Duration::from_secs(60), &Metrics::new().unwrap()).unwrap());
        let recorder = Recorder::new(Mutual::default());
        let clients = locks.into_iter().enumerate().map(|(client, lock)| {
            let recorder = recorder.clone();
            tokio::spawn(async move {
                for _ in 0..STEPS {
                    let mut held = None;
                    let acquire = async {
                        match lock.acquire_once(0).await {
                            Ok(lock) => LockAnswer::Granted(held.insert(lock).fence().token),
                            Err(LockError::Held { .. }) => LockAnswer::Held,
                            Err(error) => panic!("{error}"),
                        }
                    };
                    recorder.step(client, LockStep::Acquire, acquire).await;
                    if let Some(held) = held {
                        let release = LockStep::Release(held.fence().token);
                        let released = async { lock.release(held).await.map(|()| LockAnswer::Released).unwrap() };
                        recorder.step(client, release, released).await;
                    }
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        recorder.must_be_explained(seed);
    }
}

/// A row that takes the writes of one holder after the other, although holders overlap: Redis forgets who holds the lock.
#[derive(Clone, Debug)]
struct Guarded(Fence);

#[derive(Clone, Debug)]
enum RowStep {
    Read,
    Write(Fence),
}

#[derive(Clone, Debug, PartialEq)]
enum RowAnswer {
    Mark(i64),
    Written(bool),
}

impl SequentialSpec for Guarded {
    type Op = RowStep;
    type Ret = RowAnswer;

    fn invoke(&mut self, step: &RowStep) -> RowAnswer {
        match step {
            RowStep::Read => RowAnswer::Mark(self.0.token),
            RowStep::Write(fence) => {
                let passes = fence.passes(&self.0);
                if passes {
                    self.0 = fence.clone();
                }
                RowAnswer::Written(passes)
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_row_takes_no_write_of_an_earlier_holder_however_often_redis_forgets_the_lock() {
    let (mut chance, seed) = Chance::seeded(5);
    let database = TestDatabase::create().await;
    let pool = database.pool().await;
    sqlx::raw_sql("CREATE TABLE guarded (id integer PRIMARY KEY, token bigint NOT NULL, holder text NOT NULL)")
        .execute(&pool)
        .await
        .unwrap();
    let args = bus_args();
    let (mut tokens, mut refused) = (vec![], 0);
    for round in 0..i32::try_from(rounds(6)).unwrap() {
        sqlx::query("INSERT INTO guarded VALUES ($1, 0, '')")
            .bind(round)
            .execute(&pool)
            .await
            .unwrap();
        let name: &'static str = format!("row-{round}").leak();
        let recorder = Recorder::new(Guarded(Fence::new(0, "")));
        let clients = (0..CLIENTS).map(|client| {
            let (recorder, pool, pause) = (recorder.clone(), pool.clone(), chance.milliseconds(0, 15));
            let lock = DistributedLock::new(&args, name, Duration::from_millis(5), &Metrics::new().unwrap()).unwrap();
            tokio::spawn(async move {
                let (mut granted, mut refused) = (vec![], 0);
                while granted.len() < 3 {
                    let read = async { RowAnswer::Mark(mark(&pool, round).await) };
                    let RowAnswer::Mark(mark) = recorder.step(client, RowStep::Read, read).await else {
                        panic!("a read answers the mark")
                    };
                    let Ok(held) = lock.acquire_once(mark).await else {
                        continue;
                    };
                    let fence = held.fence().clone();
                    assert!(fence.token > mark, "{fence:?} after {mark}");
                    // Longer than the lock is held, now and then.
                    tokio::time::sleep(pause).await;
                    let write = async { RowAnswer::Written(write(&pool, round, &fence).await) };
                    let written = recorder.step(client, RowStep::Write(fence.clone()), write).await;
                    refused += usize::from(written == RowAnswer::Written(false));
                    granted.push(fence.token);
                }
                (granted, refused)
            })
        });
        for client in clients.collect::<Vec<_>>() {
            let (granted, stale) = client.await.unwrap();
            tokens.extend(granted);
            refused += stale;
        }
        recorder.must_be_explained(seed);
    }
    assert!(refused > 0, "seed {seed}: no holder was stale, which proves nothing");
    let all = tokens.len();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), all, "seed {seed}: two holders had one number");
}

async fn mark(pool: &PgPool, row: i32) -> i64 {
    let mark = sqlx::query_scalar("SELECT token FROM guarded WHERE id = $1").bind(row);
    mark.fetch_one(pool).await.unwrap()
}

async fn write(pool: &PgPool, row: i32, fence: &Fence) -> bool {
    let write =
        "UPDATE guarded SET token = $2, holder = $3 WHERE id = $1 AND (token < $2 OR (token = $2 AND holder = $3))";
    let write = sqlx::query(write).bind(row).bind(fence.token).bind(&fence.holder);
    write.execute(pool).await.unwrap().rows_affected() == 1
}

/// What is kept under one key: the first body and its answer, for ever.
#[derive(Clone, Debug, Default)]
struct Kept(Option<(u8, usize)>);

#[derive(Clone, Debug)]
struct Post {
    body: u8,
    /// What is answered if this is the first.
    number: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum PostAnswer {
    Stored(usize),
    Mismatch,
    /// Another one is at it; nothing was said about what it will answer.
    InProgress,
}

impl SequentialSpec for Kept {
    type Op = Post;
    type Ret = PostAnswer;

    fn invoke(&mut self, post: &Post) -> PostAnswer {
        match self.0.get_or_insert((post.body, post.number)) {
            (body, number) if *body == post.body => PostAnswer::Stored(*number),
            _ => PostAnswer::Mismatch,
        }
    }

    fn is_valid_step(&mut self, post: &Post, answer: &PostAnswer) -> bool {
        *answer == PostAnswer::InProgress || self.invoke(post) == *answer
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_has_one_answer_whoever_asks_and_whoever_is_dropped_over_it() {
    let (mut chance, seed) = Chance::seeded(5);
    let database = TestDatabase::create().await;
    let pool = database.pool().await;
    sqlx::raw_sql(SCHEMA).execute(&pool).await.unwrap();
    let mut seen = BTreeMap::<&str, usize>::new();
    for round in 0..rounds(20) {
        let recorder = Recorder::new(Kept::default());
        let clients = (0..CLIENTS).map(|client| {
            let (recorder, pool, key) = (recorder.clone(), pool.clone(), format!("key-{round}"));
            let plan = [(); POSTS].map(|()| (u8::from(chance.below(4) == 0), chance.milliseconds(1, 25)));
            tokio::spawn(async move {
                let mut answers = vec![];
                for (step, (body, patience)) in plan.into_iter().enumerate() {
                    // Who is dropped never comes back under the same name.
                    let (name, number) = (client * POSTS + step, client * POSTS + step);
                    let post = recorder.step(name, Post { body, number }, post(&pool, &key, body, number));
                    answers.push(tokio::time::timeout(patience, post).await.ok());
                }
                answers
            })
        });
        for client in clients.collect::<Vec<_>>() {
            for answer in client.await.unwrap() {
                *seen
                    .entry(match answer {
                        None => "dropped",
                        Some(PostAnswer::Stored(_)) => "stored",
                        Some(PostAnswer::Mismatch) => "mismatch",
                        Some(PostAnswer::InProgress) => "in progress",
                    })
                    .or_default() += 1;
            }
        }
        recorder.must_be_explained(seed);
    }
    assert!(
        seen.contains_key("stored") && seen.len() > 2,
        "seed {seed}: too little happened: {seen:?}"
    );
}

async fn post(pool: &PgPool, key: &str, body: u8, number: usize) -> PostAnswer {
    let register = Idempotency::new(Duration::from_secs(3_600), Duration::from_secs(30));
    let request = IdempotentRequest::new(key, "somebody", &Method::POST, "/things", "/things", &[body]);
    let answer = match register.begin(pool, &request).await.unwrap() {
        Local::Fresh(claim) => {
            let answer = StoredAnswer::json(StatusCode::CREATED, &number).unwrap();
            match claim.commit(answer).await.unwrap() {
                Stored::Committed(answer) | Stored::Replay(answer) => answer,
                Stored::Mismatch => return PostAnswer::Mismatch,
            }
        }
        Local::Replay(answer) => answer,
        Local::InProgress => return PostAnswer::InProgress,
        Local::Mismatch => return PostAnswer::Mismatch,
    };
    PostAnswer::Stored(serde_json::from_slice(&answer.body).unwrap())
}

/// The judge: what a broken lock, a row without a check and a register that forgets would show is refused.
#[test]
fn histories_of_mistakes_are_not_explained() {
    let mut two_holders = LinearizabilityTester::new(Mutual::default());
    two_holders
        .on_invret(0, LockStep::Acquire, LockAnswer::Granted(1))
        .unwrap();
    two_holders
        .on_invret(1, LockStep::Acquire, LockAnswer::Granted(2))
        .unwrap();
    assert!(!two_holders.is_consistent());

    let mut smaller_number = LinearizabilityTester::new(Mutual::default());
    smaller_number
        .on_invret(0, LockStep::Acquire, LockAnswer::Granted(2))
        .unwrap();
    smaller_number
        .on_invret(0, LockStep::Release(2), LockAnswer::Released)
        .unwrap();
    assert!(smaller_number.is_consistent());
    smaller_number
        .on_invret(1, LockStep::Acquire, LockAnswer::Granted(1))
        .unwrap();
    assert!(!smaller_number.is_consistent());

    let (old, new) = (Fence::new(1, "old"), Fence::new(2, "new"));
    let mut stale_write = LinearizabilityTester::new(Guarded(Fence::new(0, "")));
    stale_write
        .on_invret(0, RowStep::Write(new), RowAnswer::Written(true))
        .unwrap();
    stale_write
        .on_invret(1, RowStep::Write(old), RowAnswer::Written(true))
        .unwrap();
    assert!(!stale_write.is_consistent());

    let post = |number| Post { body: 0, number };
    let mut two_answers = LinearizabilityTester::new(Kept::default());
    two_answers.on_invret(0, post(0), PostAnswer::Stored(0)).unwrap();
    two_answers.on_invret(1, post(1), PostAnswer::Stored(1)).unwrap();
    assert!(!two_answers.is_consistent());

    // Dropped, and yet the first: that is explained.
    let mut dropped = LinearizabilityTester::new(Kept::default());
    dropped.on_invoke(0, post(0)).unwrap();
    dropped.on_invret(1, post(1), PostAnswer::Stored(0)).unwrap();
    assert!(dropped.is_consistent());
}
