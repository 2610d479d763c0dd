//! Documents that are refused, and what is said of them.

mod refused;
mod unlikely;

use serde_json::{Value, json};

use super::*;

/// What is said to the routes of the shop after `change`.
fn refusal(change: impl FnOnce(&mut Value)) -> String {
    let mut document = serde_json::to_value(Gateway::of_the_shop()).unwrap();
    change(&mut document);
    match Gateway::parse(document.to_string().as_bytes()) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_target_may_be_one_of_https() {
    for target in [
        json!({"name": "auth", "url": "https://auth"}),
        json!({"name": "auth", "url": "https://auth:8443", "tls": {}}),
        json!({"name": "auth", "url": "https://10.0.0.1", "tls": {"caBundle": "/ca/bundle.pem", "serverName": "auth.shop"}}),
        json!({"name": "auth", "url": "https://auth", "protocol": "HTTP", "tls": {"serverName": "10.0.0.1"}}),
    ] {
        assert_eq!(
            refusal(|document| document["targets"][0] = target.clone()),
            "",
            "{target}"
        );
    }
}

#[test]
fn what_browsers_could_not_understand_is_refused() {
    let cors = |cors: Value| refusal(|document| document["routes"][0]["cors"] = cors);
    for good in [
        json!({"origins": ["*"]}),
        json!({"origins": ["https://shop.example", "http://localhost:5173", "http://[::1]:8080"]}),
        json!({"origins": ["https://a"], "methods": ["GET"], "headers": [], "exposedHeaders": [], "credentials": true, "maxAge": "0s"}),
    ] {
        assert_eq!(cors(good.clone()), "", "{good}");
    }
    for (bad, message) in [
        (json!({}), "routes[0].cors: missing field `origins`"),
        (
            json!({"origins": []}),
            "routes[0].cors.origins is empty: name at least one origin",
        ),
        (
            json!({"origins": ["*", "https://a"]}),
            "cors.origins[0] is *: write * alone",
        ),
        (
            json!({"origins": ["*"], "credentials": true}),
            "cors.origins[0] is *: name the origins",
        ),
        (
            json!({"origins": ["https://a/"]}),
            "cors.origins[0] is https://a/: write scheme://host",
        ),
        (json!({"origins": ["https://A"]}), "cors.origins[0] is https://A"),
        (
            json!({"origins": ["https://a:443"]}),
            "cors.origins[0] is https://a:443",
        ),
        (json!({"origins": ["https://a:"]}), "cors.origins[0] is https://a:"),
        (json!({"origins": ["https://b@a"]}), "cors.origins[0] is https://b@a"),
        (json!({"origins": ["https://*.a"]}), "cors.origins[0] is https://*.a"),
        (json!({"origins": ["null"]}), "cors.origins[0] is null"),
        (json!({"origins": ["a"]}), "cors.origins[0] is a"),
        (json!({"origins": [""]}), "cors.origins[0] is "),
        (
            json!({"origins": vec!["https://a"; 17]}),
            "cors.origins is 17: list at most 16",
        ),
        (json!({"origins": ["*"], "methods": ["get"]}), "cors.methods[0] is get"),
        (json!({"origins": ["*"], "headers": ["*"]}), "cors.headers[0] is *"),
        (json!({"origins": ["*"], "headers": ["X-A"]}), "cors.headers[0] is X-A"),
        (
            json!({"origins": ["*"], "exposedHeaders": ["x a"]}),
            "cors.exposedHeaders[0] is x a",
        ),
        (
            json!({"origins": ["*"], "maxAge": "25h"}),
            "cors.maxAge is 25h: use 0s to 24h",
        ),
    ] {
        let said = cors(bad.clone());
        assert!(said.contains(message), "{bad}: {said}");
    }
}

#[test]
fn lists_have_their_bounds() {
    let many = |pointer: &'static str, count: usize| {
        refusal(|document| {
            let list = document.pointer_mut(pointer).unwrap().as_array_mut().unwrap();
            let one = list[0].clone();
            list.resize(count, one);
        })
    };
    assert!(many("/targets", 65).contains("targets is 65: list at most 64"));
    assert!(many("/dashboard/parts", 17).contains("dashboard.parts is 17: list at most 16"));
    let too_many = (0..10_001).map(|number| {
        json!({"name": format!("r{number}"), "match": {"pathPrefix": format!("/r{number}")}, "target": "auth"})
    });
    let said = refusal(|document| document["routes"] = too_many.collect());
    assert!(said.contains("routes is 10001: list at most 10000"), "{said}");
}

#[test]
fn two_routes_that_a_request_fits_alike_are_refused() {
    let second = |matches: Value| {
        refusal(|document| {
            let mut route = document["routes"][2].clone();
            (route["name"], route["match"]) = (json!("twin"), matches);
            document["routes"].as_array_mut().unwrap().push(route);
        })
    };
    assert!(second(json!({"pathPrefix": "/api/orders"})).contains("a request can fit this and orders alike"));
    for different in [
        json!({"pathPrefix": "/api/orders/export"}),
        json!({"pathPrefix": "/api/orders", "host": "a"}),
        json!({"pathPrefix": "/api/orders", "methods": ["GET"]}),
        json!({"pathPrefix": "/api/orders", "headers": [{"name": "x-canary", "value": "1"}]}),
    ] {
        assert_eq!(second(different.clone()), "", "{different}");
    }
    let by_method = |one: Value, other: Value| {
        refusal(|document| {
            document["routes"][0]["match"] = one;
            document["routes"][1]["match"] = other;
        })
    };
    let (get, both) = (
        json!({"pathPrefix": "/a", "methods": ["GET"]}),
        json!({"pathPrefix": "/a", "methods": ["GET", "PUT"]}),
    );
    assert!(by_method(get.clone(), both).contains("alike"));
    assert_eq!(by_method(get, json!({"pathPrefix": "/a", "methods": ["PUT"]})), "");
}
