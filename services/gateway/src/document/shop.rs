//! The routes of the reference shop. Pure.

use super::{Auth, AuthType, Dashboard, Gateway, Match, Part, Protocol, Route, TargetAddress, VERSION};
use super::{default_idle_timeout, default_max_body_bytes};
use crate::policy::TARGETS;

/// Prefix and target of each route, by its name. Who may ask what is known best by the services, which verify the token
/// again: here one that is sent must be good, so that nothing else gets as far as them.
const ROUTES: [(&str, &str, &str); 9] = [
    ("auth", "/auth", "auth"),
    ("keys", "/.well-known/jwks.json", "auth"),
    ("orders", "/api/orders", "order"),
    ("inventory", "/api/inventory", "inventory"),
    ("payments", "/payments", "payment"),
    ("notifications", "/notifications", "notification"),
    ("analytics", "/analytics", "analytics"),
    ("chaos", "/api/admin/chaos", "inventory"),
    ("reconciliation", "/api/admin/reconciliation", "payment"),
];

const PARTS: [(&str, &str, &str); 5] = [
    ("user", "auth", "/auth/me"),
    ("orders", "order", "/api/orders"),
    ("payments", "payment", "/payments"),
    ("stock", "inventory", "/api/inventory"),
    ("analytics", "analytics", "/analytics/summary"),
];

pub(super) fn routes() -> Gateway {
    Gateway {
        version: VERSION,
        targets: TARGETS
            .map(|(name, url)| TargetAddress {
                name: name.to_owned(),
                url: url.to_owned(),
                protocol: Protocol::Http,
                tls: None,
            })
            .into(),
        routes: ROUTES
            .map(|(name, prefix, target)| route(name, prefix, target))
            .into_iter()
            .chain(TARGETS.into_iter().flat_map(|(target, _)| documents(target)))
            .collect(),
        dashboard: Dashboard {
            parts: PARTS
                .map(|(name, target, path)| Part {
                    name: name.to_owned(),
                    target: target.to_owned(),
                    path: path.to_owned(),
                })
                .into(),
            ..Dashboard::default()
        },
    }
}

/// The page on which a service describes itself, and the document to which that page leads. For everybody: nothing is in
/// them that a client must not know.
fn documents(target: &str) -> [Route; 2] {
    [("docs", "/docs"), ("openapi", "/openapi.json")].map(|(kind, place)| {
        let prefix = format!("/services/{target}{place}");
        let mut route = route(&format!("{kind}-{target}"), &prefix, target);
        route.matches.methods = vec!["GET".to_owned()];
        route.rewrite_prefix = Some(place.to_owned());
        route.auth.auth_type = AuthType::None;
        route
    })
}

fn route(name: &str, prefix: &str, target: &str) -> Route {
    // Auth is where an expired token is changed for another one.
    let auth_type = if target == "auth" {
        AuthType::None
    } else {
        AuthType::Optional
    };
    Route {
        name: name.to_owned(),
        matches: Match {
            path_prefix: prefix.to_owned(),
            ..Match::default()
        },
        rewrite_prefix: None,
        target: target.to_owned(),
        auth: Auth {
            auth_type,
            roles: Vec::new(),
        },
        cors: None,
        max_body_bytes: default_max_body_bytes(),
        idle_timeout: default_idle_timeout(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_a_route_of_its_own() {
        for (target, _) in TARGETS {
            assert!(
                ROUTES.iter().any(|(_, _, of)| *of == target),
                "no route leads to {target}"
            );
        }
    }
}
