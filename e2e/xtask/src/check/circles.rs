//! That the files of a crate depend one way, and its folders too: where two folders use each other, a reader of one has to
//! know the other, though no two files of theirs make a circle. What a file uses is where its `use` lines and its paths
//! through `crate`, `super` and `self` lead to, behind re-exports. A parent gathers its children, so that its use of them
//! is none; tests are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};

use super::source::Module;
use crate::failure::WithRemedy;
use crate::steps::Log;
use crate::workspace;

/// Pairs that are one thing in two files.
const ALLOWED: [[&str; 2]; 2] = [
    // A breaker gives permits, a permit tells its breaker how the call ended.
    [
        "services/resilience/src/breaker/circuit.rs",
        "services/resilience/src/breaker/permit.rs",
    ],
    // An attempt asks where it goes on, the answer rests on the way it took.
    [
        "services/resilience/src/outbound/attempt.rs",
        "services/resilience/src/outbound/failover.rs",
    ],
];
/// Behind how many re-exports an item is looked for.
const MOST_RE_EXPORTS: u8 = 12;

const REMEDY: &str = "move what the files of a circle share into a file of its own; the list is ALLOWED in \
                      e2e/xtask/src/check/circles.rs";

type Modules<'a> = BTreeMap<Vec<&'a str>, Module<'a>>;
/// By file what it uses of the files and folders beside it, and who uses which item of whom. A folder, which stands for all
/// that is in it, has the name of its own file.
type Uses<'a> = BTreeMap<&'a str, BTreeMap<&'a str, BTreeSet<[&'a str; 3]>>>;

/// Looks at every crate of the workspace.
///
/// # Errors
/// When a file cannot be read, files use each other, or a pair that may does not.
pub fn check(checkout: &Path, log: &Log) -> Result<()> {
    let mut allowed = ALLOWED.to_vec();
    let (mut wrong, mut looked_at) = (0, 0);
    for member in workspace::members(checkout)? {
        let mut files = BTreeMap::new();
        read(
            &checkout.join(&member).join("src"),
            &format!("{member}/src/"),
            &mut files,
        )?;
        looked_at += files.len();
        for root in ["lib.rs", "main.rs"] {
            let uses = uses(&modules(&files, &format!("{member}/src/"), root));
            for circle in circles(&uses) {
                if let Some(at) = allowed.iter().position(|pair| circle == *pair) {
                    allowed.remove(at);
                    continue;
                }
                wrong += 1;
                log.write_line(&format!("these files depend on each other: {}", circle.join(", ")));
                for of in circle.iter().filter_map(|file| uses.get(file)) {
                    let within = of.iter().filter(|(used, _)| circle.contains(used));
                    for [file, item, used] in within.flat_map(|(_, items)| items) {
                        log.write_line(&format!("  {file} uses {item} of {used}"));
                    }
                }
            }
        }
    }
    for pair in &allowed {
        log.write_line(&format!("{} may depend on each other, and do not", pair.join(" and ")));
    }
    if wrong == 0 && allowed.is_empty() {
        log.say(&format!("{looked_at} files and their folders depend one way"));
        return Ok(());
    }
    Err(anyhow!(
        "{wrong} circles of files, {} pairs too many in the list",
        allowed.len()
    ))
    .remedy(REMEDY)
}

/// Every Rust file below `folder`, named from `name` on.
fn read(folder: &Path, name: &str, files: &mut BTreeMap<String, String>) -> Result<()> {
    let failed = || format!("failed to read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let name = format!("{name}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            read(&path, &format!("{name}/"), files)?;
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("failed to read {name}"))?;
            files.insert(name, text);
        }
    }
    Ok(())
}

/// The modules below `root`, by their paths.
fn modules<'a>(files: &'a BTreeMap<String, String>, folder: &str, root: &str) -> Modules<'a> {
    let mut modules = Modules::new();
    let mut waiting = vec![(Vec::new(), format!("{folder}{root}"))];
    while let Some((path, name)) = waiting.pop() {
        let Some((name, text)) = files.get_key_value(&name) else {
            continue;
        };
        let module = Module::read(name, text, &path);
        for child in &module.children {
            let path = [&path[..], &[*child]].concat();
            let file = format!("{folder}{}", path.join("/"));
            let [alone, with_children] = [format!("{file}.rs"), format!("{file}/mod.rs")];
            let name = if files.contains_key(&alone) {
                alone
            } else {
                with_children
            };
            waiting.push((path, name));
        }
        modules.insert(path, module);
    }
    modules
}

fn uses<'a>(modules: &Modules<'a>) -> Uses<'a> {
    let mut uses = Uses::new();
    for (own, module) in modules {
        for path in module.paths() {
            let Some((target, item)) = resolve(modules, &path, MOST_RE_EXPORTS) else {
                continue;
            };
            let shared = own.iter().zip(target).take_while(|(one, other)| one == other).count();
            if let (Some(one), Some(other)) = (own.get(..=shared), target.get(..=shared)) {
                let beside = uses.entry(modules[one].file).or_default();
                let items = beside.entry(modules[other].file).or_default();
                items.insert([module.file, item, modules[target].file]);
            }
        }
    }
    uses
}

