//! The server on the wire: HTTP/1.1 on loopback, for clients in processes of their own.

use super::{FakeApi, failure, path, respond};
use axum::{Router, body::Body, extract::Request, response::Response, serve::ListenerExt};
use futures::StreamExt;
use http::StatusCode;
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// Takes connections for as long as this is kept.
pub struct Served {
    pub address: SocketAddr,
    _serving: AbortOnDropHandle<std::io::Result<()>>,
}

impl FakeApi {
    /// Serves at a free port.
    pub async fn serve(&self) -> Served {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        // A line of a watch is sent as soon as there is one.
        let listener = listener.tap_io(|connection| connection.set_nodelay(true).unwrap());
        let api = self.clone();
        let router = Router::new().fallback(move |request: Request| {
            let api = api.clone();
            async move { api.over_the_wire(request).await }
        });
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Served {
            address,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// A watch ends when its client asked for that; a request that is to be lost is one that failed.
    async fn over_the_wire(&self, request: Request) -> Response {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let answered = self.answer(request).await;
        let response = answered.unwrap_or_else(|error| {
            let status = failure(500, "InternalError", &error.to_string());
            respond(StatusCode::INTERNAL_SERVER_ERROR, &status)
        });
        let seconds = path::parameter(&query, "timeoutSeconds").and_then(|seconds| seconds.parse().ok());
        let Some(seconds) = seconds.filter(|_| query.contains("watch=true")) else {
            return response;
        };
        response.map(|body| {
            let end = tokio::time::sleep(Duration::from_secs(seconds));
            Body::from_stream(body.into_data_stream().take_until(Box::pin(end)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{
        Api, Client, Config,
        api::{Patch, PatchParams, WatchEvent, WatchParams},
    };
    use serde_json::{Value, json};

    const MAPS: &str = "/api/v1/namespaces/shop/configmaps";

    fn map(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
    }

    #[tokio::test]
    async fn whoever_comes_by_http_finds_the_same_objects_and_is_told_of_the_same_changes() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let api = FakeApi::default();
        api.create(MAPS, map("first"));
        let served = api.serve().await;
        let config = Config::new(format!("http://{}", served.address).parse().unwrap());
        let maps: Api<ConfigMap> = Api::namespaced(Client::try_from(config).unwrap(), "shop");
        let list = maps.list(&Default::default()).await.unwrap();
        assert_eq!(list.items.len(), 1);

        let since = list.metadata.resource_version.unwrap();
        let mut watched = Box::pin(maps.watch(&WatchParams::default(), &since).await.unwrap());
        let apply = PatchParams::apply("test");
        maps.patch("second", &apply, &Patch::Apply(map("second")))
            .await
            .unwrap();
        assert_eq!(api.get(&format!("{MAPS}/second")).unwrap()["data"]["a"], "1");
        let Some(WatchEvent::Added(second)) = watched.try_next().await.unwrap() else {
            panic!("nobody told of it");
        };
        assert_eq!(second.metadata.name.as_deref(), Some("second"));
        // As long as was asked for, and nothing is new by then.
        let since = second.metadata.resource_version.unwrap();
        let short = maps.watch(&WatchParams::default().timeout(1), &since).await.unwrap();
        let told: Vec<_> = short.try_collect().await.unwrap();
        assert!(told.is_empty(), "{told:?}");
        let missing = maps.get_opt("third").await.unwrap();
        assert!(missing.is_none());
    }

    /// Clients that stream a list begin so, and list where that is refused.
    #[tokio::test]
    async fn a_list_is_not_streamed() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let api = FakeApi::default();
        let served = api.serve().await;
        let url = format!(
            "http://{}{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
            served.address
        );
        let answer = reqwest::get(url).await.unwrap();
        assert_eq!(answer.status(), 422);
        let status: Value = answer.json().await.unwrap();
        assert_eq!(
            (&status["kind"], &status["reason"]),
            (&json!("Status"), &json!("Invalid"))
        );
    }
}
