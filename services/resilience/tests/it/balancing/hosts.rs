//! Breakers of single addresses.

use tower::{Layer, Service};

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

/// What holds for listeners of a target's one breaker holds for those of its addresses: they may come back here while a
/// document is taken, and one that panics keeps nobody after it from being told.
#[tokio::test]
async fn listeners_of_addresses_may_ask_and_panic_while_documents_are_taken() {
    let with_permits = |permits| {
        policy(|_, target| {
            target.circuit_breaker.scope = BreakerScope::Host;
            target.circuit_breaker.consecutive_failures = Some(1);
            target.circuit_breaker.half_open_permits = permits;
            target.circuit_breaker.open_duration = valerix_resilience::policy::Duration::from_millis(100);
        })
    };
    let resilience = with_policy(&with_permits(5)).await;
    let address: SocketAddr = "10.0.0.7:80".parse().unwrap();
    let inner = tower::service_fn(|request: http::Request<String>| async move {
        let status = request.into_body().parse::<u16>().unwrap();
        let answer = http::Response::builder().status(status).body(String::new());
        Ok::<_, std::io::Error>(answer.unwrap())
    });
    let endpoint = Endpoint::new("http", "upstream.test", 80);
    let layer = resilience.client_layer("upstream").balance(endpoint, vec![address]);
    let mut service = layer.layer(inner);
    let request = |status: u16| http::Request::post("http://x/").body(status.to_string()).unwrap();
    service.call(request(500)).await.unwrap();
    let mut probes = 0;
    let passing = async {
        while probes < 3 {
            match service.call(request(200)).await {
                Ok(_) => probes += 1,
                Err(CallError::CircuitOpen { retry_after, .. }) => tokio::time::sleep(retry_after).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, passing).await.unwrap();
    let target = resilience.target("upstream");
    assert_eq!(target.state(), CircuitState::HalfOpen);
    target.on_transition(|_, _| panic!("as listeners may"));
    let (told, heard) = std::sync::mpsc::channel();
    let library = resilience.clone();
    target.on_transition(move |host, transition| {
        let _ = library.report();
        library.apply_policy(with_permits(7).render().as_bytes()).unwrap();
        told.send((host, transition.to)).unwrap();
    });
    let library = resilience.clone();
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        library.apply_policy(with_permits(3).render().as_bytes()).unwrap();
        done.send(()).unwrap();
    });
    let patience = crate::support::PATIENCE;
    assert_eq!(heard.recv_timeout(patience), Ok((Some(address), CircuitState::Closed)));
    assert_eq!(ended.recv_timeout(patience), Ok(()));
    assert_eq!(resilience.policy().targets[0].circuit_breaker.half_open_permits, 7);
}
