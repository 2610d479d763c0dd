//! What is under way when a fault begins: requests, calls, and bodies that stream, to and fro, over real sockets.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{any, get, post};
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tower::{Layer, Service};
use valerix_resilience::policy::{Admission, BreakerScope, Fault, FaultState, PartitionDirection, RefuseFault};
use valerix_resilience::{CallError, Resilience};

use crate::fault_effects::{allowed, partition};
use crate::support::{Mount, PATIENCE, Seen, eventually, faults, policy, serve};

fn refuse() -> Fault {
    Fault {
        refuse: Some(RefuseFault {}),
        ..Fault::default()
    }
}

/// Begins a fault that spares `/spared`, and waits until it is on.
async fn begin(mount: &mut Mount, resilience: &Resilience, fault: Fault) {
    let mut document = faults("run", fault, "60s");
    document.faults[0].spared_paths = vec!["/spared".to_owned()];
    mount.faults = Some(document.render());
    mount.publish();
    let is_on = || {
        let report = resilience.report();
        report
            .faults
            .first()
            .is_some_and(|fault| fault.state == FaultState::Active)
    };
    eventually("the fault begins", is_on).await;
}

/// What comes of a future that must come to something.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it never ended")
}

type Piece = Result<Bytes, Infallible>;

/// A body that streams what it is given, and whoever gives it.
fn stream() -> (UnboundedSender<Piece>, Body) {
    let (give, pieces): (_, UnboundedReceiver<Piece>) = unbounded_channel();
    give.send(Ok(Bytes::from_static(b"first"))).unwrap();
    let pieces = futures::stream::unfold(pieces, |mut pieces| async {
        pieces.recv().await.map(|next| (next, pieces))
    });
    (give, Body::from_stream(pieces))
}

type Givers = Arc<Mutex<Vec<UnboundedSender<Piece>>>>;

/// A handler whose answers stream what is given to them.
fn streaming(givers: &Givers) -> axum::routing::MethodRouter {
    let givers = Arc::clone(givers);
    any(move || async move {
        let (give, body) = stream();
        givers.lock().unwrap().push(give);
        body
    })
}

fn give_all(givers: &Givers) {
    for giver in givers.lock().unwrap().iter() {
        // Nobody is there any more to take it where it was cut.
        let _ = giver.send(Ok(Bytes::from_static(b"second")));
    }
}

#[tokio::test]
async fn an_answer_that_streams_is_cut_by_the_fault_that_cuts_its_connection() {
    for (fault, cuts_other) in [
        (refuse(), true),
        (partition(PartitionDirection::Ingress, "shop/peer"), false),
        (partition(PartitionDirection::Both, "peer"), false),
    ] {
        let kind = fault.fault_type();
        let mut mount = Mount::with_policy(&allowed());
        let resilience = mount.start().await;
        let givers = Givers::default();
        // One that has always more to say stands for a download.
        let endless = futures::stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[0; 1024])));
        let app = Router::new()
            .route("/", streaming(&givers))
            .route("/spared", streaming(&givers))
            .route("/endless", get(|| async { Body::from_stream(endless) }))
            .layer(resilience.server_layer());
        let url = format!("http://{}", serve(app).await);
        let http = reqwest::Client::new();
        let mut answers = Vec::new();
        for (path, client, cut) in [
            ("/", "shop/peer", true),
            ("/endless", "shop/peer", true),
            ("/", "shop/other", cuts_other),
            ("/spared", "shop/other", false),
        ] {
            let asked = http.get(format!("{url}{path}")).header("valerix-client", client);
            let mut answer = asked.send().await.unwrap();
            assert!(answer.chunk().await.unwrap().is_some());
            answers.push((path, client, cut, answer));
        }
        begin(&mut mount, &resilience, fault).await;
        let (cut, kept): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(_, _, cut, _)| *cut);
        for (path, client, _, mut answer) in cut {
            let end = loop {
                match soon(answer.chunk()).await {
                    Ok(Some(_)) => {}
                    end => break end,
                }
            };
            assert!(end.is_err(), "{kind:?}: {path} of {client} ended well");
        }
        give_all(&givers);
        for (path, client, _, mut answer) in kept {
            let piece = soon(answer.chunk()).await.unwrap().unwrap();
            assert_eq!(&piece[..], b"second", "{kind:?}: {path} of {client}");
        }
    }
}

