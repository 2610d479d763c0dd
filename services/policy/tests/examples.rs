//! Every public name is used in an example that compiles.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod documentation;

#[test]
fn every_public_name_is_used_in_an_example() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let missing = documentation::names_without_example(folder, &["src/lib.rs"]);
    assert!(missing.is_empty(), "no example uses {}", missing.join(", "));
}
