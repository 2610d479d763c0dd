//! Which public names of a crate no compiled example uses. Reads sources, so that it needs no other compiler.

use std::fs;
use std::path::Path;

/// Names that `pub use` lists in these sources and that occur in no example of `folder`'s docs or README.
pub fn names_without_example(folder: &Path, sources: &[&str]) -> Vec<String> {
    let mut examples = String::new();
    collect(&folder.join("src"), &mut examples);
    examples.push_str(&blocks(&read(&folder.join("README.md")), ""));
    let used: std::collections::HashSet<&str> = words(&examples).collect();
    let mut names: Vec<String> = sources
        .iter()
        .flat_map(|source| exported(&read(&folder.join(source))))
        .collect();
    assert!(names.len() > 20, "the lists of public names were not found");
    names.retain(|name| !used.contains(name.as_str()));
    names.sort();
    names
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn collect(folder: &Path, examples: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, examples);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = read(&path);
            for prefix in ["///", "//!"] {
                examples.push_str(&blocks(&text, prefix));
            }
        }
    }
}

/// The code of the Rust examples in lines that begin with `prefix`.
fn blocks(text: &str, prefix: &str) -> String {
    let (mut code, mut rust, mut inside) = (String::new(), false, false);
    for line in text.lines().filter_map(|line| line.trim().strip_prefix(prefix)) {
        match line.trim().strip_prefix("```") {
            Some(kind) => {
                inside = !inside;
                rust = inside && (kind.is_empty() || kind.starts_with("rust")) && !kind.contains("ignore");
            }
            None if rust => {
                code.push_str(line);
                code.push('\n');
            }
            None => {}
        }
    }
    code
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_alphanumeric() && character != '_')
        .filter(|word| !word.is_empty())
}

/// The names of every `pub use` statement.
fn exported(source: &str) -> Vec<String> {
    let code: String = source
        .lines()
        .filter(|line| !line.trim().starts_with("//"))
        .collect::<Vec<_>>()
        .join(" ");
    let statements = code.split("pub use ").skip(1).filter_map(|rest| rest.split(';').next());
    statements
        .flat_map(|statement| {
            let list = statement.rsplit("::").next().unwrap_or_default();
            let list = statement.split_once('{').map_or(list, |(_, list)| list);
            words(list).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}
