//! The documentation as a site, by mdBook: the pages of `docs` in the order of `docs/SUMMARY.md`, with links to what is no
//! page of it leading to the repository.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::command::Program;
use crate::failure::WithRemedy;
use crate::paths::Paths;
use crate::steps::{Log, Steps};
use crate::tools::rust;
use crate::{documents, links};

/// Where what is no page is read.
const REPOSITORY: &str = "https://github.com/valerix/valerix/blob/main";
const SUMMARY: &str = "SUMMARY.md";
/// The folder of pages that need no line in the summary: decisions stand in it by their numbers.
const DECISIONS: &str = "adr";

/// Checks the documentation and makes its site.
///
/// # Errors
/// [`crate::failure::Shown`] when a step failed.
pub fn run(paths: &Paths) -> Result<()> {
    let mut steps = Steps::begin(paths.logs("docs"))?;
    steps.run("Every link leads somewhere", |log| links::check(&paths.checkout, log))?;
    steps.run("What the pages name is there", |log| {
        documents::check(&paths.checkout, log)
    })?;
    steps.run("Every page has its place", |_| complete(&paths.checkout))?;
    let mdbook = steps.run("Installing mdBook", |log| rust::install(paths, &rust::MDBOOK, log))?;
    let site = steps.run("Making the site", |log| build(paths, &mdbook, log))?;
    println!("\n{}", site.display());
    Ok(())
}

/// That each page below `docs` stands in the summary, once; decisions need not.
///
/// # Errors
/// When one does not, by its name.
pub fn complete(checkout: &Path) -> Result<()> {
    let docs = checkout.join("docs");
    let mut files = std::collections::BTreeMap::new();
    links::read(&docs, &mut files)?;
    let summary = files
        .remove(&docs.join(SUMMARY))
        .context("there is no docs/SUMMARY.md")?;
    let named: Vec<PathBuf> = links::links(&summary)
        .into_iter()
        .map(|(_, link)| docs.join(link))
        .collect();
    let once: BTreeSet<&PathBuf> = named.iter().collect();
    ensure!(once.len() == named.len(), "docs/SUMMARY.md names a page twice");
    let decisions = docs.join(DECISIONS);
    let left_out = files
        .keys()
        .filter(|page| !once.contains(page) && !page.starts_with(&decisions));
    let left_out: Vec<String> = left_out.map(|page| page.display().to_string()).collect();
    if left_out.is_empty() {
        return Ok(());
    }
    Err(anyhow::anyhow!("docs/SUMMARY.md does not name {}", left_out.join(", ")))
        .remedy("give each page one line there")
}

fn build(paths: &Paths, mdbook: &Path, log: &Log) -> Result<PathBuf> {
    let book = paths.checkout.join("target/book");
    if book.exists() {
        fs::remove_dir_all(&book).with_context(|| format!("failed to remove {}", book.display()))?;
    }
    let docs = paths.checkout.join("docs");
    copy(&docs, &docs, &book)?;
    add_decisions(&book)?;
    Program::new(mdbook)
        .args(["build", "--dest-dir", "site"])
        .in_folder(&book)
        .run(log)?;
    let first = book.join("site/index.html");
    ensure!(first.is_file(), "mdBook wrote no {}", first.display());
    Ok(first)
}

/// Gives each decision its line, in the order of their numbers, by its heading.
fn add_decisions(book: &Path) -> Result<()> {
    let mut pages = std::collections::BTreeMap::new();
    links::read(&book.join(DECISIONS), &mut pages)?;
    let path = book.join(SUMMARY);
    let mut summary = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    summary.push_str("\n# Decisions\n\n");
    for (page, text) in &pages {
        let heading = text
            .lines()
            .find_map(|line| line.strip_prefix("# "))
            .unwrap_or_default();
        let file = page.strip_prefix(book).unwrap_or(page).display();
        summary.push_str(&format!("- [{heading}]({file})\n"));
    }
    fs::write(&path, summary).with_context(|| format!("failed to write {}", path.display()))
}

fn copy(docs: &Path, from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("failed to copy {}", from.display());
    fs::create_dir_all(to).with_context(failed)?;
    for entry in fs::read_dir(from).with_context(failed)? {
        let (path, target) = entry
            .map(|entry| (entry.path(), to.join(entry.file_name())))
            .with_context(failed)?;
        if path.is_dir() {
            copy(docs, &path, &target)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&path).with_context(failed)?;
            let folder = from.strip_prefix(docs).unwrap_or(from);
            fs::write(&target, outward(folder, &text)).with_context(failed)?;
        } else {
            fs::copy(&path, &target).with_context(failed)?;
        }
    }
    Ok(())
}

/// A page of the folder `folder` of `docs`, whose links to what is outside of it, or is a folder, lead to the repository.
fn outward(folder: &Path, page: &str) -> String {
    // What stands between backquotes in a line is code, and no link, whatever it looks like.
    let line = |line: &str| {
        let parts = line.split('`').enumerate();
        let led = parts.map(|(index, part)| match index % 2 {
            0 => lead_outward(folder, part),
            _ => part.to_owned(),
        });
        led.collect::<Vec<_>>().join("`")
    };
    page.split_inclusive('\n').map(line).collect()
}

fn lead_outward(folder: &Path, page: &str) -> String {
    let mut parts = page.split("](");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (link, rest) = part.split_at(part.find(')').unwrap_or(part.len()));
        let target = links::plain(&Path::new("docs").join(folder).join(link));
        let inside = target.starts_with("docs") && target.to_string_lossy().contains('.');
        text.push_str("](");
        if link.contains("://") || link.starts_with('#') || inside {
            text.push_str(link);
        } else {
            text.push_str(&format!("{REPOSITORY}/{}", target.display()));
        }
        text.push_str(rest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_out_of_the_book_lead_to_the_repository() {
        let page = "[a](../../examples/a.yaml), [b](console.md#how), [c](#here) [d](https://example.org/) [e](../adr) [f](../images/f.png) [`g`](../adr) `[h](../adr)`\n";
        let expected = format!(
            "[a]({REPOSITORY}/examples/a.yaml), [b](console.md#how), [c](#here) [d](https://example.org/) [e]({REPOSITORY}/docs/adr) [f](../images/f.png) [`g`]({REPOSITORY}/docs/adr) `[h](../adr)`\n"
        );
        assert_eq!(outward(Path::new("guide"), page), expected);
    }

    #[test]
    fn a_page_without_a_place_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            fs::create_dir_all(folder.path().join("docs/adr")).expect("a folder");
            fs::write(folder.path().join("docs").join(name), text).expect("to write");
        };
        write("a.md", "");
        write("b.md", "");
        write("adr/1.md", "# First\n");
        write(SUMMARY, "- [a](a.md)\n- [b](b.md)\n");
        assert!(complete(folder.path()).is_ok());
        add_decisions(&folder.path().join("docs")).expect("decisions");
        let summary = fs::read_to_string(folder.path().join("docs").join(SUMMARY)).expect("a summary");
        assert!(
            summary.ends_with("(b.md)\n\n# Decisions\n\n- [First](adr/1.md)\n"),
            "{summary}"
        );
        let wrong = |summary: &str| {
            write(SUMMARY, summary);
            complete(folder.path()).expect_err("a wrong summary").to_string()
        };
        assert!(wrong("- [a](a.md)\n").contains("b.md"));
        assert!(wrong("- [a](a.md)\n- [b](b.md)\n- [c](a.md)\n").contains("twice"));
    }
}
