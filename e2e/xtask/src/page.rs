//! The console's page: built by Node before the console is compiled, which compiles it in. Nothing that is unchanged is
//! installed or built twice.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::command::Program;
use crate::failure::WithRemedy;
use crate::paths::Paths;
use crate::steps::Log;
use crate::tools::find;

/// What the page's libraries follow from.
const LIBRARIES: [&str; 3] = ["package.json", "package-lock.json", ".npmrc"];
/// What the page follows from, beside its libraries.
const SOURCES: [&str; 5] = ["index.html", "vite.config.ts", "tsconfig.json", "public", "src"];
/// Names the browser that looks at the page.
const BROWSER: &str = "CHROMIUM";
/// Browsers that can, by the names of their programs.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const REMEDY: &str = "install Node 20.19 or newer with npm: https://nodejs.org";

/// Builds the page unless it is there as it should be.
///
/// # Errors
/// When Node is not there, or the page can not be built.
pub fn build(paths: &Paths, log: &Log) -> Result<()> {
    let folder = folder(paths);
    let wanted = content(&folder, LIBRARIES.iter().chain(&SOURCES))?;
    let mark = mark(&folder, "page");
    let is_there = folder.join("dist/index.html").is_file();
    if is_there && fs::read_to_string(&mark).is_ok_and(|built| built == wanted) {
        log.say("the console's page: unchanged");
        return Ok(());
    }
    install(paths, log)?;
    npm(&folder, &["run", "build"]).run(log)?;
    fs::write(&mark, wanted).with_context(|| format!("failed to write {}", mark.display()))
}

/// Checks the page's types, its tests and its size, and builds it.
///
/// # Errors
/// When Node is not there, or something is wrong.
pub fn check(paths: &Paths, log: &Log) -> Result<()> {
    install(paths, log)?;
    npm(&folder(paths), &["run", "check"]).run(log)
}

/// Looks at every page in a browser, with answers that were recorded: errors, rules of accessibility, widths, words that
/// would be code. Where there is no browser that is said, and nothing else.
///
/// # Errors
/// When something is wrong with a page.
pub fn look(paths: &Paths, log: &Log) -> Result<()> {
    let named = std::env::var_os(BROWSER).map(PathBuf::from);
    let Some(browser) = named.or_else(|| BROWSERS.iter().find_map(|name| find(name))) else {
        log.say(&format!(
            "NOT LOOKED AT: no Chromium was found. Install Debian's package chromium, or name a Chromium in {BROWSER}, to have it done."
        ));
        return Ok(());
    };
    npm(&folder(paths), &["run", "smoke"]).env(BROWSER, browser).run(log)
}

/// Installs the page's libraries as they are locked, unless they are there.
fn install(paths: &Paths, log: &Log) -> Result<()> {
    for program in ["node", "npm"] {
        if find(program).is_none() {
            return Err(anyhow::anyhow!("{program} was not found")).remedy(REMEDY);
        }
    }
    let version = Program::new("node").arg("--version").read(log)?;
    ensure_version(&version).remedy(REMEDY)?;
    let folder = folder(paths);
    let wanted = content(&folder, LIBRARIES.iter())?;
    let mark = mark(&folder, "libraries");
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    npm(&folder, &["ci"])
        .run(log)
        .remedy("make the npm registry reachable, then run the same command again")?;
    fs::write(&mark, wanted).with_context(|| format!("failed to write {}", mark.display()))
}

fn ensure_version(text: &str) -> Result<()> {
    let numbers: Vec<u32> = text
        .trim()
        .trim_start_matches('v')
        .split('.')
        .filter_map(|number| number.parse().ok())
        .collect();
    let new_enough = numbers.get(..2).is_some_and(|version| *version >= [20, 19][..]);
    ensure!(new_enough, "node {} is too old", text.trim());
    Ok(())
}

fn folder(paths: &Paths) -> PathBuf {
    paths.checkout.join("services/console/web")
}

/// Beside the libraries, so that who removes these begins anew.
fn mark(folder: &Path, what: &str) -> PathBuf {
    folder.join(format!("node_modules/.valerix-{what}"))
}

fn npm(folder: &Path, arguments: &[&str]) -> Program {
    Program::new("npm").args(arguments).in_folder(folder)
}

/// A hash of files and of everything in folders, with their names.
fn content<'a>(folder: &Path, names: impl Iterator<Item = &'a &'a str>) -> Result<String> {
    let mut hash = Sha256::new();
    for name in names {
        add(&mut hash, &folder.join(name))?;
    }
    Ok(hex::encode(hash.finalize()))
}

fn add(hash: &mut Sha256, path: &Path) -> Result<()> {
    let failed = || format!("failed to read {}", path.display());
    if path.is_dir() {
        let mut inside = Vec::new();
        for entry in fs::read_dir(path).with_context(failed)? {
            inside.push(entry.with_context(failed)?.path());
        }
        inside.sort();
        return inside.iter().try_for_each(|path| add(hash, path));
    }
    let text = fs::read(path).with_context(failed)?;
    hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
    hash.update(text.len().to_le_bytes());
    hash.update(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_changed_or_renamed_is_another_content() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("to write");
        fs::create_dir(folder.path().join("src")).expect("a folder");
        write("src/a", "1");
        let hash = || content(folder.path(), ["src"].iter()).expect("a hash");
        let first = hash();
        write("src/a", "2");
        let changed = hash();
        write("src/a", "1");
        assert_eq!(hash(), first);
        fs::rename(folder.path().join("src/a"), folder.path().join("src/b")).expect("to rename");
        assert!(changed != first && hash() != first);
        assert!(content(folder.path(), ["none"].iter()).is_err());
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, new_enough) in [
            ("v20.19.0\n", true),
            ("v22.3.1", true),
            ("v20.9.0", false),
            ("v18.20.1", false),
            ("", false),
        ] {
            assert_eq!(ensure_version(version).is_ok(), new_enough, "{version}");
        }
    }
}