#[tokio::test]
async fn a_request_under_way_is_cut_off_from_the_peer_alone_and_so_is_its_body() {
    let mut mount = Mount::with_policy(&allowed());
    let resilience = mount.start().await;
    let (told, mut ends) = unbounded_channel();
    let handler = move |headers: http::HeaderMap, body: Body| async move {
        let read = body.collect().await;
        let client = headers["valerix-client"].to_str().unwrap().to_owned();
        told.send((client, read.is_ok())).unwrap();
        "read"
    };
    let app = Router::new().route("/", post(handler)).layer(resilience.server_layer());
    let url = format!("http://{}", serve(app).await);
    let mut uploads = Vec::new();
    for client in ["shop/peer", "shop/other"] {
        let (give, body) = stream();
        let request = reqwest::Client::new().post(&url).header("valerix-client", client);
        let sent = tokio::spawn(request.body(reqwest::Body::wrap_stream(body.into_data_stream())).send());
        uploads.push((give, sent));
    }
    eventually("both are handled", || resilience.tasks().len() == 2).await;
    begin(
        &mut mount,
        &resilience,
        partition(PartitionDirection::Ingress, "shop/peer"),
    )
    .await;
    let (peers, peer) = uploads.remove(0);
    assert_eq!(soon(ends.recv()).await.unwrap(), ("shop/peer".to_owned(), false));
    let broken = match soon(peer).await.unwrap() {
        Ok(answer) => answer.bytes().await.is_err(),
        Err(_) => true,
    };
    assert!(broken);
    assert_eq!(resilience.report().faults[0].hits, Some(1));
    drop(peers);
    let (others, other) = uploads.remove(0);
    drop(others);
    assert_eq!(soon(ends.recv()).await.unwrap(), ("shop/other".to_owned(), true));
    assert_eq!(soon(other).await.unwrap().unwrap().text().await.unwrap(), "read");
}

/// A server that answers nothing, and counts the requests that it reads.
async fn silent(seen: &Seen) -> String {
    let seen = seen.clone();
    let handler = move |headers: http::HeaderMap| async move {
        seen.note(&headers);
        std::future::pending::<()>().await;
    };
    format!("http://{}", serve(Router::new().fallback(handler)).await)
}

#[tokio::test]
async fn a_call_under_way_is_cut_off_and_may_have_acted() {
    for scope in [BreakerScope::Target, BreakerScope::Host] {
        let settings = policy(|policy, target| {
            policy.chaos.admission = Admission::Allowed;
            target.retry.budget.min_per_second = 1_000;
            target.circuit_breaker.minimum_requests = 1_000;
            target.circuit_breaker.scope = scope;
        });
        let mut mount = Mount::with_policy(&settings);
        let resilience = mount.start().await;
        let seen = Seen::default();
        let url = silent(&seen).await;
        let upstream = resilience.client("upstream").url(&url).build().unwrap();
        let other = resilience.client("other").url(&url).build().unwrap();
        let (write, read) = (upstream.post("/"), upstream.get("/"));
        let (write, read) = (tokio::spawn(write.send()), tokio::spawn(read.send()));
        let other = tokio::spawn(other.get("/").send());
        eventually("all are sent", || seen.count() == 3).await;
        begin(
            &mut mount,
            &resilience,
            partition(PartitionDirection::Egress, "upstream"),
        )
        .await;
        let error = soon(write).await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Reset { attempts: 1, .. }), "{error}");
        let error = soon(read).await.unwrap().unwrap_err();
        assert!(
            matches!(error, CallError::Connect { .. }),
            "what it repeats never leaves: {error}"
        );
        assert!(error.may_have_acted(), "{error}");
        assert_eq!(seen.count(), 3);
        assert!(!other.is_finished());
        other.abort();
    }
}

