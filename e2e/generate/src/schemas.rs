//! What readers of other languages get of the library's documents and its report.

use crate::Files;
use std::path::{Path, PathBuf};
use valerix_policy::schema;

/// Where the schemas of the documents are.
pub const FOLDER: &str = "services/policy/schema";

pub fn files() -> Files {
    let documents = schema::documents().into_iter();
    let mut files: Files = documents
        .map(|(name, text)| (Path::new(FOLDER).join(name), text))
        .collect();
    // Beside the sources that serve it.
    files.insert(PathBuf::from("services/resilience/openapi.json"), schema::openapi());
    files
}
