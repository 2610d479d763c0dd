//! What a source file of Rust declares and names, read from its words: as much of the language as the check for circles
//! asks for. Tests are left out. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// What items begin with, before their names.
const ITEMS: [&str; 9] = [
    "struct", "enum", "union", "trait", "type", "fn", "const", "static", "mod",
];

/// A file's module. Paths in it begin at the crate's root.
#[derive(Debug, Default)]
pub struct Module<'a> {
    /// The file's name.
    pub file: &'a str,
    /// Modules in files of their own.
    pub children: BTreeSet<&'a str>,
    /// Items that are written here.
    pub defined: BTreeSet<&'a str>,
    /// What `use` gives names to.
    pub names: BTreeMap<&'a str, Vec<&'a str>>,
    /// Modules that are used with everything in them.
    pub globs: Vec<Vec<&'a str>>,
    /// The module's own path.
    own: Vec<&'a str>,
    written: Vec<Vec<&'a str>>,
    /// Paths that begin with one of `names`, as they are written.
    through: Vec<Vec<&'a str>>,
}

impl<'a> Module<'a> {
    /// Reads the text of the module `own`.
    pub fn read(file: &'a str, text: &'a str, own: &[&'a str]) -> Self {
        let words = without_tests(&words(text));
        let mut module = Self {
            file,
            own: own.to_vec(),
            ..Self::default()
        };
        for three in words.windows(3) {
            let (names, name) = match *three {
                ["mod", name, ";"] => (&mut module.children, name),
                ["macro_rules", "!", name] => (&mut module.defined, name),
                [item, name, _] if ITEMS.contains(&item) => (&mut module.defined, name),
                _ => continue,
            };
            names.insert(name);
        }
        let (mut at, mut depth, mut within) = (0, 0, Vec::new());
        while let Some(word) = words.get(at) {
            match (*word, words.get(at + 1).copied().unwrap_or_default()) {
                ("{", _) => depth += 1,
                ("}", _) => {
                    depth -= 1;
                    within.pop_if(|begun| *begun == depth);
                }
                ("mod", _) if words.get(at + 2) == Some(&"{") => within.push(depth),
                // Not the `use<'a>` of a bound.
                ("use", next) if next != "<" => {
                    let length = words[at..].iter().take_while(|word| **word != ";").count();
                    for (path, name) in leaves(&words[at + 1..at + length]) {
                        if let Some(path) = module.absolute(&path, within.len()) {
                            module.add_use(path, name);
                        }
                    }
                    at += length;
                }
                (first, "::") if is_name(first) && (at == 0 || words[at - 1] != "::") => {
                    let mut path = vec![first];
                    while let Some(["::", next]) = words.get(at + 1..at + 3).filter(|two| is_name(two[1])) {
                        path.push(*next);
                        at += 2;
                    }
                    match module.absolute(&path, within.len()) {
                        Some(path) => module.written.push(path),
                        None => module.through.push(path),
                    }
                }
                _ => {}
            }
            at += 1;
        }
        module
    }

    /// Every path in it.
    pub fn paths(&self) -> impl Iterator<Item = Vec<&'a str>> {
        let through = self.through.iter().filter_map(|path| {
            let (first, rest) = path.split_first()?;
            Some([&self.names.get(first)?[..], rest].concat())
        });
        self.written.iter().cloned().chain(through)
    }

    fn add_use(&mut self, path: Vec<&'a str>, name: &'a str) {
        self.written.push(path.clone());
        match path.split_last() {
            Some((&"*", all)) => self.globs.push(all.to_vec()),
            _ => drop(self.names.insert(name, path)),
        }
    }

    /// `path` from the crate's root on, where it stands `within` modules inside of the file. None: it leads elsewhere.
    fn absolute(&self, path: &[&'a str], within: usize) -> Option<Vec<&'a str>> {
        let (first, rest) = path.split_first()?;
        match *first {
            "crate" => Some(rest.to_vec()),
            "self" => Some([&self.own[..], rest].concat()),
            "super" => {
                let up = path.iter().take_while(|part| **part == "super").count();
                let above = self.own.len().checked_sub(up.saturating_sub(within))?;
                Some([&self.own[..above], &path[up..]].concat())
            }
            child if self.children.contains(child) => Some([&self.own[..], path].concat()),
            _ => None,
        }
    }
}

/// The paths of a tree of `use`, and the name that each gives.
fn leaves<'a>(tree: &[&'a str]) -> Vec<(Vec<&'a str>, &'a str)> {
    let (mut leaves, mut path, mut outer) = (Vec::new(), Vec::new(), Vec::new());
    let (mut is_renamed, mut new_name) = (false, None);
    for word in tree.iter().chain([&","]) {
        match *word {
            "::" => {}
            "{" => outer.push(path.len()),
            "as" => is_renamed = true,
            "," | "}" => {
                let begun = outer.last().copied().unwrap_or_default();
                if path.len() > begun {
                    let mut leaf = path.clone();
                    leaf.pop_if(|last| *last == "self");
                    let name = new_name.take().or(leaf.last().copied()).unwrap_or_default();
                    leaves.push((leaf, name));
                }
                if *word == "}" {
                    outer.pop();
                }
                path.truncate(outer.last().copied().unwrap_or_default());
            }
            name if is_renamed => {
                new_name = Some(name);
                is_renamed = false;
            }
            part => path.push(part),
        }
    }
    leaves
}