/// The addresses are as good as before: that nobody was to be reached is no word about any of them.
#[tokio::test]
async fn calls_that_are_cut_under_way_eject_no_address() {
    let settings = policy(|policy, target| {
        policy.chaos.admission = Admission::Allowed;
        target.retry.max_attempts = 1;
        target.circuit_breaker.minimum_requests = 1_000;
    });
    let mut mount = Mount::with_policy(&settings);
    let resilience = mount.start().await;
    let (seen, quick) = (Seen::default(), Seen::default());
    let noted = quick.clone();
    let silent: std::net::SocketAddr = silent(&seen).await["http://".len()..].parse().unwrap();
    let answers = get(move |headers: http::HeaderMap| async move { noted.note(&headers).to_string() });
    let answering = serve(Router::new().route("/", answers)).await;
    let client = resilience.client("upstream").url("http://upstream.test");
    let client = client.resolver(vec![silent, answering]).build().unwrap();
    let mut calls = Vec::new();
    while seen.count() < 20 {
        calls.push(tokio::spawn(client.get("/").send()));
        tokio::task::yield_now().await;
    }
    begin(
        &mut mount,
        &resilience,
        partition(PartitionDirection::Egress, "upstream"),
    )
    .await;
    for call in calls {
        let _ = soon(call).await.unwrap();
    }
    mount.faults = Some(valerix_resilience::policy::Faults::default().render());
    mount.publish();
    eventually("the partition ends", || resilience.report().faults.is_empty()).await;
    let (before, mut calls) = (seen.count(), Vec::new());
    let asked = async {
        while seen.count() == before {
            calls.push(tokio::spawn(client.get("/").send()));
            tokio::task::yield_now().await;
        }
    };
    soon(asked).await;
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn bodies_of_a_call_are_cut_off_both_ways() {
    let mut mount = Mount::with_policy(&allowed());
    let resilience = mount.start().await;
    let givers = Givers::default();
    let (told, mut ends) = unbounded_channel();
    let takes = post(move |body: Body| async move {
        told.send(None).unwrap();
        told.send(Some(body.collect().await.is_ok())).unwrap();
    });
    let app = Router::new().route("/", streaming(&givers)).route("/upload", takes);
    let url = format!("http://{}", serve(app).await);
    let upstream = resilience.client("upstream").url(&url).build().unwrap();
    let other = resilience.client("other").url(&url).build().unwrap();
    let mut download = upstream.get("/").send().await.unwrap();
    let mut kept = other.get("/").send().await.unwrap();
    for answer in [&mut download, &mut kept] {
        assert_eq!(&answer.chunk().await.unwrap().unwrap()[..], b"first");
    }
    let (_give, body) = stream();
    let upload = upstream
        .post("/upload")
        .stream(reqwest::Body::wrap_stream(body.into_data_stream()));
    let upload = tokio::spawn(upload.send());
    assert_eq!(soon(ends.recv()).await.unwrap(), None, "it is on its way");
    begin(&mut mount, &resilience, partition(PartitionDirection::Both, "upstream")).await;
    let error = soon(upload).await.unwrap().unwrap_err();
    assert!(error.may_have_acted(), "{error}");
    assert_eq!(
        soon(ends.recv()).await.unwrap(),
        Some(false),
        "whoever was called reads no end"
    );
    let error = soon(download.chunk()).await.unwrap_err();
    assert!(
        matches!(&error, CallError::Body { cause, .. } if cause.contains("partition")),
        "{error}"
    );
    give_all(&givers);
    assert!(download.chunk().await.is_err(), "it stays cut");
    assert_eq!(&soon(kept.chunk()).await.unwrap().unwrap()[..], b"second");
}

#[tokio::test]
async fn the_layer_cuts_calls_and_bodies_of_any_client() {
    let mut mount = Mount::with_policy(&allowed());
    let resilience = mount.start().await;
    let (give, body) = stream();
    let body = Arc::new(Mutex::new(Some(body)));
    let inner = tower::service_fn(move |request: http::Request<String>| {
        let body = body.lock().unwrap().take();
        async move {
            match body {
                Some(body) if request.uri().path() == "/" => Ok(http::Response::new(body)),
                _ => std::future::pending::<Result<_, std::io::Error>>().await,
            }
        }
    });
    let mut service = resilience.client_layer("upstream").layer(inner);
    let request = |method: &str, path: &str| {
        let request = http::Request::builder().method(method).uri(path);
        request.body(String::new()).unwrap()
    };
    let mut answer = service.call(request("GET", "/")).await.unwrap().into_body();
    assert!(answer.frame().await.unwrap().is_ok());
    let waiting = tokio::spawn(service.call(request("POST", "/waits")));
    eventually("both are under way", || resilience.report().limits[0].in_use == 2).await;
    begin(
        &mut mount,
        &resilience,
        partition(PartitionDirection::Egress, "upstream"),
    )
    .await;
    let error = soon(waiting).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Reset { .. }), "{error}");
    give.send(Ok(Bytes::from_static(b"second"))).unwrap();
    assert!(soon(answer.frame()).await.unwrap().is_err());
    assert_eq!(resilience.report().limits[0].in_use, 0, "their places are free");
}

/// Without consent no fault begins, and a fault that is over cuts nothing that came later.
#[tokio::test]
async fn what_no_fault_cuts_goes_on() {
    let mut mount = Mount::with_policy(&policy(|_, _| {}));
    let resilience = mount.start().await;
    let givers = Givers::default();
    let app = Router::new()
        .route("/", streaming(&givers))
        .layer(resilience.server_layer());
    let url = format!("http://{}", serve(app).await);
    let mut answer = reqwest::get(&url).await.unwrap();
    mount.faults = Some(faults("run", refuse(), "60s").render());
    mount.publish();
    eventually("it is refused", || resilience.report().faults.len() == 1).await;
    mount.policy = Some(allowed().render());
    mount.faults = Some(faults("short", refuse(), "50ms").render());
    mount.publish();
    let is_over = || {
        let report = resilience.report();
        let fault = report.faults.first();
        fault.is_some_and(|fault| fault.run == "short" && fault.state == FaultState::Ended)
    };
    eventually("it is over", is_over).await;
    let mut later = reqwest::get(&url).await.unwrap();
    for answer in [&mut answer, &mut later] {
        assert!(answer.chunk().await.unwrap().is_some());
    }
    resilience.apply_policy(allowed().render().as_bytes()).unwrap();
    give_all(&givers);
    for mut answer in [answer, later] {
        let piece = tokio::time::timeout(Duration::from_secs(20), answer.chunk()).await;
        assert_eq!(&piece.unwrap().unwrap().unwrap()[..], b"second");
    }
}
