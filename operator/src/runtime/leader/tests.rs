//! Processes that compete for the Lease on a fake API server.

use super::*;
use crate::{
    fake_api::{FakeApi, Fault},
    runtime::Scope,
};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/valerix-system/leases/valerix-operator";

fn process(api: &FakeApi, uid: &str) -> Runtime {
    let identity = Identity {
        pod: uid.into(),
        uid: uid.into(),
    };
    let clients = Clients {
        read: api.client(),
        write: api.impatient_client(),
    };
    Runtime::new(identity, clients, vec![Scope::Cluster])
}

fn start(runtime: &Runtime) -> tokio::task::JoinHandle<Result<(), Error>> {
    let runtime = runtime.clone();
    tokio::spawn(async move { run(&runtime, "valerix-system", &runtime.shutdown).await })
}

async fn leads(runtime: &Runtime) -> Duration {
    let begun = Instant::now();
    timeout(Duration::from_secs(60), runtime.leadership.acquired())
        .await
        .expect("the process leads");
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_followed_within_the_lease_and_a_restarted_one_goes_on_at_once() {
    let api = FakeApi::default();
    let (first, second) = (process(&api, "one"), process(&api, "two"));
    let running = start(&first);
    leads(&first).await;
    let waiting = start(&second);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!second.leadership.leads(), "two lead at once");
    running.abort();
    let again = process(&api, "one");
    let restarted = start(&again);
    assert!(leads(&again).await < Duration::from_secs(1));
    restarted.abort();
    let waited = leads(&second).await;
    assert!(waited <= LEASE_DURATION + Duration::from_secs(1), "{waited:?}");
    assert!(second.leadership.leads());
    waiting.abort();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_given_back_is_taken_at_once() {
    let api = FakeApi::default();
    let (first, second) = (process(&api, "one"), process(&api, "two"));
    let running = start(&first);
    leads(&first).await;
    let waiting = start(&second);
    tokio::time::sleep(Duration::from_secs(1)).await;
    first.shutdown.cancel();
    assert!(running.await.unwrap().is_ok());
    assert!(leads(&second).await < Duration::from_secs(1));
    waiting.abort();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_ends_before_another_may_begin() {
    for fault in [Fault::Refuse(500), Fault::Delay(Duration::from_secs(3600))] {
        let api = FakeApi::default();
        let leader = process(&api, "one");
        let running = start(&leader);
        leads(&leader).await;
        tokio::time::sleep(Duration::from_secs(12)).await;
        let renewed = api.requests().len();
        api.inject(move |request| request.is_write().then_some(fault));
        let begun = Instant::now();
        let ended = running.await.unwrap();
        assert!(matches!(ended, Err(Error::Lost(_))), "{ended:?}");
        assert!(
            begun.elapsed() < LEASE_DURATION - RENEW_PERIOD + Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
        assert!(renewed > 2);
        assert!(!leader.leadership.leads());
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_displaced_ends() {
    let api = FakeApi::default();
    let leader = process(&api, "one");
    let running = start(&leader);
    leads(&leader).await;
    api.merge(LEASE, serde_json::json!({"spec": {"holderIdentity": "two"}}));
    assert!(matches!(running.await.unwrap(), Err(Error::Taken(holder)) if holder == "two"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_got_lost_costs_nothing_and_rest_is_twelve_renewals_a_minute() {
    let api = FakeApi::default();
    let leader = process(&api, "one");
    let running = start(&leader);
    leads(&leader).await;
    let mut lost = false;
    api.inject(move |request| {
        let lose = request.is_write() && !lost;
        lost |= lose;
        lose.then_some(Fault::LoseAnswer)
    });
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(leader.leadership.leads());
    api.forget_requests();
    tokio::time::sleep(Duration::from_secs(120)).await;
    let count = api.requests().len();
    assert!((20..=26).contains(&count), "{count}");
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_standby_makes_no_request_while_the_leader_renews_and_few_while_nobody_answers() {
    let api = FakeApi::default();
    let (first, second) = (process(&api, "one"), process(&api, "two"));
    let running = start(&first);
    leads(&first).await;
    let waiting = start(&second);
    tokio::time::sleep(Duration::from_secs(30)).await;
    api.forget_requests();
    tokio::time::sleep(Duration::from_secs(120)).await;
    let reads = || api.requests().iter().filter(|request| !request.is_write()).count();
    assert_eq!(reads(), 0, "{:?}", api.requests());

    // The API server restarts: the leader ends, and the standby asks now and then instead of at once and again.
    api.inject(|_| Some(Fault::Refuse(503)));
    api.break_watches();
    api.forget_requests();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(running.await.unwrap().is_err());
    assert!((1..120).contains(&reads()), "{}", reads());
    api.inject(|_| None);
    leads(&second).await;
    waiting.abort();
}

#[tokio::test(start_paused = true)]
async fn a_write_by_somebody_else_is_no_renewal() {
    let api = FakeApi::default();
    let leader = process(&api, "one");
    let running = start(&leader);
    leads(&leader).await;
    let renewed = || api.get(LEASE).unwrap()["spec"]["renewTime"].clone();
    let before = renewed();
    let ahead = Duration::from_millis(50);
    tokio::time::sleep(RENEW_PERIOD - ahead).await;
    // Just ahead of each renewal, so that each meets a conflict.
    for _ in 0..4 {
        let held = renewed();
        api.merge(
            LEASE,
            serde_json::json!({"metadata": {"annotations": {"touched": held}}}),
        );
        tokio::time::sleep(ahead * 2).await;
        assert_ne!(renewed(), held, "counted as renewed although nobody could see it");
        tokio::time::sleep(RENEW_PERIOD - ahead * 2).await;
    }
    assert_ne!(renewed(), before);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_meets_two_conflicts_is_none_and_is_tried_again() {
    let api = FakeApi::default();
    let leader = process(&api, "one");
    let running = start(&leader);
    leads(&leader).await;
    let renewed = || api.get(LEASE).unwrap()["spec"]["renewTime"].clone();
    // Somebody is quicker at each of the first two attempts of every renewal.
    let mut attempts = 0;
    api.inject(move |request| {
        attempts += i32::from(request.is_write());
        (request.is_write() && attempts % 3 != 0).then_some(Fault::Refuse(409))
    });
    for _ in 0..3 {
        let held = renewed();
        tokio::time::sleep(RENEW_PERIOD + RETRY_PERIOD + Duration::from_millis(100)).await;
        assert_ne!(renewed(), held, "counted as renewed although nobody could see it");
    }
    assert!(leader.leadership.leads());
    running.abort();
}
