//! Names between backquotes: what the documentation calls by a name of the code must be a name of the code, so that nobody
//! looks for a metric, a reason or a field that is not there. Pure but for [`Names::read`].

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::schema::Schemas;

/// Where the project's own names come from.
const SOURCES: [&str; 6] = ["crds", "operator", "services", "charts", "e2e", "examples"];
/// This check, whose own tests call things that are not there.
const HERE: &str = "xtask/src/documents";
const EXTENSIONS: [&str; 11] = [
    "rs", "yaml", "json", "tpl", "go", "ts", "tsx", "mjs", "sql", "toml", "sh",
];
/// Names that stand for others: of a reader's own, and endings of ours.
const EXAMPLES: [&str; 5] = [
    "VALERIX_TARGET_STOCK_LEDGER_URL",
    "VALERIX_TARGET_STOCK_LEDGER_ADDR",
    "lastNames",
    "card_2",
    "_inflight",
];
/// Endings of files, and of hosts in a cluster.
const FILES: [&str; 20] = [
    "rs", "md", "yaml", "yml", "json", "ts", "tsx", "mjs", "dump", "sql", "zst", "crt", "key", "svc", "sh", "toml",
    "go", "log", "txt", "css",
];

/// Every word of the sources.
pub struct Names {
    words: BTreeSet<String>,
    metrics: BTreeSet<String>,
}

impl Names {
    /// Reads the sources of a checkout.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(checkout: &Path) -> Result<Self> {
        let mut words = BTreeSet::new();
        for folder in SOURCES {
            collect(&checkout.join(folder), &mut words)?;
        }
        add(
            &fs::read_to_string(checkout.join("Makefile")).context("failed to read Makefile")?,
            &mut words,
        );
        let page = fs::read_to_string(checkout.join("docs/metrics.md")).context("failed to read docs/metrics.md")?;
        // A row of the table is a metric, with its labels in braces.
        let rows = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next());
        Ok(Self {
            words,
            metrics: rows.map(str::to_owned).collect(),
        })
    }

    /// Why a name between backquotes is none; nothing where it is one, or no name at all.
    #[must_use]
    pub fn wrong(&self, schemas: &Schemas, span: &str) -> Option<String> {
        let is = |letters: fn(char) -> bool| !span.is_empty() && span.chars().all(letters);
        if span.contains('.') && is(|letter| letter.is_ascii_alphanumeric() || ".[]".contains(letter)) {
            return self.path(schemas, span);
        }
        if !is(|letter| letter.is_ascii_alphanumeric() || letter == '_') || EXAMPLES.contains(&span) {
            return None;
        }
        let measured = ["_total", "_seconds", "_bytes", "_bucket", "_count", "_sum"]
            .iter()
            .any(|end| span.ends_with(end));
        if measured && span.starts_with(|letter: char| letter.is_ascii_lowercase()) {
            let base = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|end| span.strip_suffix(end));
            let known = self.metrics.contains(span)
                || base.is_some_and(|base| self.metrics.contains(base))
                || self.words.contains(span);
            return (!known).then(|| format!("docs/metrics.md has no {span}"));
        }
        let compound = span.contains('_') || span.chars().skip(1).any(|letter| letter.is_ascii_uppercase());
        // Environment variables are read by the names of fields.
        let known = self.words.contains(span) || self.words.contains(&span.to_lowercase());
        (compound && !known).then(|| format!("nothing in the sources is called {span}"))
    }

    /// A path of fields, which begins with a small letter and is no file.
    fn path(&self, schemas: &Schemas, span: &str) -> Option<String> {
        let parts: Vec<&str> = span.split('.').collect();
        let is_field = |part: &&str| {
            let name = part.trim_end_matches("[]");
            name.starts_with(|letter: char| letter.is_ascii_lowercase())
                && name.chars().all(|letter| letter.is_ascii_alphanumeric())
        };
        let is_file = parts.last().is_some_and(|last| FILES.contains(last));
        // `a.b` of a program in Rust is no field of ours: it is looked for as a whole in the sources' words.
        let ours = parts.iter().all(is_field) && !is_file;
        (ours
            && !schemas.has_path(span)
            && !parts
                .iter()
                .all(|part| part.chars().all(|letter| letter.is_ascii_lowercase()) && self.words.contains(*part)))
        .then(|| format!("no schema has the path {span}"))
    }
}

fn collect(folder: &Path, words: &mut BTreeSet<String>) -> Result<()> {
    let failed = || format!("failed to read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.')
            || crate::links::FOREIGN.contains(&name.as_str())
            || path.is_symlink()
            || path.ends_with(HERE)
        {
            continue;
        }
        if path.is_dir() {
            collect(&path, words)?;
        } else if EXTENSIONS
            .iter()
            .any(|extension| path.extension().is_some_and(|found| found == *extension))
        {
            add(
                &fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?,
                words,
            );
        }
    }
    Ok(())
}

fn add(text: &str, words: &mut BTreeSet<String>) {
    let found = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    for word in found.filter(|word| !word.is_empty()) {
        if !words.contains(word) {
            words.insert(word.to_owned());
        }
    }
}
