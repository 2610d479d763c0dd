//! Counts the rows of each table in the data section that pg_restore prints. Pure: in are chunks of text.
//!
//! A row of COPY is one line (line breaks in values are escaped) and `\.` ends the table, so lines can be counted
//! without understanding them. The data section holds no function bodies that could look like COPY.

use std::{collections::BTreeMap, io::BufRead};

/// The most of one line that is kept; only COPY lines matter, and 1600 columns fit.
const KEPT: usize = 1 << 20;
/// The most of a row that is kept: enough to tell it from the end of its table.
const KEPT_OF_ROW: usize = END.len() + 1;
const END: &[u8] = br"\.";

/// Counts rows while the text passes.
#[derive(Debug, Default)]
pub struct RowCounter {
    rows: BTreeMap<String, u64>,
    line: Vec<u8>,
    table: Option<String>,
    count: u64,
}

impl RowCounter {
    /// Takes the next chunk.
    pub fn feed(&mut self, mut chunk: &[u8]) {
        while let Some(line) = next_line(&mut chunk) {
            self.keep(line);
            self.end_line();
        }
        self.keep(chunk);
    }

    /// Rows of each table, by its name as SQL writes it.
    pub fn finish(self) -> BTreeMap<String, u64> {
        self.rows
    }

    fn keep(&mut self, part: &[u8]) {
        let most = if self.table.is_some() { KEPT_OF_ROW } else { KEPT };
        let room = most.saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end_line(&mut self) {
        if let Some(table) = self.table.take() {
            if self.line == END {
                *self.rows.entry(table).or_default() += self.count;
                self.count = 0;
            } else {
                self.count += 1;
                self.table = Some(table);
            }
            self.line.clear();
        } else if self.line.starts_with(b"COPY ") {
            if self.line.ends_with(b" FROM stdin;") && is_balanced(&self.line) {
                self.table = Some(table_name(&readable(&self.line[5..])));
                self.line.clear();
            } else {
                // A name with a line break in it: the statement goes on.
                self.keep(b"\n");
            }
        } else {
            self.line.clear();
        }
    }
}

/// Takes the next line that ends within this chunk from it, without its end. Finds that end as the system does, many bytes at
/// a time: nearly all of an archive passes here.
fn next_line<'a>(chunk: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut rest = *chunk;
    let count = rest.skip_until(b'\n').ok()?;
    let line = chunk.get(..count)?.strip_suffix(b"\n")?;
    *chunk = rest;
    Some(line)
}

/// Whether every double quote that was opened is closed: a name may hold whatever ends a statement.
fn is_balanced(line: &[u8]) -> bool {
    line.iter().filter(|byte| **byte == b'"').count() % 2 == 0
}

/// Bytes that are no UTF-8, as a database without an encoding has them, as `\xe4`: two names stay two names.
fn readable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// The bytes that [`readable`] has shown.
fn bytes(name: &str) -> Vec<u8> {
    let mut found = Vec::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\x") {
        found.extend(before.as_bytes());
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if !byte.is_ascii() => {
                found.push(byte);
                rest = &after[2..];
            }
            _ => {
                found.extend(b"\\x");
                rest = after;
            }
        }
    }
    found.extend(rest.as_bytes());
    found
}

/// SQL for the table of this name in whatever encoding its database has: as `regclass`, null if there is none. The name is
/// data and never part of the statement.
pub(crate) fn table(name: &str) -> String {
    const ENCODING: &str = "pg_catalog.getdatabaseencoding()";
    let named = |bytes: &[u8]| {
        let bytes = hex::encode(bytes);
        format!("pg_catalog.to_regclass(pg_catalog.convert_from('\\x{bytes}'::pg_catalog.bytea, {ENCODING}))")
    };
    let (shown, meant) = (named(name.as_bytes()), named(&bytes(name)));
    if shown == meant {
        return shown;
    }
    // Where every name is UTF-8, one that looks like bytes is one; elsewhere it may be either.
    format!("CASE {ENCODING} WHEN 'UTF8' THEN {shown} ELSE coalesce({shown}, {meant}) END")
}

/// SQL for whether the table of this name belongs to an extension.
pub(crate) fn of_extension(name: &str) -> String {
    format!(
        "EXISTS (SELECT FROM pg_catalog.pg_depend WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
         AND objid = ({})::pg_catalog.oid AND deptype = 'e')",
        table(name)
    )
}

/// Whether a restored table holds what its dump did. One of an extension may hold more: CREATE EXTENSION puts rows of its
/// own there, and a dump has only those that were added to them.
pub(crate) fn is_whole(dumped: u64, found: u64, of_extension: bool) -> bool {
    found == dumped || (of_extension && found > dumped)
}

/// Everything up to the first space outside double quotes.
fn table_name(rest: &str) -> String {
    let mut quoted = false;
    rest.chars()
        .take_while(|character| {
            if *character == '"' {
                quoted = !quoted;
            }
            quoted || *character != ' '
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = concat!(
        "SET x = 1;\n\nCOPY public.a (id, note) FROM stdin;\n1\tCOPY b FROM stdin;\n2\t\\\\.\n\\.\n\n",
        "COPY \"odd schema\".\"we \"\"ird (t\" (id) FROM stdin;\n\\.\n",
        "COPY public.\"line\nbreak\" (id) FROM stdin;\n1\n\\.\n",
        "COPY public.no_columns  FROM stdin;\n\n\n\\.\nSELECT pg_catalog.setval('s', 1, true);\n"
    );

    #[test]
    fn rows_are_counted_however_the_text_is_cut() {
        let expected: BTreeMap<String, u64> = [
            ("public.a", 2),
            ("\"odd schema\".\"we \"\"ird (t\"", 0),
            ("public.\"line\nbreak\"", 1),
            ("public.no_columns", 2),
        ]
        .map(|(name, rows)| (name.to_owned(), rows))
        .into();
        for size in [1, 2, 7, TEXT.len()] {
            let mut counter = RowCounter::default();
            TEXT.as_bytes().chunks(size).for_each(|chunk| counter.feed(chunk));
            assert_eq!(counter.finish(), expected, "chunks of {size}");
        }
    }

    #[test]
    fn only_a_table_of_an_extension_may_hold_more_than_its_dump() {
        for (dumped, found, of_extension, whole) in [
            (5, 5, false, true),
            (5, 6, false, false),
            (5, 4, false, false),
            (0, 8500, true, true),
            (5, 5, true, true),
            (5, 4, true, false),
        ] {
            assert_eq!(
                is_whole(dumped, found, of_extension),
                whole,
                "{dumped} {found} {of_extension}"
            );
        }
    }

    #[test]
    fn names_without_an_encoding_and_names_like_statements_stay_apart() {
        let mut counter = RowCounter::default();
        counter.feed(
            b"COPY public.\"k\xe4se\" (a) FROM stdin;\n1\n\\.\nCOPY public.\"k\xf6se\" (a) FROM stdin;\n1\n2\n\\.\n",
        );
        counter.feed(b"COPY public.\"a FROM stdin;\nb\" (a) FROM stdin;\n1\n2\n3\n\\.\n");
        let rows: Vec<_> = counter.finish().into_iter().collect();
        let expected = [
            ("public.\"a FROM stdin;\nb\"", 3),
            ("public.\"k\\xe4se\"", 1),
            ("public.\"k\\xf6se\"", 2),
        ];
        assert_eq!(rows, expected.map(|(name, rows)| (name.to_owned(), rows)));
    }
}
