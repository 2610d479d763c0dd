//! Every public name is used in an example that compiles.

#[path = "../../../policy/tests/documentation/mod.rs"]
mod documentation;
#[path = "../../../policy/tests/full/mod.rs"]
mod full;

#[test]
fn every_public_name_is_used_in_an_example() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = documentation::names_without_example(folder, &["src/lib.rs", "src/layers/mod.rs"]);
    // What layers make is never written out by who uses them; and the documents are a crate of their own.
    let made = ["Service", "Future", "TargetBody", "ChosenAddress"];
    missing.retain(|name| !made.iter().any(|made| name.ends_with(made)) && name != "valerix_policy");
    assert!(missing.is_empty(), "no example uses {}", missing.join(", "));
}

/// The fuzzers begin with every field that a document can have.
#[test]
fn the_seed_of_the_fuzzers_is_the_document_with_every_field() {
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(
        json(include_str!("../../fuzz/seeds/documents/policy")),
        json(full::POLICY)
    );
}
