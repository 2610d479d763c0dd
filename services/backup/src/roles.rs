//! The roles of a server, as `pg_dumpall --globals-only --no-role-passwords` writes them, and as they are made again. Pure.
//!
//! In: that script. Out: [`Roles`], and statements that make them. Nothing of the script is passed on as it is: it is taken
//! apart, what is known is written anew, and what would give power over the whole server is only named.

use crate::sql::{name, text};
use std::collections::{BTreeMap, BTreeSet};

mod script;

use script::{Token, statements};

/// What a role may be told to have, beside what has a value.
const OPTIONS: [&str; 6] = ["INHERIT", "NOINHERIT", "CREATEDB", "NOCREATEDB", "LOGIN", "NOLOGIN"];
/// What gives power over the whole server.
const POWERS: [&str; 4] = ["SUPERUSER", "CREATEROLE", "REPLICATION", "BYPASSRLS"];
/// Roles of the server itself whose members reach its host.
const POWERFUL: [&str; 3] = [
    "pg_execute_server_program",
    "pg_read_server_files",
    "pg_write_server_files",
];

/// The roles of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Each role by its name.
    pub roles: BTreeMap<String, Role>,
    /// Who is a member of what.
    pub memberships: BTreeSet<Membership>,
}

/// What one role is, without its password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Options of `CREATE ROLE`, written anew, for example `LOGIN CONNECTION LIMIT 5`.
    pub options: Vec<String>,
    /// What gives it power over the whole server, for example `SUPERUSER`.
    pub powers: BTreeSet<&'static str>,
    /// What follows `ALTER ROLE <name>`, written anew, for example `SET "work_mem" TO '7MB'`.
    pub settings: Vec<String>,
    /// Its comment.
    pub comment: Option<String>,
}

/// One role is a member of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Membership {
    /// Who.
    pub member: String,
    /// Of what.
    pub of: String,
    /// Whether it may make others members.
    pub admin: bool,
}

impl Roles {
    /// Reads the script.
    ///
    /// # Errors
    /// If it is not whole, or holds a password.
    pub fn read(script: &str) -> Result<Self, String> {
        // Minor versions since 2025 write one more line behind this one.
        if !script.contains("\n-- PostgreSQL database cluster dump complete\n") {
            return Err("the script of the roles has no end: it was cut".into());
        }
        let mut roles = Self::default();
        for statement in statements(script) {
            roles.take(&statement)?;
        }
        // What was dropped while the script was written, or is the server's own under a name of the server's.
        let known = |role: &String| roles.roles.contains_key(role) || role.starts_with("pg_");
        let memberships = std::mem::take(&mut roles.memberships).into_iter();
        roles.memberships = memberships.filter(|membership| known(&membership.of)).collect();
        Ok(roles)
    }

    fn take(&mut self, statement: &[Token]) -> Result<(), String> {
        let Some((verb, rest)) = statement.split_first() else {
            return Ok(());
        };
        match (verb.word().as_str(), rest) {
            ("CREATE", [kind, role]) if kind.is("ROLE") => {
                self.roles.entry(role.name()).or_default();
            }
            ("ALTER", [kind, role, with, options @ ..]) if kind.is("ROLE") && with.is("WITH") => {
                let options = options_of(options).map_err(|why| format!("role {}: {why}", role.name()))?;
                let role = self.roles.entry(role.name()).or_default();
                (role.options, role.powers) = options;
            }
            ("ALTER", [kind, role, set, setting @ ..]) if kind.is("ROLE") && set.is("SET") => {
                let setting = setting_of(setting);
                self.roles.entry(role.name()).or_default().settings.extend(setting);
            }
            ("COMMENT", [on, kind, role, is, Token::Text(comment)])
                if on.is("ON") && kind.is("ROLE") && is.is("IS") =>
            {
                self.roles.entry(role.name()).or_default().comment = Some(comment.clone());
            }
            ("GRANT", [of, to, member, how @ ..]) if to.is("TO") => {
                let admin = how
                    .windows(2)
                    .any(|pair| pair[0].is("ADMIN") && (pair[1].is("OPTION") || pair[1].is("TRUE")));
                self.memberships.insert(Membership {
                    member: member.name(),
                    of: of.name(),
                    admin,
                });
            }
            // Tablespaces belong to a host, rights on settings to its administrator, and the rest is talk to psql.
            _ => {}
        }
        Ok(())
    }

