//! Puts the console together: clients, board, tasks, ports. Nothing here waits for the API server: a console that can not
//! see says so.

use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::middleware::from_fn;
use kube::Config as ClusterConfig;
use kube::client::ClientBuilder;
use prometheus::IntGauge;
use valerix_kit::service::{Server, Service, StartError};

use crate::board::Board;
use crate::config::Config;
use crate::people::{Clients, Sessions};
use crate::places::Places;
use crate::state::AppState;
use crate::{asking, follow, headers, pulse, routes};

/// Nothing may stay silent for longer: a watch ends after ten seconds in any case.
const READ_TIMEOUT: Duration = Duration::from_secs(15);
const USER_AGENT: &str = concat!("valerix-console/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the gateway may take for an order; its own deadline is shorter.
const HTTP_TIMEOUT: Duration = Duration::from_secs(20);

/// Clients for the cluster that this process is in, or that its kubeconfig names.
///
/// # Errors
/// When there is none, or its certificates can not be used.
pub async fn clients() -> Result<Clients, StartError> {
    async {
        let mut config = ClusterConfig::infer()
            .await
            .context("failed to find a cluster to show")?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        // Which program asks shows in the API server's audit log, beside the person.
        config
            .headers
            .push((http::header::USER_AGENT, http::HeaderValue::from_static(USER_AGENT)));
        let mut nobody = config.clone();
        nobody.auth_info = kube::config::AuthInfo::default();
        // Who commands decides whether to try again.
        nobody.default_retry = false;
        let client = |config| {
            anyhow::Ok(
                ClientBuilder::try_from(config)
                    .context("failed to make a client")?
                    .build(),
            )
        };
        Ok(Clients {
            own: client(config)?,
            nobody: client(nobody)?,
        })
    }
    .await
    .map_err(|error: anyhow::Error| StartError::Setting {
        setting: "the kubeconfig",
        source: error.into(),
    })
}

/// The console on its ports, ready to run.
///
/// # Errors
/// When the configuration is wrong or a port is taken; never because the API server is late.
pub async fn build(config: Config, clients: Clients) -> Result<Server, StartError> {
    let service = Service::new(&config.service).await?;
    // An address of a pod is asked as it is: no proxy, no redirection to somewhere else.
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(HTTP_TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
        .map_err(|error| StartError::Setting {
            setting: "the settings of the HTTP client",
            source: error.into(),
        })?;
    let streams = IntGauge::new("console_streams", "Pages that follow").map_err(StartError::Metrics)?;
    service.metrics.register(streams.clone()).map_err(StartError::Metrics)?;
    let board = Board::default();
    follow::follow(&board, &clients.own, &config.namespaces(), &service.tasks);
    let (heard, asked, lease) = (board.clone(), clients.own.clone(), config.operator_lease);
    service.tasks.spawn_droppable("pulse", move || {
        pulse::watch(heard.clone(), asked.clone(), lease.clone())
    });
    let (watched, client) = (board.clone(), http.clone());
    service
        .tasks
        .spawn_droppable("vitals", move || asking::watch(watched.clone(), client.clone()));
    let state = AppState {
        board,
        clients,
        sessions: Sessions::new(config.session_lifetime, config.secure_cookie),
        anonymous_read: config.anonymous_read,
        gateway: config.gateway_url,
        http,
        health: service.health.clone(),
        places: Places::new(streams),
    };
    // The library's layers bound the time of a request, and a page follows for hours; what a request here needs of time is
    // bounded by the clients of the API server and of the pods.
    let protect = |routes: Router| routes.layer(from_fn(headers::secure));
    service.bind_protected(routes::api().with_state(state), protect).await
}
