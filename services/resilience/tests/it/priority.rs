//! A request's priority goes along with the calls that its handler makes.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::{HeaderMap, Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use valerix_resilience::policy::{Concurrency, Priorities, Priority, RoutePriority};
use valerix_resilience::{CurrentPriority, PRIORITY_HEADER, ResilientClient};

use crate::support::{policy, serve, with_policy};

fn claimed(headers: &HeaderMap) -> String {
    let value = headers.get(PRIORITY_HEADER).and_then(|value| value.to_str().ok());
    value.unwrap_or("none").to_owned()
}

/// Asks the service further down, and says what that one was told.
async fn suggestions(State(below): State<ResilientClient>) -> String {
    let ask = async |request: valerix_resilience::RequestBuilder| request.send().await.unwrap().text().await.unwrap();
    let inherited = ask(below.get("/")).await;
    let said = ask(below.get("/").priority(Priority::Critical)).await;
    format!("{inherited} {said}")
}

#[tokio::test]
async fn calls_hand_on_the_priority_of_the_request_that_they_serve() {
    let below = Router::new().fallback(|headers: HeaderMap| async move { claimed(&headers) });
    let below = serve(below).await;
    let document = policy(|policy, _| {
        let route = RoutePriority {
            route: "GET /suggestions".to_owned(),
            priority: Priority::BestEffort,
        };
        policy.inbound.concurrency = Some(Concurrency {
            priorities: Some(Priorities {
                routes: vec![route],
                ..Priorities::default()
            }),
            ..Concurrency::default()
        });
    });
    let resilience = with_policy(&document).await;
    let client = resilience
        .client("upstream")
        .url(format!("http://{below}"))
        .build()
        .unwrap();
    let app = Router::new()
        .route("/suggestions", get(suggestions))
        .route("/orders", get(suggestions))
        .with_state(client.clone())
        .layer(resilience.server_layer());
    let above = serve(app).await;
    let ask = async |path: &str| {
        // What a stranger claims is not passed on.
        let request = reqwest::Client::new().get(format!("http://{above}{path}"));
        let answer = request.header(PRIORITY_HEADER, "Critical").send().await.unwrap();
        answer.text().await.unwrap()
    };
    assert_eq!(ask("/suggestions").await, "BestEffort Critical");
    assert_eq!(ask("/orders").await, "none Critical");

    let answer = CurrentPriority::scope(Priority::Sheddable, client.get("/").send()).await;
    assert_eq!(answer.unwrap().text().await.unwrap(), "Sheddable");
    assert_eq!(client.get("/").send().await.unwrap().text().await.unwrap(), "none");
}

#[tokio::test]
async fn a_request_that_is_passed_on_has_the_priority_that_was_decided_for_it() {
    let resilience = valerix_resilience::Resilience::builder().start().await.unwrap();
    let inner = service_fn(|request: Request<String>| async move {
        let answer = Response::builder().header("claimed", claimed(request.headers()));
        Ok::<_, std::io::Error>(answer.body(String::new()).unwrap())
    });
    let service = resilience.client_layer("below").layer(inner);
    for (decided, expected) in [
        (None, "Critical"),
        (Some(Priority::Default), "none"),
        (Some(Priority::Sheddable), "Sheddable"),
    ] {
        let mut request = Request::get("http://below.test/").body(String::new()).unwrap();
        request
            .headers_mut()
            .insert(PRIORITY_HEADER, "Critical".parse().unwrap());
        if let Some(priority) = decided {
            request.extensions_mut().insert::<Priority>(priority);
        }
        let answer = service.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.headers()["claimed"], expected, "{decided:?}");
    }
}
