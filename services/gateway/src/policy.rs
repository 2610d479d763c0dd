//! What protects the services behind the gateway, and the gateway itself, until a policy document says it. Pure.

use valerix_policy::{
    Duration, Idempotency, Inbound, LimitKey, LimitKeyType, LimitScope, Policy, RateLimit, RateLimitRule, Target,
    Timeouts,
};

/// The targets of the shop, and where they are in its namespace.
pub const TARGETS: [(&str, &str); 6] = [
    ("auth", "http://auth:3000"),
    ("order", "http://order:3001"),
    ("inventory", "http://inventory:3002"),
    ("payment", "http://payment:3003"),
    ("notification", "http://notification:3004"),
    ("analytics", "http://analytics:3006"),
];

/// Routes by which something is made, limited for each client.
const LIMITED: [(&str, &str); 2] = [("orders", "POST /api/orders"), ("payments", "POST /payments")];

/// The longest that a request may take until its answer begins; an upload of a large body may take as long.
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// 5 orders and 5 payments in 10 s for each client; a target that failed 3 times in a row is left alone for 10 s.
#[must_use]
pub fn compiled_in() -> Policy {
    let rules = LIMITED.map(|(name, route)| RateLimitRule {
        name: name.to_owned(),
        scope: LimitScope::Distributed,
        routes: vec![route.to_owned()],
        requests: 5,
        window: Duration::from_secs(10),
        burst: None,
        algorithm: None,
        key: Some(LimitKey {
            key_type: LimitKeyType::Claim,
            name: Some("sub".to_owned()),
        }),
    });
    Policy {
        inbound: Inbound {
            timeout: LONGEST,
            rate_limit: RateLimit { rules: rules.into() },
            idempotency: Idempotency {
                lock_timeout: Duration::from_secs(LONGEST.as_millis() / 1_000 + 60),
                ..Idempotency::default()
            },
            ..Inbound::default()
        },
        targets: TARGETS.iter().map(|(name, _)| target(name)).collect(),
        ..Policy::default()
    }
}

fn target(name: &str) -> Target {
    let mut target = Target::named(name);
    target.circuit_breaker.consecutive_failures = Some(3);
    target.circuit_breaker.open_duration = Duration::from_secs(10);
    target.timeout = Timeouts {
        request: Duration::from_secs(10),
        // More than the 2 s that order takes for reserving and charging together.
        attempt: Duration::from_secs(4),
        connect: Duration::from_secs(1),
    };
    // At the edge there is always somebody to whom a connection that was just closed happens.
    target.retry.budget.min_per_second = 10;
    target.bulkhead.max_concurrent = 500;
    target.idempotent_routes = match name {
        "order" => vec!["POST /api/orders".to_owned()],
        "payment" => vec!["POST /payments".to_owned(), "POST /payments/{id}/refund".to_owned()],
        _ => Vec::new(),
    };
    target
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The rows of the shop's services, as far as they matter here.
    #[derive(serde::Deserialize)]
    struct Row {
        port: u16,
        #[serde(default)]
        forwards: Vec<String>,
    }

    #[test]
    fn the_targets_are_the_services_that_the_shop_forwards_to() {
        let table = include_str!("../../../charts/valerix-shop/services.yaml");
        let rows: BTreeMap<String, Row> = serde_yaml::from_str(table).unwrap();
        let forwarded = rows["gateway"].forwards.iter();
        let expected: BTreeMap<_, _> = forwarded
            .map(|name| (name.clone(), format!("http://{name}:{}", rows[name].port)))
            .collect();
        let targets = TARGETS.map(|(name, url)| (name.to_owned(), url.to_owned()));
        assert_eq!(BTreeMap::from(targets), expected);
    }

    #[test]
    fn the_compiled_in_policy_is_a_good_one() {
        assert_eq!(compiled_in().violations(), []);
        let reread = Policy::parse(compiled_in().render().as_bytes()).unwrap();
        assert_eq!(reread.document, compiled_in());
    }
}
