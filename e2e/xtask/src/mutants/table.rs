//! The tables of mutants, and that they fit the sources. Reads files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;

use crate::failure::WithRemedy;
use crate::steps::Log;
use crate::workspace;

const TABLES: [&str; 4] = ["operator", "chaos", "backup", "shop"];
const PAGE: &str = "docs/mutants.md";
/// Fewer would be a table that somebody has emptied.
const LEAST: usize = 12;
const REMEDY: &str = "mend the mutant in e2e/mutants: its text is to stand in its file once, and its test to be there";

/// One mistake, and who has to notice it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mutant {
    pub(super) name: String,
    /// What the careless hand did, in a sentence.
    pub(super) mistake: String,
    pub(super) file: String,
    /// Stands once in the file.
    pub(super) text: String,
    /// What stands there instead.
    pub(super) becomes: String,
    pub(super) package: String,
    /// The test program; without it the tests of the library.
    pub(super) program: Option<String>,
    /// The function that has to fail.
    pub(super) test: String,
}

impl Mutant {
    /// The file with the mistake in it.
    pub(super) fn planted(&self, whole: &str) -> Result<String> {
        let found = whole.matches(&self.text).count();
        ensure!(found == 1, "{} has the text of {} {found} times", self.file, self.name);
        ensure!(self.text != self.becomes, "{} changes nothing", self.name);
        Ok(whole.replace(&self.text, &self.becomes))
    }
}

/// That every mutant can be planted, that its test is there, and that the page of the documentation names it.
///
/// # Errors
/// When a table cannot be read, is short, or does not fit the sources any more.
pub fn check(checkout: &Path, log: &Log) -> Result<()> {
    let (mut all, mut wrong, mut sources) = (0, 0, BTreeMap::new());
    let page = fs::read_to_string(checkout.join(PAGE)).with_context(|| format!("failed to read {PAGE}"))?;
    for name in TABLES {
        let mutants = read(checkout, name)?;
        ensure!(mutants.len() >= LEAST, "the table {name} has {} mutants", mutants.len());
        for mutant in &mutants {
            all += 1;
            let told = page.contains(&format!("| `{}` |", mutant.name));
            let told = told.then_some(()).with_context(|| format!("{PAGE} does not name it"));
            if let Err(error) = told.and_then(|()| stands(checkout, mutant, &mut sources)) {
                wrong += 1;
                log.say(&format!("{name}, {}: {error:#}", mutant.name));
            }
        }
    }
    if wrong > 0 {
        return Err(anyhow!("{wrong} of {all} mutants do not fit the sources")).remedy(REMEDY);
    }
    log.say(&format!("{all} mutants can be planted"));
    Ok(())
}

fn stands(checkout: &Path, mutant: &Mutant, sources: &mut BTreeMap<String, String>) -> Result<()> {
    let file = fs::read_to_string(checkout.join(&mutant.file));
    mutant.planted(&file.with_context(|| format!("failed to read {}", mutant.file))?)?;
    if !sources.contains_key(&mutant.package) {
        let mut text = String::new();
        gather(&checkout.join(member(checkout, &mutant.package)?), &mut text)?;
        sources.insert(mutant.package.clone(), text);
    }
    let is_there = sources[&mutant.package].contains(&format!("fn {}(", mutant.test));
    ensure!(is_there, "{} has no test {}", mutant.package, mutant.test);
    Ok(())
}

/// Every Rust source below a folder.
fn gather(folder: &Path, text: &mut String) -> Result<()> {
    let failed = || format!("failed to read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        if path.is_dir() && !path.ends_with("target") {
            gather(&path, text)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).with_context(failed)?);
        }
    }
    Ok(())
}

/// The folder of a package of the workspace.
pub(super) fn member(checkout: &Path, package: &str) -> Result<String> {
    let folder = package.trim_start_matches("valerix-");
    let mut members = workspace::members(checkout)?.into_iter();
    let found = members.find(|member| member.rsplit('/').next() == Some(folder));
    found.with_context(|| format!("the workspace has no package {package}"))
}

pub(super) fn read(checkout: &Path, name: &str) -> Result<Vec<Mutant>> {
    ensure!(TABLES.contains(&name), "there is no table {name:?}: see `make help`");
    let failed = || format!("failed to read the table {name}");
    let text = fs::read_to_string(checkout.join(format!("e2e/mutants/{name}.yaml"))).with_context(failed)?;
    let mutants: Vec<Mutant> = serde_yaml::from_str(&text).with_context(failed)?;
    let names: BTreeSet<_> = mutants.iter().map(|mutant| &mutant.name).collect();
    ensure!(names.len() == mutants.len(), "two mutants of {name} have one name");
    Ok(mutants)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_fit_the_sources() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create(folder.path().join("log")).unwrap();
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        check(&checkout, &log).unwrap();
    }

    fn mutant(text: &str, test: &str) -> Mutant {
        Mutant {
            name: "one".into(),
            mistake: String::new(),
            file: "operator/src/lib.rs".into(),
            text: text.into(),
            becomes: "b".into(),
            package: "valerix-operator".into(),
            program: None,
            test: test.into(),
        }
    }

    #[test]
    fn a_mutant_stands_where_its_text_is_once_and_its_test_is_there() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("operator/src")).unwrap();
        fs::write(folder.path().join("Cargo.toml"), "members = [\"operator\"]").unwrap();
        fs::write(folder.path().join("operator/src/lib.rs"), "a cc fn it_holds() {}").unwrap();
        let stands = |text, test| {
            let stands = stands(folder.path(), &mutant(text, test), &mut BTreeMap::new());
            stands.map_err(|error| error.to_string())
        };
        assert_eq!(stands("a ", "it_holds"), Ok(()));
        assert!(stands("c", "it_holds").unwrap_err().contains("2 times"));
        assert!(stands("x", "it_holds").unwrap_err().contains("0 times"));
        assert!(stands("a ", "it").unwrap_err().contains("no test it"));
    }
}
