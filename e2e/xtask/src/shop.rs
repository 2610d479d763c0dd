//! The table of the shop's services, and the environment of each of them where all of them run on one machine. Pure, but for
//! reading the table.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// Where the table is.
const TABLE: &str = "charts/valerix-shop/services.yaml";
/// What is for sale.
const ITEMS: &str = r#"[{"id":"ps5","quantity":1000,"unitPriceMinor":49900,"currency":"EUR"}]"#;
/// The admin whom auth knows from its start.
pub const ADMIN: &str = "admin@shop.example";
/// How far above a service's port its report is.
const REPORT_ABOVE: u16 = 6000;

/// One service.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Where its API listens.
    pub port: u16,
    /// Its own database.
    pub database: Option<String>,
    /// Whether it is on the event streams.
    #[serde(default)]
    bus: bool,
    /// Whom it asks in its own name.
    #[serde(default)]
    calls: Vec<String>,
    /// Whose requests from outside it passes on.
    #[serde(default)]
    forwards: Vec<String>,
}

impl Row {
    /// Where the API of the service is on this machine.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where its metrics and its report are.
    #[must_use]
    pub const fn report_port(&self) -> u16 {
        self.port + REPORT_ABOVE
    }
}

/// All services, by name.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Table(BTreeMap<String, Row>);

/// What services have in common on one machine.
pub struct Place<'a> {
    /// A superuser's URL of PostgreSQL without a database: `postgres://postgres@127.0.0.1:5432`.
    pub postgres: &'a str,
    /// Redis.
    pub redis: &'a str,
    /// From which every secret of this run is made; another one each time.
    pub secret: &'a str,
    /// A folder for the documents and the state of each service.
    pub folder: &'a Path,
}

impl Table {
    /// Reads it.
    ///
    /// # Errors
    /// When it is not there, or is none.
    pub fn read(checkout: &Path) -> Result<Self> {
        let text = fs::read_to_string(checkout.join(TABLE)).with_context(|| format!("failed to read {TABLE}"))?;
        serde_yaml::from_str(&text).with_context(|| format!("failed to read {TABLE}"))
    }

    /// Its rows, by name.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &Row)> {
        self.0.iter().map(|(name, row)| (name.as_str(), row))
    }

    /// Fails with the names that there are, if there is none of these.
    ///
    /// # Errors
    /// When a name is no service's.
    pub fn require(&self, names: &[String]) -> Result<()> {
        for name in names {
            let known: Vec<_> = self.0.keys().map(String::as_str).collect();
            ensure!(
                self.0.contains_key(name),
                "there is no service {name:?}; there are {}",
                known.join(", ")
            );
        }
        Ok(())
    }

    /// What the service `name` reads on this machine, as the chart gives it in a cluster.
    #[must_use]
    pub fn environment(&self, name: &str, row: &Row, place: &Place<'_>) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        let mut set = |variable: &str, value: String| environment.insert(variable.to_owned(), value);
        let folder = place.folder.join(name);
        set("LISTEN_ADDRESS", format!("127.0.0.1:{}", row.port));
        set("VALERIX_REPORT_PORT", row.report_port().to_string());
        set("VALERIX_SERVICE", name.to_owned());
        set("VALERIX_NAMESPACE", "shop".to_owned());
        set("VALERIX_POD_UID", name.to_owned());
        set("POD_NAME", format!("{name}-local"));
        set("VALERIX_POLICY_DIR", folder.join("policy").display().to_string());
        set("VALERIX_STATE_DIR", folder.join("state").display().to_string());
        set("LOG_FORMAT", "text".to_owned());
        // Nobody has to hear first that it goes away.
        set("DRAIN_WAIT", "0ms".to_owned());
        set("AUTH_URL", self.url("auth"));
        if let Some(database) = &row.database {
            set("DATABASE_URL", format!("{}/{database}", place.postgres));
        }
        if row.bus {
            set("REDIS_URL", place.redis.to_owned());
        }
        for callee in &row.calls {
            set(&format!("{}_URL", callee.to_uppercase()), self.url(callee));
        }
        let key = |caller: &str, callee: &str| format!("{}-{caller}-{callee}", place.secret);
        let pairs: Vec<_> = row
            .calls
            .iter()
            .map(|callee| format!("{callee}={}", key(name, callee)))
            .collect();
        if !pairs.is_empty() {
            set("CALL_KEYS", pairs.join(","));
        }
        let callers = self
            .rows()
            .filter(|(_, other)| other.calls.iter().any(|callee| callee == name));
        let pairs: Vec<_> = callers
            .map(|(caller, _)| format!("{caller}={}", key(caller, name)))
            .collect();
        if !pairs.is_empty() {
            set("CALLER_KEYS", pairs.join(","));
        }
        if !row.forwards.is_empty() {
            let upstreams: Vec<_> = row
                .forwards
                .iter()
                .map(|other| format!("{other}={}", self.url(other)))
                .collect();
            set("UPSTREAMS", upstreams.join(","));
            set("REDIS_LIMITS_URL", place.redis.to_owned());
        }
        match name {
            "auth" => {
                set("AUTH_KEY_SECRET", place.secret.to_owned());
                set("ADMIN_EMAIL", ADMIN.to_owned());
                set("ADMIN_PASSWORD", admin_password(place.secret).to_owned());
            }
            "inventory" => drop(set("INVENTORY_ITEMS", ITEMS.to_owned())),
            _ => {}
        }
        environment
    }

    fn url(&self, name: &str) -> String {
        self.0.get(name).map(Row::url).unwrap_or_default()
    }
}

