use serde_json::json;

use super::*;

async fn table() -> Table {
    let route = |name: &str, matches: serde_json::Value, rewrite: Option<&str>| json!({"name": name, "match": matches, "rewritePrefix": rewrite, "target": "a"});
    let document = json!({"version": 1, "targets": [{"name": "a", "url": "http://127.0.0.1:1"}], "routes": [
        route("root", json!({"pathPrefix": "/"}), None),
        route("orders", json!({"pathPrefix": "/api/orders"}), None),
        route("exports", json!({"pathPrefix": "/api/orders/export"}), Some("/")),
        route("posts", json!({"pathPrefix": "/api/orders", "methods": ["POST"]}), None),
        route("old", json!({"pathPrefix": "/api/orders", "host": "old.example"}), Some("/v0/orders")),
        route("canary", json!({"pathPrefix": "/api/orders", "headers": [{"name": "x-canary", "value": "1"}]}), None),
    ]});
    let resilience = Resilience::builder().start().await.unwrap();
    let parsed = Gateway::parse(document.to_string().as_bytes()).unwrap();
    Table::new(parsed, &resilience, &Overrides::new(), &Table::default())
}

#[tokio::test]
async fn the_route_that_says_most_counts() {
    let table = table().await;
    let find = |method: Method, host: &'static str, path: &str, canary: bool| {
        let mut headers = HeaderMap::new();
        if canary {
            headers.insert("x-canary", "1".parse().unwrap());
        }
        let route = table
            .find(&method, path, &Authority::from_static(host), &headers)
            .unwrap();
        let rewritten = route.rewrite(&format!("{path}?a=b").parse().unwrap()).to_string();
        format!("{} {rewritten}", route.name)
    };
    let (get, post) = (Method::GET, Method::POST);
    for (method, host, path, canary, expected) in [
        (&get, "shop", "/", false, "root /?a=b"),
        (&get, "shop", "/api/ordersx", false, "root /api/ordersx?a=b"),
        (&get, "shop", "/api/orders", false, "orders /api/orders?a=b"),
        (&get, "shop", "/api/orders/7", false, "orders /api/orders/7?a=b"),
        (&get, "shop", "/api/orders/7", true, "canary /api/orders/7?a=b"),
        (&post, "shop", "/api/orders", true, "posts /api/orders?a=b"),
        (&post, "OLD.example:80", "/api/orders/7", true, "old /v0/orders/7?a=b"),
        (&get, "shop", "/api/orders/export", false, "exports /?a=b"),
        (&get, "old.example", "/api/orders/export/x", false, "exports /x?a=b"),
    ] {
        assert_eq!(
            find(method.clone(), host, path, canary),
            expected,
            "{method} {host}{path}"
        );
    }
}

#[test]
fn a_target_that_nobody_routes_to_is_told() {
    let document = json!({"version": 1, "targets": [{"name": "a", "url": "http://127.0.0.1:1"}], "routes": []});
    let document = Gateway::parse(document.to_string().as_bytes()).unwrap().document;
    let placed = ["a", "rating"].map(|name| (name.to_owned(), Uri::from_static("http://127.0.0.1:1")));
    assert_eq!(unknown(&document, &placed.into_iter().collect()), ["rating"]);
}

#[test]
fn a_path_has_few_prefixes() {
    let of = |path, longest| prefixes(path, longest).collect::<Vec<_>>();
    assert_eq!(of("/", 9), ["/"]);
    assert_eq!(of("/a", 9), ["/a", "/"]);
    assert_eq!(of("/a/bc/d", 9), ["/a/bc/d", "/a/bc", "/a", "/"]);
    assert_eq!(of("/a/", 9), ["/a/", "/a", "/"]);
    assert_eq!(of("/a/bc/d", 3), ["/a", "/"], "nobody has a longer one");
    assert_eq!(of(&"/a".repeat(30_000), 4), ["/a/a", "/a", "/"]);
}

#[tokio::test]
async fn a_route_that_says_what_it_said_is_the_one_that_it_was() {
    let resilience = Resilience::builder().start().await.unwrap();
    let table = |document: &serde_json::Value, former: &Table| {
        let parsed = Gateway::parse(document.to_string().as_bytes()).unwrap();
        Table::new(parsed, &resilience, &Overrides::new(), former)
    };
    let route = |name: &str, matches| json!({"name": name, "match": matches, "target": "a"});
    let document = json!({"version": 1, "targets": [{"name": "a", "url": "http://127.0.0.1:1"}], "routes": [
        route("any", json!({"pathPrefix": "/a"})),
        route("own", json!({"pathPrefix": "/a", "host": "own.example"})),
    ]});
    let first = table(&document, &Table::default());
    let mut headers = HeaderMap::new();
    headers.insert("x-canary", "1".parse().unwrap());
    let is_kept = |second: &Table| {
        ["shop", "own.example"].map(|host| {
            let host = Authority::from_static(host);
            let [before, now] = [&first, second].map(|table| table.find(&Method::GET, "/a", &host, &headers).unwrap());
            Arc::ptr_eq(before, now)
        })
    };
    assert_eq!(is_kept(&table(&document, &first)), [true, true]);
    for (field, value) in [
        ("name", json!("other")),
        ("match", json!({"pathPrefix": "/a", "methods": ["GET"]})),
        (
            "match",
            json!({"pathPrefix": "/a", "headers": [{"name": "x-canary", "value": "1"}]}),
        ),
        ("rewritePrefix", json!("/b")),
        ("auth", json!({"type": "Optional"})),
        ("cors", json!({"origins": ["*"]})),
        ("maxBodyBytes", json!(7)),
        ("idleTimeout", json!("7s")),
    ] {
        let mut changed = document.clone();
        changed["routes"][0][field] = value;
        assert_eq!(is_kept(&table(&changed, &first)), [false, true], "{field}");
    }
    let mut moved = document.clone();
    moved["targets"][0]["url"] = json!("http://127.0.0.1:2");
    assert_eq!(is_kept(&table(&moved, &first)), [false, false], "it leads elsewhere");
}

#[tokio::test]
async fn a_target_that_stays_where_it_is_keeps_its_connections() {
    let former = table().await;
    let resilience = Resilience::builder().start().await.unwrap();
    let again = |url: &str, protocol: &str| {
        let target = json!({"name": "a", "url": url, "protocol": protocol});
        let document = json!({"version": 1, "targets": [target], "routes": []});
        let parsed = Gateway::parse(document.to_string().as_bytes()).unwrap();
        Table::new(parsed, &resilience, &Overrides::new(), &former)
    };
    let same = |table: &Table| table.upstream("a").unwrap().is_same(former.upstream("a").unwrap());
    assert!(same(&again("http://127.0.0.1:1", "HTTP")));
    assert!(!same(&again("http://127.0.0.1:2", "HTTP")));
    assert!(!same(&again("http://127.0.0.1:1", "H2C")));
}
