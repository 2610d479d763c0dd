//! Puts the gateway together: routes, edge, TLS, ports. Nothing here waits for a service behind.

use axum::Router;
use valerix_kit::service::{Server, Service, StartError};

use crate::config::Config;
use crate::edge::{self, Edge, EdgeLayer};
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
    let layer = EdgeLayer {
        edge,
        protect,
        forward: Forward(service.identity.clone()),
    };
    let protect = |routes: Router| routes.layer(layer);
    let server = service.bind_protected(routes::api().with_state(state), protect).await?;
    match certificates {
        Some(certificates) => {
            server
                .secured(config.tls.tls_listen_address, certificates.handshake())
                .await
        }
        None => Ok(server),
    }
}
