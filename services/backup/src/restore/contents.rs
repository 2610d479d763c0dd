//! What a dump needs of a server before anything of it is restored: the options its database was made with, and roles.
//! Pure: in is the script that `pg_restore --create --schema-only` prints.
//!
//! Nothing of the script is passed on as it is: options are taken apart and written anew, names are only looked for.

use std::collections::BTreeSet;

/// Options of `CREATE DATABASE` that belong to what is stored, not to where.
const OPTIONS: [&str; 9] = [
    "ENCODING",
    "LOCALE_PROVIDER",
    "LOCALE",
    "LC_COLLATE",
    "LC_CTYPE",
    "ICU_LOCALE",
    "ICU_RULES",
    "BUILTIN_LOCALE",
    "STRATEGY",
];

/// What a dump needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Options of `CREATE DATABASE`, written anew, for example `ENCODING = 'UTF8'`.
    pub(crate) options: String,
    /// Who owned the database.
    pub(crate) owner: Option<String>,
    /// Every role that owns something or is granted something.
    pub(crate) roles: BTreeSet<String>,
}

/// Reads the script.
pub(crate) fn read(script: &str) -> Contents {
    let mut contents = Contents {
        options: options(script),
        ..Contents::default()
    };
    for line in script.lines() {
        if let Some(comment) = line.strip_prefix("-- Name: ") {
            let Some((entry, owner)) = comment.rsplit_once("; Owner: ") else {
                continue;
            };
            let owner = owner.split("; Tablespace: ").next().unwrap_or(owner);
            if owner.is_empty() || owner == "-" {
                continue;
            }
            if entry.contains("; Type: DATABASE;") {
                contents.owner = Some(owner.to_owned());
            }
            contents.roles.insert(owner.to_owned());
        } else if let Some(statement) = line.strip_suffix(';') {
            contents.roles.extend(grantee(statement));
        }
    }
    contents
}

/// Who is granted something by this statement, unless everybody is.
fn grantee(statement: &str) -> Option<String> {
    if !(statement.starts_with("GRANT ") || statement.starts_with("ALTER DEFAULT PRIVILEGES ")) {
        return None;
    }
    let (_, to) = statement.rsplit_once(" TO ")?;
    let to = to.strip_suffix(" WITH GRANT OPTION").unwrap_or(to);
    (to != "PUBLIC").then(|| unquoted(to))
}

fn unquoted(name: &str) -> String {
    name.strip_prefix('"')
        .and_then(|name| name.strip_suffix('"'))
        .map_or_else(|| name.to_owned(), |name| name.replace("\"\"", "\""))
}

fn options(script: &str) -> String {
    const BEGIN: &str = " WITH TEMPLATE = template0 ";
    let statement = script
        .split_once("\nCREATE DATABASE ")
        .and_then(|(_, rest)| rest.split_once(BEGIN))
        .map(|(_, rest)| rest.split_once(";\n").map_or(rest, |(statement, _)| statement));
    let mut rest = statement.unwrap_or_default();
    let mut written = Vec::new();
    while let Some((key, tail)) = rest.split_once(" = ") {
        let (value, tail) = match tail.strip_prefix('\'') {
            Some(quoted) => match quoted.split_once('\'') {
                Some((value, tail)) => (format!("'{value}'"), tail),
                None => break,
            },
            None => {
                let (word, tail) = tail.split_once(' ').unwrap_or((tail, ""));
                (word.to_owned(), tail)
            }
        };
        let is_plain =
            value.starts_with('\'') || value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if OPTIONS.contains(&key.trim()) && is_plain && !value.contains('\\') {
            written.push(format!("{} = {value}", key.trim()));
        }
        rest = tail;
    }
    written.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = r#"--
-- PostgreSQL database dump
--
SET statement_timeout = 0;

--
-- Name: o'd "d; Type: DATABASE; Schema: -; Owner: shop owner
--

CREATE DATABASE "o'd ""d" WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'C.UTF-8' TABLESPACE = fast;


ALTER DATABASE "o'd ""d" OWNER TO "shop owner";

-- Name: t; Type: TABLE; Schema: public; Owner: writer; Tablespace: fast
CREATE TABLE public.t (id integer);
-- Name: TABLE t; Type: ACL; Schema: public; Owner: writer
GRANT SELECT ON TABLE public.t TO "re ""ader" WITH GRANT OPTION;
GRANT SELECT ON TABLE public.t TO PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE writer IN SCHEMA public GRANT SELECT ON TABLES  TO later;
-- Name: EXTENSION x; Type: COMMENT; Schema: -; Owner: -
"#;

    #[test]
    fn options_and_roles_are_found_whatever_they_are_called() {
        let contents = read(SCRIPT);
        assert_eq!(
            contents.options,
            "ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'C.UTF-8'"
        );
        assert_eq!(contents.owner.as_deref(), Some("shop owner"));
        let roles: Vec<_> = contents.roles.iter().map(String::as_str).collect();
        assert_eq!(roles, ["later", "re \"ader", "shop owner", "writer"]);
    }

    #[test]
    fn nothing_but_known_options_is_passed_on() {
        let script = |options: &str| format!("\nCREATE DATABASE x WITH TEMPLATE = template0 {options};\n");
        for (options, expected) in [
            ("ENCODING = 'UTF8'", "ENCODING = 'UTF8'"),
            ("ENCODING = UTF8; DROP DATABASE y", ""),
            ("ENCODING = 'a' OWNER = eve IS_TEMPLATE = true", "ENCODING = 'a'"),
            (r"LOCALE = 'a\'", ""),
            ("LOCALE = 'never ends", ""),
        ] {
            assert_eq!(read(&script(options)).options, expected, "{options}");
        }
        assert_eq!(read("").options, "");
    }
}
