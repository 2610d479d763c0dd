//! Mutants: mistakes that a careless hand could make, planted one at a time in a copy of the checkout. For each the test that
//! is named beside it must fail, else nobody would notice the mistake. The tables are in `e2e/mutants`.

mod table;

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

pub use self::table::check;
use self::table::{Mutant, member, read};
use crate::command::Program;
use crate::failure::Shown;
use crate::interrupt;
use crate::paths::Paths;
use crate::services::Services;
use crate::steps::{Log, Steps};
use crate::tools::debian;
use crate::workspace;

/// A test that runs for longer hangs. Unit: seconds.
const PATIENCE: &str = "300";
/// The one package whose tests need no server.
const OPERATOR: &str = "valerix-operator";

/// Which mutants.
#[derive(Debug, clap::Args)]
pub struct Choice {
    /// A table: operator, chaos, backup or shop.
    #[arg(long)]
    pub name: String,
    /// Only this one of it.
    #[arg(long)]
    pub only: Option<String>,
}

/// Tries every mutant of a table, also after one has survived.
///
/// # Errors
/// When there is no such mutant, one survives, or its test does not pass without it.
pub fn run(paths: &Paths, choice: &Choice) -> Result<()> {
    let mut mutants = read(&paths.checkout, &choice.name)?;
    mutants.retain(|mutant| choice.only.as_ref().is_none_or(|only| *only == mutant.name));
    ensure!(!mutants.is_empty(), "there is no mutant {:?}", choice.only);
    let mut steps = Steps::begin(paths.logs("mutants"))?;
    let copy = Paths {
        checkout: paths.cache.join("mutants/checkout"),
        cargo_target: paths.cache.join("mutants/target"),
        cache: paths.cache.clone(),
    };
    let (_claim, services) = steps.run("Copying the checkout, starting servers", |log| {
        let claim = workspace::claim(&copy, log)?;
        refresh(&paths.checkout, &copy.checkout, log)?;
        let needs_servers = mutants.iter().any(|mutant| mutant.package != OPERATOR);
        if needs_servers {
            debian::install(debian::SERVICES, log)?;
        }
        let services = needs_servers.then(|| Services::start(log)).transpose()?;
        Ok((claim, services))
    })?;
    let room = Room { copy, services };
    steps.run("Without a mutant every test passes", |log| room.all_pass(&mutants, log))?;
    for mutant in &mutants {
        interrupt::check()?;
        // A step tells its failure itself.
        drop(steps.run(&format!("{}: {}", mutant.name, mutant.mistake), |log| {
            room.is_caught(mutant, log)
        }));
    }
    println!("\n{}", steps.summary());
    let (all, missed) = (mutants.len(), steps.failures());
    println!("mutants: {} of {all} caught", all - missed);
    if missed > 0 { Err(Shown.into()) } else { Ok(()) }
}

/// Where mutants live.
struct Room {
    copy: Paths,
    services: Option<Services>,
}

impl Room {
    fn all_pass(&self, mutants: &[Mutant], log: &Log) -> Result<()> {
        let mut programs = BTreeMap::new();
        for mutant in mutants {
            let program = match programs.entry((&mutant.package, &mutant.program)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(self.compile(mutant, log)?),
            };
            let (said, outcome) = self.test(mutant, program, log)?;
            outcome.with_context(|| format!("{} fails without a mutant", mutant.test))?;
            let ran = said
                .lines()
                .any(|line| line.starts_with("test ") && line.ends_with(" ok"));
            ensure!(ran, "no test {} ran", mutant.test);
        }
        Ok(())
    }

    fn is_caught(&self, mutant: &Mutant, log: &Log) -> Result<()> {
        let path = self.copy.checkout.join(&mutant.file);
        let whole = fs::read_to_string(&path).with_context(|| format!("failed to read {}", mutant.file))?;
        let write = |text: &str| fs::write(&path, text).with_context(|| format!("failed to write {}", mutant.file));
        write(&mutant.planted(&whole)?)?;
        let program = self.compile(mutant, log);
        write(&whole)?;
        let (said, outcome) = self.test(mutant, &program.context("the mutant does not compile")?, log)?;
        log.say(&format!("caught: {}", verdict(&said, outcome)?));
        Ok(())
    }

    /// What the test said, and whether it passed.
    fn test(&self, mutant: &Mutant, program: &Path, log: &Log) -> Result<(String, Result<()>)> {
        let mut test = Program::new("timeout")
            .args(["--kill-after=10", PATIENCE])
            .arg(program)
            .arg(&mutant.test)
            .in_folder(self.folder(mutant)?);
        if let Some(services) = &self.services {
            test = test
                .env("TEST_DATABASE_URL", &services.database_url)
                .env("TEST_REDIS_URL", &services.redis_url);
        }
        let mut said = String::new();
        let outcome = test.read_seeing(log, |line| said.push_str(line));
        log.write_line(&said);
        Ok((said, outcome.map(drop)))
    }