/// The password of [`ADMIN`].
#[must_use]
pub fn admin_password(secret: &str) -> &str {
    secret.get(..16).unwrap_or(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        Table::read(&checkout).expect("the table of this checkout")
    }

    fn environments() -> BTreeMap<String, BTreeMap<String, String>> {
        let place = Place {
            postgres: "postgres://postgres@127.0.0.1:1",
            redis: "redis://127.0.0.1:2/",
            secret: "0123456789abcdef0123456789abcdef",
            folder: Path::new("/somewhere"),
        };
        let table = table();
        let of = |(name, row): (&str, &Row)| (name.to_owned(), table.environment(name, row, &place));
        table.rows().map(of).collect()
    }

    #[test]
    fn a_service_finds_whom_it_calls_and_both_know_the_key_of_the_pair() {
        let all = environments();
        assert_eq!(all["order"]["INVENTORY_URL"], "http://127.0.0.1:3002");
        assert_eq!(all["order"]["LISTEN_ADDRESS"], "127.0.0.1:3001");
        assert_eq!(all["order"]["DATABASE_URL"], "postgres://postgres@127.0.0.1:1/orders");
        assert!(!all["processor"].contains_key("REDIS_URL"), "it is not on the bus");
        let mut pairs = 0;
        for (caller, environment) in &all {
            for pair in environment
                .get("CALL_KEYS")
                .into_iter()
                .flat_map(|keys| keys.split(','))
            {
                let (callee, key) = pair.split_once('=').expect("a pair");
                assert!(key.len() >= 32, "{pair}");
                let callers = all[callee]["CALLER_KEYS"].split(',');
                assert!(
                    callers.into_iter().any(|known| known == format!("{caller}={key}")),
                    "{pair}"
                );
                pairs += 1;
            }
        }
        assert_eq!(pairs, 5, "gateway, notification, order twice, payment");
        assert!(all["gateway"]["UPSTREAMS"].contains("order=http://127.0.0.1:3001"));
    }

    #[test]
    fn no_two_listen_at_one_port() {
        let table = table();
        let mut ports: Vec<u16> = table
            .rows()
            .flat_map(|(_, row)| [row.port, row.report_port()])
            .collect();
        let all = ports.len();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), all);
    }

    #[test]
    fn an_unknown_service_is_refused_with_the_names_that_there_are() {
        let table = table();
        table.require(&["order".to_owned()]).expect("known");
        let error = table.require(&["orders".to_owned()]).expect_err("unknown").to_string();
        assert!(
            error.contains("\"orders\"") && error.contains("notification, order, payment"),
            "{error}"
        );
    }
}