/// The module that defines what `path` leads to, and the item's name. A module alone is nothing: paths through it tell
/// what is used of it.
fn resolve<'m, 'a>(modules: &'m Modules<'a>, path: &[&'a str], most: u8) -> Option<(&'m [&'a str], &'a str)> {
    let length = (0..=path.len())
        .rev()
        .find(|length| modules.contains_key(&path[..*length]))?;
    let (own, module) = modules.get_key_value(&path[..length])?;
    let (name, rest) = path[length..].split_first()?;
    let most = most.checked_sub(1)?;
    if let Some(behind) = module.names.get(name) {
        return resolve(modules, &[&behind[..], rest].concat(), most);
    }
    if !module.defined.contains(name) {
        for all in &module.globs {
            let found = resolve(modules, &[&all[..], &[*name]].concat(), most);
            if let Some((target, _)) = found.filter(|(target, _)| modules[*target].defined.contains(name)) {
                return Some((target, *name));
            }
        }
    }
    Some((own.as_slice(), *name))
}

/// Files and folders that reach each other, each circle once.
fn circles<'a>(uses: &Uses<'a>) -> BTreeSet<Vec<&'a str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> = uses.keys().map(|file| (*file, reach(uses, file))).collect();
    let mut circles = BTreeSet::new();
    for (file, others) in reached.iter().filter(|(file, others)| others.contains(*file)) {
        let back = |other: &&&str| reached.get(*other).is_some_and(|others| others.contains(file));
        circles.insert(others.iter().filter(back).copied().collect());
    }
    circles
}

fn reach<'a>(uses: &Uses<'a>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![from];
    while let Some(file) = waiting.pop() {
        for used in uses.get(file).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(*used) {
                waiting.push(used);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles of a crate of these files.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let named = |(name, text): &(&str, &str)| (format!("x/src/{name}"), (*text).to_owned());
        let files = files.iter().map(named).collect();
        let modules = modules(&files, "x/src/", "lib.rs");
        let found = circles(&uses(&modules));
        found
            .iter()
            .map(|circle| circle.join(" ").replace("x/src/", ""))
            .collect()
    }

    #[test]
    fn a_tree_is_no_circle() {
        let lib = ("lib.rs", "mod a; mod b; mod c; pub use a::A; pub struct Root;");
        let (b, c) = (
            "use crate::c::C; pub struct B(C);",
            "use crate::Root; pub struct C(Root);",
        );
        let a = "use super::b::{self, B as Other}; use crate::Root; pub struct A(Other, b::B, Root);";
        assert_eq!(found(&[lib, ("a.rs", a), ("b.rs", b), ("c.rs", c)]), [""; 0]);
    }

    #[test]
    fn a_circle_is_found_however_it_is_written() {
        let lib = ("lib.rs", "mod a; mod b;");
        let b = ("b.rs", "use crate::a::A; pub struct B;");
        for a in [
            "use crate::b::B; pub struct A;",
            "use super::{b::{B as Other}, x}; pub struct A;",
            "pub struct A(super::b::B);",
            "use super::b; pub struct A(b::B);",
            "pub use super::b::*; pub struct A;",
            "pub struct A; mod inner { use super::super::b::B; }",
            "pub struct A; #[cfg(not(test))] use crate::b::B;",
        ] {
            assert_eq!(found(&[lib, ("a.rs", a), b]), ["a.rs b.rs"], "{a}");
        }
    }

    #[test]
    fn a_circle_of_three_is_found_behind_re_exports_and_told_once() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::{First}; pub struct A;"),
            (
                "b/mod.rs",
                "mod first; mod second; pub use first::First; pub use second::*;",
            ),
            ("b/first.rs", "use super::Second; pub struct First;"),
            ("b/second.rs", "use crate::a; pub struct Second(a::A);"),
        ];
        assert_eq!(found(&files), ["a.rs b/mod.rs"]);
    }

    #[test]
    fn folders_that_use_each_other_are_a_circle_though_their_files_are_none() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "pub mod low; pub mod high;"),
            ("a/low.rs", "pub struct Low;"),
            (
                "a/high.rs",
                "use super::low::Low; use crate::b::B; pub struct High(Low, B);",
            ),
            ("b.rs", "use crate::a::low::Low; pub struct B(Low);"),
        ];
        assert_eq!(found(&files), ["a/mod.rs b.rs"]);
    }

    #[test]
    fn a_parent_gathers_its_children_and_tests_see_everything() {
        let lib = ("lib.rs", "mod a; mod b;");
        let files = [
            lib,
            ("a/mod.rs", "mod child; use child::Child; pub struct A(Child);"),
            ("a/child.rs", "use super::A; pub struct Child;"),
            (
                "b.rs",
                "use crate::a::A; pub struct B; // use crate::b::B\nconst TEXT: &str = \"crate::b\";",
            ),
        ];
        assert_eq!(found(&files), [""; 0]);
        let tests = "use super::*; use crate::b::B;";
        for a in [
            format!("pub struct A; #[cfg(test)] mod tests {{ {tests} }}"),
            "pub struct A; #[cfg(all(test, unix))] #[allow(unused)] use crate::b::B;".to_owned(),
            "pub struct A; #[cfg(test)] mod tests;".to_owned(),
            "pub struct A; const TEXT: &str = r#\"\" use crate::b::B;\"#; /* use crate::b::B; */".to_owned(),
            "pub struct A<'a>(&'a str, [char; 2]); const Q: char = '\"'; mod inner { use super::b::B; }".to_owned(),
        ] {
            let files = [
                lib,
                ("a.rs", &a),
                ("a/tests.rs", tests),
                ("b.rs", "use crate::a::A; pub struct B;"),
            ];
            assert_eq!(found(&files), [""; 0], "{a}");
        }
    }
}
