//! What belongs to `valerix-resilience` is not built again here or in a service, and what each service copies of the
//! kit's and the library's schema is the same to the byte.

use std::fs;
use std::path::{Path, PathBuf};

/// Crates that do what the library does. With a client of its own a service would call past deadline, retry budget and
/// breaker; with one of the others it would build them again.
const FORBIDDEN_CRATES: [&str; 16] = [
    "backoff",
    "backon",
    "exponential-backoff",
    "failsafe",
    "governor",
    "hyper-rustls",
    "leaky-bucket",
    "moka",
    "reqwest",
    "reqwest-middleware",
    "reqwest-retry",
    "retry",
    "tokio-retry",
    "tower_governor",
    "tower-resilience",
    "ureq",
];

/// Text of code that does what the library does, and what to use instead.
const FORBIDDEN_CODE: [(&str, &str); 9] = [
    ("reqwest::", "Service::client"),
    ("hyper::client", "Service::client"),
    ("RetryLayer", "a target's retry block"),
    ("TimeoutLayer", "inbound.timeout"),
    ("RateLimitLayer", "inbound.rateLimit"),
    ("ConcurrencyLimitLayer", "inbound.concurrency"),
    ("pg_try_advisory", "valerix_resilience::idempotency"),
    ("idempotency_keys", "valerix_resilience::idempotency"),
    ("struct Backoff", "valerix_resilience::Backoff"),
];

fn services() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The shop's services: the keys of the chart's table.
fn names() -> Vec<String> {
    let table = read(&services().join("../charts/valerix-shop/services.yaml"));
    let rows = table.lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(|row| Some(row.split_once(':')?.0.to_owned())).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names in `[dependencies]`, what tests need aside.
fn dependencies(manifest: &str) -> Vec<&str> {
    let begun = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    begun
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn nothing_of_the_library_s_kind_is_built_again() {
    let mut looked_at = 0;
    let names = names();
    assert!(names.len() >= 4, "{names:?}");
    for name in names.iter().map(String::as_str).chain(["kit"]) {
        let folder = services().join(name);
        let manifest = read(&folder.join("Cargo.toml"));
        let dependencies = dependencies(&manifest);
        assert!(dependencies.len() > 5, "{name}: {dependencies:?}");
        for forbidden in FORBIDDEN_CRATES {
            assert!(!dependencies.contains(&forbidden), "{name} depends on {forbidden}");
        }
        let mut files = Vec::new();
        sources(&folder.join("src"), &mut files);
        for file in files {
            let text = read(&file);
            for (forbidden, instead) in FORBIDDEN_CODE {
                assert!(
                    !text.contains(forbidden),
                    "{}: {forbidden}: use {instead}",
                    file.display()
                );
            }
            looked_at += 1;
        }
    }
    assert!(looked_at > 50, "{looked_at} files");
}

/// A service's schema changes only by its own migrations, so it has copies. A copy that was edited would be a table that
/// the kit's statements do not know.
#[test]
fn the_services_tables_are_the_kit_s_and_the_library_s() {
    let outbox = read(&services().join("kit/migrations/outbox_inbox.sql"));
    let idempotency = read(&services().join("resilience/src/idempotency/schema.sql"));
    assert_eq!(idempotency, valerix_resilience::idempotency::SCHEMA);
    let mut copies = [0, 0];
    for name in names() {
        let folder = services().join(name).join("migrations");
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let text = read(&path);
            if text.contains("CREATE TABLE outbox") || text.contains("CREATE TABLE inbox") {
                assert!(text == outbox, "{} differs from the kit's", path.display());
                copies[0] += 1;
            }
            if text.contains("idempotency_keys (") {
                let (origin, copy) = text.split_once('\n').unwrap();
                assert!(
                    origin.contains("valerix_resilience::idempotency::SCHEMA"),
                    "{}",
                    path.display()
                );
                assert!(copy == idempotency, "{} differs from the library's", path.display());
                copies[1] += 1;
            }
        }
    }
    assert_eq!(copies, [3, 3], "inventory, order and payment have both");
}