/// Leaves out what is compiled for tests alone.
fn without_tests<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < words.len() {
        if words[at..].starts_with(&["#", "[", "cfg", "("]) {
            let end = at + 1 + closed(&words[at + 1..]);
            let condition = &words[at..end];
            if condition.contains(&"test") && !["not", "any"].iter().any(|word| condition.contains(word)) {
                at = end + item(&words[end..]);
                continue;
            }
        }
        kept.push(words[at]);
        at += 1;
    }
    kept
}

/// How many words there are up to the end of what an attribute stands on: an item, a statement, a field or a variant.
fn item(words: &[&str]) -> usize {
    let mut begun = 0;
    while words[begun..].starts_with(&["#", "["]) {
        begun += 1 + closed(&words[begun + 1..]);
    }
    let others = ["pub", "use", "impl", "unsafe", "async", "extern", "let", "macro_rules"];
    let is_item = words
        .get(begun)
        .is_some_and(|first| ITEMS.contains(first) || others.contains(first));
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate().skip(begun) {
        match *word {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" if depth == 0 => return at,
            "}" | ")" | "]" => {
                depth -= 1;
                if depth == 0 && *word == "}" {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            "," if depth == 0 && !is_item => return at + 1,
            _ => {}
        }
    }
    words.len()
}

/// How many words there are up to the bracket that closes the first.
fn closed(words: &[&str]) -> usize {
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate() {
        match *word {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    words.len()
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// The words of a text: names, numbers, `::` and single signs. Comments, texts, letters in quotes, lifetimes are none.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let up_to = |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
        let name = rest
            .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .unwrap_or(rest.len());
        let behind = rest[name..].trim_start_matches('#');
        let length = if rest.starts_with("//") {
            up_to("\n", 0)
        } else if rest.starts_with("/*") {
            up_to("*/", 0)
        } else if first == '"' {
            quoted(rest)
        } else if first == '\'' {
            match rest[1..].chars().next() {
                Some('\\') => up_to("'", 3),
                Some(letter) if rest[1 + letter.len_utf8()..].starts_with('\'') => letter.len_utf8() + 2,
                _ => {
                    1 + rest[1..]
                        .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
                        .unwrap_or_default()
                }
            }
        } else if matches!(&rest[..name], "r" | "br" | "cr") && behind.starts_with('"') {
            let hashes = rest.len() - name - behind.len();
            up_to(&format!("\"{}", "#".repeat(hashes)), name + hashes + 1)
        } else {
            let length = match name {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                name => name,
            };
            words.extend(Some(&rest[..length]).filter(|word| !word.trim().is_empty()));
            length
        };
        rest = &rest[length..];
    }
    words
}

/// The length of the text in quotes that `rest` begins with.
fn quoted(rest: &str) -> usize {
    let mut is_escaped = false;
    let end = |(_, letter): &(usize, char)| {
        let is_end = *letter == '"' && !is_escaped;
        is_escaped = *letter == '\\' && !is_escaped;
        is_end
    };
    rest.char_indices()
        .skip(1)
        .find(end)
        .map_or(rest.len(), |(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_comments_and_lifetimes_are_no_words() {
        let text = r##"a::b<'x>('"', '\'', "\" use c", r#"""#, b'\\', r"\") // d
            /* e */ 'outer: f_1"##;
        let expected = [
            "a", "::", "b", "<", ">", "(", ",", ",", ",", ",", "b", ",", ")", ":", "f_1",
        ];
        assert_eq!(words(text), expected);
    }

    #[test]
    fn a_tree_of_use_gives_paths_and_names() {
        let tree = words("a::{self, b::{C as D, *}, e}");
        let expected = [
            (vec!["a"], "a"),
            (vec!["a", "b", "C"], "D"),
            (vec!["a", "b", "*"], "*"),
            (vec!["a", "e"], "e"),
        ];
        assert_eq!(leaves(&tree), expected);
    }

    #[test]
    fn what_is_for_tests_alone_is_left_out() {
        let text = "#[cfg(test)] use a::{b, c}; #[cfg(test)] #[x(y)] fn f<A, B>() { g(); } \
                    struct S { #[cfg(test)] d: D, e: E } #[cfg(not(test))] mod h; #[cfg(all(test, unix))] mod i;";
        let kept = without_tests(&words(text)).join(" ");
        assert_eq!(kept, "; struct S { e : E } # [ cfg ( not ( test ) ) ] mod h ;");
    }
}