    /// Takes over what `other` says of roles that are not known yet.
    pub fn merge(&mut self, other: Self) {
        for (name, role) in other.roles {
            self.roles.entry(name).or_insert(role);
        }
        self.memberships.extend(other.memberships);
    }

    /// Forgets roles that are there already, and what would change them.
    pub fn retain_missing(&mut self, there: &BTreeSet<String>) {
        self.roles.retain(|name, _| !there.contains(name));
        self.memberships
            .retain(|membership| self.roles.contains_key(&membership.member));
    }

    /// Forgets what gives power over the whole server, and says what that was. `superusers` are those of the server.
    pub fn without_powers(&mut self, superusers: &BTreeSet<String>) -> Vec<String> {
        let mut left_out = Vec::new();
        for (name, role) in &mut self.roles {
            for power in std::mem::take(&mut role.powers) {
                left_out.push(format!("{name} is without {power}"));
            }
        }
        self.memberships.retain(|membership| {
            let powerful = POWERFUL.contains(&membership.of.as_str()) || superusers.contains(&membership.of);
            if powerful {
                left_out.push(format!("{} is no member of {}", membership.member, membership.of));
            }
            !powerful
        });
        left_out
    }

    /// What makes each role, with the comment that `mark` gives it.
    pub fn creation(&self, mark: &dyn Fn(&Role) -> Option<String>) -> Vec<String> {
        let creation = self.roles.iter().map(|(role, what)| {
            let options = what.options.iter().map(String::as_str);
            let words: Vec<_> = options.chain(what.powers.iter().copied()).collect();
            let role = name(role);
            let comment = mark(what).map(|comment| format!("; COMMENT ON ROLE {role} IS {}", text(&comment)));
            format!(
                "CREATE ROLE {}{}",
                [&[role.as_str()], words.as_slice()].concat().join(" "),
                comment.unwrap_or_default()
            )
        });
        creation.collect()
    }

    /// Statements that give the roles their memberships and settings: each may be refused by itself.
    pub fn refinement(&self) -> Vec<String> {
        let memberships = self.memberships.iter().map(|membership| {
            let admin = if membership.admin { " WITH ADMIN OPTION" } else { "" };
            format!("GRANT {} TO {}{admin}", name(&membership.of), name(&membership.member))
        });
        let settings = self.roles.iter().flat_map(|(role, what)| {
            let settings = what.settings.iter();
            settings.map(move |setting| format!("ALTER ROLE {} {setting}", name(role)))
        });
        memberships.chain(settings).collect()
    }
}

fn options_of(mut rest: &[Token]) -> Result<(Vec<String>, BTreeSet<&'static str>), String> {
    let (mut options, mut powers) = (Vec::new(), BTreeSet::new());
    while let Some((token, tail)) = rest.split_first() {
        let word = token.word();
        rest = tail;
        match (word.as_str(), tail) {
            ("PASSWORD", _) => return Err("its password is in the script".into()),
            ("CONNECTION", [limit, number @ Token::Word(_), tail @ ..]) if limit.is("LIMIT") => {
                options.extend(
                    number
                        .word()
                        .parse::<i32>()
                        .map(|number| format!("CONNECTION LIMIT {number}")),
                );
                rest = tail;
            }
            ("VALID", [until, Token::Text(time), tail @ ..]) if until.is("UNTIL") => {
                options.push(format!("VALID UNTIL {}", text(time)));
                rest = tail;
            }
            (word, _) => {
                options.extend(
                    OPTIONS
                        .iter()
                        .find(|option| **option == word)
                        .map(|option| (*option).to_owned()),
                );
                powers.extend(POWERS.iter().find(|power| **power == word));
            }
        }
    }
    Ok((options, powers))
}

