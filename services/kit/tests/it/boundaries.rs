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
            assert!(
                !dependencies.contains(&forbidden)
                    || manifest.contains(&format!("{forbidden} = {{ workspace = true, optional = true }}")),
                "{name} depends on {forbidden}"
            );
        }
        let mut files = Vec::new();
        sources(&folder.join("src"), &mut files);
        // What tests share is not in a service.
        for file in files.iter().filter(|file| !is_shared_by_tests(file)) {
            let text = read(file);
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
    let kit = migrations("kit");
    let idempotency = read(&services().join("resilience/src/idempotency/schema.sql"));
    assert_eq!(idempotency, valerix_resilience::idempotency::SCHEMA);
    let mut with_outbox = 0;
    for name in names() {
        let own = migrations(&name);
        if own.iter().any(|(_, text)| text.contains("TABLE outbox")) {
            with_outbox += 1;
            for (file, text) in &kit {
                assert!(
                    own.iter().any(|(_, copy)| copy == text),
                    "{name} has no copy of the kit's {file}"
                );
            }
        }
        for (file, text) in own.iter().filter(|(_, text)| text.contains("TABLE idempotency_keys (")) {
            let (origin, copy) = text.split_once('\n').unwrap();
            assert!(
                origin.contains("valerix_resilience::idempotency::SCHEMA"),
                "{name}: {file}"
            );
            assert!(copy == idempotency, "{name}: {file} differs from the library's");
        }
    }
    assert!(with_outbox > 1, "{with_outbox} services have an outbox");
}

/// (name, text) of a crate's migrations, in their order.
fn migrations(name: &str) -> Vec<(String, String)> {
    let Ok(folder) = fs::read_dir(services().join(name).join("migrations")) else {
        return Vec::new();
    };
    let mut files: Vec<_> = folder
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), read(&path)))
        .collect();
    files.sort();
    files
}

fn is_shared_by_tests(file: &Path) -> bool {
    let testing = services().join("kit/src/testing");
    file.starts_with(&testing) || file == testing.with_extension("rs")
}