    /// The test program. cargo may be another program, as for cargo itself.
    fn compile(&self, mutant: &Mutant, log: &Log) -> Result<PathBuf> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let target = match &mutant.program {
            None => vec!["--lib"],
            Some(program) => vec!["--test", program],
        };
        let messages = Program::new(cargo)
            .args([
                "test",
                "--no-run",
                "--locked",
                "--message-format=json-render-diagnostics",
            ])
            .args(["--package", &mutant.package, "--target-dir"])
            .arg(&self.copy.cargo_target)
            .args(target)
            .in_folder(&self.copy.checkout)
            .read(log)?;
        let artifacts = workspace::parse(&messages);
        let tests = artifacts.tests_of(&self.folder(mutant)?);
        Ok(tests.first().context("cargo made no test program")?.path.clone())
    }

    fn folder(&self, mutant: &Mutant) -> Result<PathBuf> {
        Ok(self.copy.checkout.join(member(&self.copy.checkout, &mutant.package)?))
    }
}

/// How the test noticed. Only a failed assertion counts: what hangs or is killed says nothing about why.
fn verdict(said: &str, outcome: Result<()>) -> Result<String> {
    let Err(error) = outcome else {
        bail!("the mutant survives: the test passes");
    };
    let panicked = said.lines().find(|line| line.contains(" panicked at "));
    match panicked {
        Some(line) if said.contains("\ntest result: FAILED") => Ok(line.trim().to_owned()),
        _ => Err(error.context("no assertion failed: the test hangs, or its program was killed")),
    }
}

/// Makes `copy` what git knows of the checkout, with what is not committed. What is the same is left alone, so that cargo
/// compiles only what changed.
fn refresh(checkout: &Path, copy: &Path, log: &Log) -> Result<()> {
    let listed = Program::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .in_folder(checkout)
        .read(log)?;
    let there = |file: &&str| checkout.join(file).is_file();
    let files: BTreeSet<&str> = listed.split('\0').filter(there).collect();
    for file in &files {
        let (from, to) = (checkout.join(file), copy.join(file));
        if fs::read(&from).ok() != fs::read(&to).ok() {
            fs::create_dir_all(to.parent().unwrap_or(copy)).with_context(|| format!("failed to copy {file}"))?;
            fs::copy(&from, &to).with_context(|| format!("failed to copy {file}"))?;
        }
    }
    let list = copy.with_extension("files");
    let before = fs::read_to_string(&list).unwrap_or_default();
    for gone in before.split('\0').filter(|file| !files.contains(file)) {
        drop(fs::remove_file(copy.join(gone)));
    }
    fs::write(&list, listed).context("failed to note what was copied")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn only_a_failed_assertion_is_a_catch() {
        let failed = || Err(anyhow!("ended with status 101"));
        let said = "thread 'a' panicked at b.rs:1:1:\nleft\ntest result: FAILED. 0 passed; 1 failed";
        assert_eq!(verdict(said, failed()).unwrap(), "thread 'a' panicked at b.rs:1:1:");
        assert!(verdict("\ntest result: ok. 1 passed", Ok(())).is_err());
        assert!(verdict("running 1 test\n", failed()).is_err(), "it hangs");
    }

    #[test]
    fn a_copy_follows_the_checkout_and_keeps_what_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (checkout, copy) = (folder.path().join("checkout"), folder.path().join("copy"));
        let log = Log::create(folder.path().join("log")).unwrap();
        fs::create_dir_all(checkout.join("in")).unwrap();
        let git = Program::new("git").args(["init", "--quiet"]);
        git.in_folder(&checkout).run(&log).unwrap();
        let write = |name: &str, text: &str| fs::write(checkout.join(name), text).unwrap();
        write("same", "a");
        write("in/gone", "b");
        refresh(&checkout, &copy, &log).unwrap();
        let written = || fs::metadata(copy.join("same")).unwrap().modified().unwrap();
        let before = written();
        fs::remove_file(checkout.join("in/gone")).unwrap();
        write("new", "c");
        refresh(&checkout, &copy, &log).unwrap();
        assert_eq!(before, written());
        assert!(!copy.join("in/gone").exists());
        assert_eq!(fs::read_to_string(copy.join("new")).unwrap(), "c");
    }
}
