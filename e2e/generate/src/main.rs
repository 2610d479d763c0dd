//! Writes every generated file of the project, or with `--check` compares them byte by byte.
//!
//! In: the Rust types and tables. Out: `crds/*.yaml`, the chart's copy of them and its rules, `examples/*.yaml`,
//! `docs/reference.md`, `docs/reasons.md`, `docs/metrics.md`, rules and boards for Prometheus and Grafana, the JSON Schemas of the library's documents and the OpenAPI document of its report.

mod definitions;
mod examples;
mod observability;
mod reasons;
mod reference;
mod refusals;
mod rights;
mod schemas;
mod shown;
mod yaml;

use anyhow::{Context, Result, bail};
use clap::Parser;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Writes the generated files of the project.
#[derive(Parser)]
struct Arguments {
    /// Compare instead of writing; exit with 1 and name the files that differ.
    #[arg(long)]
    check: bool,
    /// The project's folder.
    #[arg(long, default_value = ".")]
    root: PathBuf,
}

/// Folders in which a file that nothing generates any more is an error, with the extension of generated files.
const OWNED_FOLDERS: [(&str, &str); 6] = [
    ("crds", "yaml"),
    ("charts/valerix/templates/crds", "yaml"),
    ("examples", "yaml"),
    ("examples/chaos", "yaml"),
    ("examples/workloads", "yaml"),
    (schemas::FOLDER, "json"),
];

/// Path below the root, and content.
type Files = BTreeMap<PathBuf, String>;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let files = generate()?;
    let stale = stale(&arguments.root, &files)?;
    if arguments.check {
        check(&arguments.root, &files, &stale)
    } else {
        write(&arguments.root, &files, &stale)
    }
}

fn generate() -> Result<Files> {
    let definitions = valerix_crds::schema::custom_resource_definitions().context("failed to build the CRDs")?;
    let mut files = Files::new();
    files.extend(definitions::files(&definitions)?);
    files.extend(examples::files()?);
    files.extend(observability::files()?);
    files.extend(reasons::files());
    files.extend(reference::files(&definitions)?);
    files.extend(rights::files());
    files.extend(schemas::files());
    Ok(files)
}

/// Generated files that lie there although nothing makes them any more.
fn stale(root: &Path, files: &Files) -> Result<Vec<PathBuf>> {
    let mut stale = Vec::new();
    for (folder, kind) in OWNED_FOLDERS.into_iter().chain(observability::FOLDERS) {
        let Ok(entries) = fs::read_dir(root.join(folder)) else {
            continue;
        };
        for entry in entries {
            let path = Path::new(folder).join(entry?.file_name());
            if path.extension().is_some_and(|extension| extension == kind) && !files.contains_key(&path) {
                stale.push(path);
            }
        }
    }
    Ok(stale)
}

fn check(root: &Path, files: &Files, stale: &[PathBuf]) -> Result<()> {
    let mut wrong: Vec<String> = stale
        .iter()
        .map(|path| format!("{} is not generated any more", path.display()))
        .collect();
    for (path, wanted) in files {
        match fs::read_to_string(root.join(path)) {
            Ok(found) if found == *wanted => {}
            Ok(found) => wrong.push(format!(
                "{} differs: {}",
                path.display(),
                first_difference(&found, wanted)
            )),
            Err(error) => wrong.push(format!("{}: {error}", path.display())),
        }
    }
    if wrong.is_empty() {
        println!("{} generated files are up to date", files.len());
        return Ok(());
    }
    bail!(
        "generated files are out of date; run `make generate` and commit the result:\n  {}",
        wrong.join("\n  ")
    )
}

fn first_difference(found: &str, wanted: &str) -> String {
    let line = found
        .lines()
        .zip(wanted.lines())
        .position(|(found, wanted)| found != wanted);
    match line {
        Some(index) => format!(
            "line {}: has `{}`, wants `{}`",
            index + 1,
            found.lines().nth(index).unwrap_or_default().trim(),
            wanted.lines().nth(index).unwrap_or_default().trim()
        ),
        None => format!("has {} lines, wants {}", found.lines().count(), wanted.lines().count()),
    }
}

fn write(root: &Path, files: &Files, stale: &[PathBuf]) -> Result<()> {
    for path in stale {
        fs::remove_file(root.join(path)).with_context(|| format!("failed to remove {}", path.display()))?;
    }
    for (path, content) in files {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
        }
        fs::write(&path, content).with_context(|| format!("failed to write {}", path.display()))?;
    }
    println!("wrote {} files", files.len());
    Ok(())
}