/// `name TO 'value', 'value'`; a name of an extension's setting has a dot in it.
fn setting_of(tokens: &[Token]) -> Option<String> {
    let to = tokens.iter().position(|token| token.is("TO"))?;
    let (setting, values) = (&tokens[..to], &tokens[to + 1..]);
    let [setting] = setting else { return None };
    let setting: Vec<_> = setting.name().split('.').map(name).collect();
    let values: Vec<_> = values
        .iter()
        .filter(|token| !token.is(","))
        .map(|value| text(&value.name()))
        .collect();
    (!values.is_empty()).then(|| format!("SET {} TO {}", setting.join("."), values.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = r#"--
-- PostgreSQL database cluster dump
--

\restrict abc

SET default_transaction_read_only = off;

CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 5 VALID UNTIL '2030-01-01 00:00:00+00';
COMMENT ON ROLE app IS 'it''s; the -- app';
CREATE ROLE "o'd ""r;ole";
ALTER ROLE "o'd ""r;ole" WITH SUPERUSER NOINHERIT CREATEROLE CREATEDB NOLOGIN REPLICATION BYPASSRLS;

--
-- User Configurations
--

ALTER ROLE app SET search_path TO '"$user"', 'public', 'o''d';
ALTER ROLE app SET "my.setting" TO E'back\\slash;\'';
GRANT "o'd ""r;ole" TO app WITH ADMIN OPTION GRANTED BY postgres;
GRANT pg_read_server_files TO app GRANTED BY postgres;
GRANT pg_monitor TO app WITH INHERIT FALSE GRANTED BY postgres;
CREATE TABLESPACE fast OWNER app LOCATION '/fast';
GRANT SET ON PARAMETER log_statement TO app;
--
-- PostgreSQL database cluster dump complete
--

\unrestrict abc
"#;

    #[test]
    fn roles_are_read_whatever_they_are_called_and_written_anew() {
        let mut roles = Roles::read(SCRIPT).unwrap();
        assert_eq!(roles.roles["app"].comment.as_deref(), Some("it's; the -- app"));
        assert_eq!(
            roles.creation(&|_| None),
            [
                r#"CREATE ROLE "app" INHERIT NOCREATEDB LOGIN CONNECTION LIMIT 5 VALID UNTIL '2030-01-01 00:00:00+00'"#,
                r#"CREATE ROLE "o'd ""r;ole" NOINHERIT CREATEDB NOLOGIN BYPASSRLS CREATEROLE REPLICATION SUPERUSER"#,
            ]
        );
        assert_eq!(
            roles.refinement(),
            [
                r#"GRANT "o'd ""r;ole" TO "app" WITH ADMIN OPTION"#,
                r#"GRANT "pg_monitor" TO "app""#,
                r#"GRANT "pg_read_server_files" TO "app""#,
                r#"ALTER ROLE "app" SET "search_path" TO '"$user"', 'public', 'o''d'"#,
                r#"ALTER ROLE "app" SET "my"."setting" TO 'back\slash;'''"#,
            ]
        );
        let left_out = roles.without_powers(&["boss".to_owned()].into());
        assert_eq!(left_out.len(), 5, "{left_out:?}");
        assert!(left_out.contains(&"app is no member of pg_read_server_files".to_owned()));
        assert_eq!(
            roles.creation(&|_| Some("it's not finished".into()))[1],
            r#"CREATE ROLE "o'd ""r;ole" NOINHERIT CREATEDB NOLOGIN; COMMENT ON ROLE "o'd ""r;ole" IS 'it''s not finished'"#
        );
        assert_eq!(roles.refinement().len(), 4);
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let mut roles = Roles::read(SCRIPT).unwrap();
        roles.retain_missing(&["app".to_owned(), "another".to_owned()].into());
        assert_eq!(roles.roles.keys().collect::<Vec<_>>(), ["o'd \"r;ole"]);
        assert!(roles.memberships.is_empty(), "app is there, and gets nothing");
        let mut others = Roles::read(SCRIPT).unwrap();
        others.roles.get_mut("app").unwrap().options.clear();
        let mut all = Roles::read(SCRIPT).unwrap();
        all.merge(others);
        assert_eq!(all, Roles::read(SCRIPT).unwrap(), "the first one counts");
    }

    #[test]
    fn nobody_is_made_a_member_of_a_superuser() {
        let mut roles = Roles::read(SCRIPT).unwrap();
        roles.roles.remove("o'd \"r;ole");
        let left_out = roles.without_powers(&["o'd \"r;ole".to_owned()].into());
        assert!(
            left_out.contains(&"app is no member of o'd \"r;ole".to_owned()),
            "{left_out:?}"
        );
    }

    #[test]
    fn a_script_that_was_cut_or_holds_a_password_is_refused() {
        for (script, why) in [
            ("", "it was cut"),
            (&SCRIPT[..SCRIPT.len() / 2], "it was cut"),
            (
                &SCRIPT.replace("CONNECTION LIMIT 5", "PASSWORD 'SCRAM-SHA-256$4096:x'"),
                "role app: its password is in the script",
            ),
        ] {
            let error = Roles::read(script).unwrap_err();
            assert!(error.contains(why) && !error.contains("SCRAM"), "{error}");
        }
    }
}
