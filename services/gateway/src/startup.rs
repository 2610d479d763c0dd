//! Puts the gateway together: routes, edge, TLS, ports. Nothing here waits for a service behind.

use axum::Router;
use axum::middleware::from_fn_with_state;
use valerix_kit::service::{Server, Service, StartError};

use crate::config::Config;
use crate::edge::{self, Edge, EdgeFront, admit_own};
use crate::policy;
use crate::reload::Routes;
use crate::routes::{self, AppState, Forward};
use crate::tls::Certificates;

/// The gateway on its ports, ready to run.
///
/// # Errors
/// When the configuration is wrong or a port is taken; never because a service behind it is late.
pub async fn build(config: Config) -> Result<Server, StartError> {
    let service = Service::with_policy(&config.service, policy::compiled_in()).await?;
    let routes = Routes::start(&service, config.gateway_config, config.upstreams.into_iter().collect())?;
    let edge = Edge {
        routes: routes.clone(),
        identity: service.identity.clone(),
        trusted: config.trusted_proxies.into(),
    };
    let protect = service
        .resilience
        .server_layer()
        .trusted_proxies(edge.trusted.iter().copied())
        .claims(edge::claim);
    let certificates = Certificates::start(&service, &config.tls);
    let state = AppState {
        routes,
        replica: config.service.pod_name,
    };
    let forward = Forward(service.identity.clone());
    let around = |routes: Router| {
        let routes = routes.layer(protect.clone());
        routes.layer(from_fn_with_state(edge.clone(), admit_own))
    };
    let before = |own: Router, front| EdgeFront::new(edge.clone(), front, own, &protect, forward);
    let api = routes::api().with_state(state);
    let server = service.bind_behind(api, around, before).await?;
    match certificates {
        Some(certificates) => {
            server
                .secured(config.tls.tls_listen_address, certificates.handshake())
                .await
        }
        None => Ok(server),
    }
}
