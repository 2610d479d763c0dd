//! The end of a gateway.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::any;
use http::StatusCode;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::support::{PATIENCE, Setup, serve};

#[tokio::test]
async fn calls_whose_clients_were_cut_off_by_the_end_are_waited_for_by_it() {
    let grace = Duration::from_millis(500);
    for http2 in [false, true] {
        let entered = Arc::new(Notify::new());
        let called = Arc::clone(&entered);
        let hanging = any(move || {
            called.notify_one();
            std::future::pending::<StatusCode>()
        });
        let address = serve(Router::new().fallback(hanging)).await;
        let setup = Setup::new().target("inventory", address);
        let setup = setup.target_policy("inventory", |inventory| {
            inventory.timeout.attempt = valerix_policy::Duration::from_millis(2 * PATIENCE.as_millis() as u64);
        });
        let setup = setup.change(|config| config.service.drain_timeout = grace);
        let server = setup.bind().await;
        let url = format!("http://{}/api/inventory/ps5", server.address());
        let stop = CancellationToken::new();
        let ended = tokio::spawn(server.run(stop.clone()));
        let client = reqwest::Client::builder();
        let client = if http2 { client.http2_prior_knowledge() } else { client };
        let call = tokio::spawn(client.build().unwrap().get(url).send());
        entered.notified().await;
        let began = Instant::now();
        stop.cancel();
        assert!(call.await.unwrap().is_err(), "it was cut");
        tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap();
        // Once for those who wait, and once for what goes on without them.
        assert!(began.elapsed() >= 2 * grace, "{http2}: {:?}", began.elapsed());
    }
}
