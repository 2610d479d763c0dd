//! The environment of the service.

use std::collections::HashSet;

use clap::Parser;
use serde::Deserialize;
use valerix_kit::args::{BusArgs, DatabaseArgs, ServiceArgs};

use crate::stock::ItemId;

/// Stock of the shop.
#[derive(Parser, Clone, Debug)]
#[command(version, mut_arg("listen_address", |arg| arg.default_value("0.0.0.0:3002")))]
#[command(mut_arg("service", |arg| arg.default_value("inventory")))]
pub struct Config {
    /// What every service reads.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Its database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Its events.
    #[command(flatten)]
    pub bus: BusArgs,
    /// Items to insert if absent: [{"id": "ps5", "quantity": 1000, "unitPriceMinor": 49900, "currency": "EUR"}]
    #[arg(long, env = "INVENTORY_ITEMS", default_value = "[]", value_parser = parse_items)]
    pub items: Seeds,
}

/// Items to insert if absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seeds(pub Vec<Seed>);

/// One item to insert if absent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Seed {
    /// Its id.
    pub id: ItemId,
    /// Pieces there are at first, 0 to 1,000,000,000.
    pub quantity: i64,
    /// Price of one piece in the currency's smallest unit, e.g. cents; 1 to 1,000,000,000.
    pub unit_price_minor: i64,
    /// ISO 4217, e.g. `EUR`.
    pub currency: String,
}

fn parse_items(text: &str) -> Result<Seeds, String> {
    let seeds: Vec<Seed> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut known = HashSet::new();
    for seed in &seeds {
        let id = seed.id.as_str();
        if !known.insert(id) {
            return Err(format!("{id} is given twice: give each item one entry"));
        }
        if !(0..=1_000_000_000).contains(&seed.quantity) {
            return Err(format!("quantity of {id} must be 0 to 1000000000"));
        }
        if !(1..=1_000_000_000).contains(&seed.unit_price_minor) {
            return Err(format!("unitPriceMinor of {id} must be 1 to 1000000000"));
        }
        if seed.currency.len() != 3 || !seed.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(format!("currency of {id} must be three capitals, e.g. EUR"));
        }
    }
    Ok(Seeds(seeds))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the schema of the chart's values has something against `inventory.items`.
    fn chart_refuses(items: &str) -> bool {
        let schema = include_str!("../../../charts/valerix-shop/values.schema.json");
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        let entry = &schema["properties"]["inventory"]["properties"]["items"]["items"];
        let items: Vec<serde_json::Value> = serde_json::from_str(items).unwrap();
        let schemas = valerix_kit::testing::values::Schemas(&schema);
        items.iter().any(|item| !schemas.violations(entry, item).is_empty())
    }

    #[test]
    fn items_are_read_as_the_chart_writes_them() {
        let text = r#"[{"id": "ps5", "quantity": 1000, "unitPriceMinor": 49900, "currency": "EUR"}]"#;
        assert!(!chart_refuses(text));
        let seeds = parse_items(text).unwrap();
        assert_eq!(
            (seeds.0[0].id.as_str(), seeds.0[0].quantity, seeds.0[0].unit_price_minor),
            ("ps5", 1000, 49900)
        );
    }

    #[test]
    fn a_bad_item_is_refused_with_the_field() {
        for (text, named) in [
            (
                r#"[{"id": "a b", "quantity": 1, "unitPriceMinor": 1, "currency": "EUR"}]"#,
                "item_id",
            ),
            (
                r#"[{"id": "a", "quantity": -1, "unitPriceMinor": 1, "currency": "EUR"}]"#,
                "quantity",
            ),
            (
                r#"[{"id": "a", "quantity": 5000000000, "unitPriceMinor": 1, "currency": "EUR"}]"#,
                "quantity",
            ),
            (
                r#"[{"id": "a", "quantity": 1, "unitPriceMinor": 1, "currency": "EUR"},
                    {"id": "a", "quantity": 2, "unitPriceMinor": 1, "currency": "EUR"}]"#,
                "twice",
            ),
            (
                r#"[{"id": "a", "quantity": 1, "unitPriceMinor": 0, "currency": "EUR"}]"#,
                "unitPriceMinor",
            ),
            (
                r#"[{"id": "a", "quantity": 1, "unitPriceMinor": 1, "currency": "eur"}]"#,
                "currency",
            ),
            (
                r#"[{"id": "a", "quantity": 1, "unitPrice": 1, "currency": "EUR"}]"#,
                "unitPrice",
            ),
        ] {
            let error = parse_items(text).unwrap_err();
            assert!(error.contains(named), "{error}");
            // The chart refuses it before that, by its schema or, an item that is there twice, by its template.
            assert_ne!(chart_refuses(text), named == "twice", "{text}");
        }
    }
}
