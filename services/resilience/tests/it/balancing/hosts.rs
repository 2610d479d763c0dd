//! Breakers of single addresses.

use super::*;

/// Addresses that a test changes.
#[derive(Clone)]
struct Changing(Arc<Mutex<Vec<SocketAddr>>>);

impl Resolve for Changing {
    fn resolve<'resolver>(&'resolver self, _: &'resolver Endpoint) -> Resolving<'resolver> {
        let addresses = self.0.lock().unwrap().clone();
        Box::pin(async move { Ok(addresses) })
    }
}

#[tokio::test]
async fn breakers_of_scope_host_open_one_by_one_and_go_with_their_address() {
    let (bad, seen_bad) = answering(500).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = listener.local_addr().unwrap();
    // Each call needs a connection of its own.
    let router = Router::new().fallback(any(|| async { [("connection", "close")] }));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let settings = strict(|target| {
        target.circuit_breaker.scope = BreakerScope::Host;
        target.circuit_breaker.consecutive_failures = Some(2);
        target.retry.max_attempts = 1;
    });
    let addresses = Changing(Arc::new(Mutex::new(vec![good, bad])));
    let (resilience, client) = client(&settings, addresses.clone()).await;
    assert_eq!(
        resilience.report().circuit_breakers[0].host,
        None,
        "no address was called yet"
    );
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    client
        .target()
        .on_transition(move |host, transition| hears.lock().unwrap().push((host, transition.to)));
    let mut failed = 0;
    for _ in 0..60 {
        failed += usize::from(client.get("/").send().await.unwrap().status() == StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert_eq!((failed, seen_bad.count()), (2, 2));
    assert_eq!(*heard.lock().unwrap(), [(Some(bad), CircuitState::Open)]);
    let shown = |resilience: &Resilience| {
        let breakers = resilience.report().circuit_breakers.into_iter();
        breakers
            .map(|breaker| (breaker.host, breaker.state))
            .collect::<Vec<_>>()
    };
    let (open, closed) = (CircuitState::Open, CircuitState::Closed);
    assert_eq!(
        shown(&resilience),
        [(Some(bad.to_string()), open), (Some(good.to_string()), closed)]
    );
    assert_eq!(state(&client), CircuitState::Open, "the worst of any address");

    // The good one goes: the first call that does not reach it asks anew, and only an open circuit is left.
    *addresses.0.lock().unwrap() = vec![bad];
    serving.abort();
    let left = async {
        loop {
            let error = client.get("/").send().await.err();
            if shown(&resilience) == [(Some(bad.to_string()), open)] {
                return error;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let error = tokio::time::timeout(crate::support::PATIENCE, left).await.unwrap();
    let Some(CallError::CircuitOpen { retry_after, .. }) = error else {
        panic!("{error:?}")
    };
    assert!(retry_after > std::time::Duration::ZERO && retry_after <= std::time::Duration::from_secs(15));
    assert_eq!(seen_bad.count(), 2, "silent while open");
}

#[tokio::test]
async fn a_reload_reaches_the_breakers_of_addresses() {
    let (one, seen_one) = answering(500).await;
    let (two, seen_two) = answering(500).await;
    let scoped = |failures: u32| {
        strict(|target| {
            target.circuit_breaker.scope = BreakerScope::Host;
            target.circuit_breaker.consecutive_failures = Some(failures);
            target.retry.max_attempts = 1;
        })
    };
    let (resilience, client) = client(&scoped(100), vec![one, two]).await;
    for _ in 0..20 {
        client.get("/").send().await.unwrap();
    }
    assert_eq!(state(&client), CircuitState::Closed);
    resilience.apply_policy(scoped(1).render().as_bytes()).unwrap();
    while client.get("/").send().await.is_ok() {}
    assert_eq!(resilience.report().circuit_breakers.len(), 2);
    let mut held = scoped(1);
    held.targets[0].breaker_override = Some(valerix_resilience::policy::BreakerOverride {
        circuit_breaker: valerix_resilience::policy::OverrideState::ForcedClosed,
        until: chrono::Utc::now() + chrono::TimeDelta::hours(1),
    });
    resilience.apply_policy(held.render().as_bytes()).unwrap();
    let before = seen_one.count() + seen_two.count();
    for _ in 0..20 {
        client.get("/").send().await.unwrap();
    }
    assert_eq!(seen_one.count() + seen_two.count(), before + 20);
}
