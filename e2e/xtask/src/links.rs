//! The links of the documentation: each relative one must lead to a file, and to a heading in it where it names one.
//! Links to other sites are not followed, so that this is a check that can run anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

use crate::failure::WithRemedy;
use crate::steps::Log;

/// Folders that hold nothing of ours.
pub(crate) const FOREIGN: [&str; 3] = ["target", "node_modules", "dist"];

/// Looks at every Markdown file below `checkout`.
///
/// # Errors
/// When a file cannot be read, or a link leads nowhere.
pub fn check(checkout: &Path, log: &Log) -> Result<()> {
    let mut files = BTreeMap::new();
    read(checkout, &mut files)?;
    let wrong: Vec<String> = files
        .iter()
        .flat_map(|(file, text)| {
            let name = file.strip_prefix(checkout).unwrap_or(file).display().to_string();
            broken(file, text, &files)
                .into_iter()
                .map(move |(line, link, why)| format!("{name}:{line}: {link} {why}"))
        })
        .collect();
    if wrong.is_empty() {
        log.say(&format!("every link of {} pages leads somewhere", files.len()));
        return Ok(());
    }
    for line in &wrong {
        log.write_line(line);
    }
    Err(anyhow::anyhow!("{} links lead nowhere", wrong.len())).remedy("correct the links that the log names")
}

/// Every Markdown file below `folder`, by its path.
pub(crate) fn read(folder: &Path, files: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    let failed = || format!("failed to read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || FOREIGN.contains(&name.as_str()) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            read(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
            files.insert(path, text);
        }
    }
    Ok(())
}

/// The links of one page that lead nowhere: line, link and why.
fn broken(file: &Path, text: &str, files: &BTreeMap<PathBuf, String>) -> Vec<(usize, String, &'static str)> {
    let mut wrong = Vec::new();
    for (line, link) in links(text) {
        if link.contains("://") || link.starts_with("mailto:") {
            continue;
        }
        let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
        let target = if path.is_empty() {
            file.to_owned()
        } else {
            plain(&file.parent().unwrap_or(file).join(path))
        };
        if !target.exists() {
            wrong.push((line, link, "is no file"));
        } else if !anchor.is_empty() && !files.get(&target).is_some_and(|page| anchors(page).contains(anchor)) {
            wrong.push((line, link, "has no such heading"));
        }
    }
    wrong
}

/// `a/b/../c` as `a/c`: a link is read as a browser reads it.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// The lines of a page that are prose, with their numbers: what stands in blocks of code is no link and no heading.
pub(crate) fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence: Option<&str> = None;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let trimmed = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| trimmed.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, None) => return Some((index + 1, line)),
            _ => {}
        }
        None
    })
}

/// Every link of a page and its line.
pub(crate) fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        // What stands between backquotes is code.
        let spoken: String = line.split('`').step_by(2).collect::<Vec<_>>().join("");
        for part in spoken.split("](").skip(1) {
            let link = part.split(')').next().unwrap_or_default();
            let link = link.split_whitespace().next().unwrap_or_default();
            links.push((number, link.trim_matches(['<', '>']).to_owned()));
        }
        for mark in ["href=\"", "src=\"", "srcset=\""] {
            let named = spoken.split(mark).skip(1).filter_map(|part| part.split('"').next());
            links.extend(named.map(|link| (number, link.to_owned())));
        }
    }
    links
}

/// The names of a page's headings, as the places that show Markdown make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        for (_, rest) in line
            .match_indices("<a id=\"")
            .map(|(at, mark)| line.split_at(at + mark.len()))
        {
            anchors.extend(rest.split('"').next().map(str::to_owned));
        }
        let level = line.bytes().take_while(|byte| *byte == b'#').count();
        let Some(heading) = line
            .get(level..)
            .filter(|rest| (1..=6).contains(&level) && rest.starts_with(' '))
        else {
            continue;
        };
        let name = anchor(&shown(heading.trim()));
        let times = seen.entry(name.clone()).or_default();
        anchors.insert(if *times == 0 { name } else { format!("{name}-{times}") });
        *times += 1;
    }
    anchors
}

/// A heading without the addresses of its links.
fn shown(heading: &str) -> String {
    let mut parts = heading.split("](");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str(part.split_once(')').map_or("", |(_, rest)| rest));
    }
    shown
}

fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_a_file_and_a_heading_or_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("to write");
        };
        write(
            "docs/guide/a.md",
            "# One `word`, two: what & why\n## Twice\n## Twice\n[up](../../README.md), [here](#twice-1), [there](b.md#that)\n\
             ```\n# no heading\n[code](nowhere.md)\n```\nand `[code](nowhere.md)` [site](https://example.org/x#y)\n<a id=\"mark\"></a>\n",
        );
        write(
            "docs/guide/b.md",
            "## [That](a.md)\n[back](a.md#one-word-two-what--why), [mark](a.md#mark) ![image](../x.png \"title\") <img src=\"../x.png\">\n",
        );
        write("docs/x.png", "");
        write("node_modules/c.md", "[none](none.md)");
        write("README.md", "[guide](docs/guide/a.md) [folder](docs)\n");
        let log = Log::create(folder.path().join("log")).expect("a log");
        assert!(check(folder.path(), &log).is_ok(), "{}", log.text().unwrap_or_default());

        write(
            "README.md",
            "[a](docs/none.md)\n\n[b](docs/guide/a.md#no-heading) [c](#none) [d](docs/guide/a.md#twice-2)\n<img src=\"y.png\">\n",
        );
        assert!(check(folder.path(), &log).is_err());
        let told = log.text().expect("a log");
        for line in [
            "README.md:1: docs/none.md is no file",
            "README.md:3: docs/guide/a.md#no-heading has no such heading",
            "README.md:3: #none has no such heading",
            "README.md:3: docs/guide/a.md#twice-2 has no such heading",
            "README.md:4: y.png is no file",
        ] {
            assert!(told.contains(line), "{line} in {told}");
        }
    }
}
