//! What a database is beside its contents: owner, grants, settings, connection limit, comment. A rename keeps none of it
//! for the one that takes the name, and a dump of the contents holds none of it.
//!
//! In: the living database. Out: the same on the restored one, before it gets the name. No setting takes effect in a
//! session of ours on the way: one may be the role to act as.

use super::failure::Failure;
use crate::sql::{Session, name, text};
use serde::Deserialize;

/// Settings that are lists of names.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// What is copied.
#[derive(Debug, Deserialize)]
struct Identity {
    owner: String,
    limit: i64,
    comment: Option<String>,
    /// Whether grants were ever changed; else those of a new database hold.
    granted: bool,
    grants: Vec<Grant>,
    settings: Vec<Setting>,
}

#[derive(Debug, Deserialize)]
struct Grant {
    /// None: everybody.
    role: Option<String>,
    privilege: String,
    grantable: bool,
}

#[derive(Debug, Deserialize)]
struct Setting {
    /// None: for every role.
    role: Option<String>,
    name: String,
    value: String,
}

/// Gives `to` the owner, grants, settings, limit and comment of the database with this OID.
///
/// # Errors
/// If the admin may not, for example set what only a superuser may.
pub(crate) async fn copy(admin: &Session, from: i64, to: &str) -> Result<(), Failure> {
    let identity: Identity = admin
        .ask("read what the database is beside its contents", &query(from))
        .await?;
    for statement in statements(&identity, to) {
        admin
            .execute(
                "give the restored database what the old one has beside its contents",
                &statement,
            )
            .await?;
    }
    Ok(())
}

fn query(oid: i64) -> String {
    format!(
        "SELECT json_build_object(\
         'owner', pg_get_userbyid(datdba), 'limit', datconnlimit, 'comment', shobj_description(oid, 'pg_database'), \
         'granted', datacl IS NOT NULL, \
         'grants', (SELECT coalesce(json_agg(json_build_object(\
             'role', CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee) END, \
             'privilege', privilege_type, 'grantable', is_grantable)), '[]') FROM aclexplode(datacl)), \
         'settings', (SELECT coalesce(json_agg(json_build_object(\
             'role', CASE WHEN setrole <> 0 THEN pg_get_userbyid(setrole) END, \
             'name', split_part(setting, '=', 1), 'value', substr(setting, strpos(setting, '=') + 1))), '[]') \
             FROM pg_db_role_setting, unnest(setconfig) setting WHERE setdatabase = {oid})) \
         FROM pg_database WHERE oid = {oid}"
    )
}

/// One transaction each.
fn statements(identity: &Identity, to: &str) -> Vec<String> {
    let database = name(to);
    let mut statements = vec![
        format!("ALTER DATABASE {database} OWNER TO {}", name(&identity.owner)),
        format!("ALTER DATABASE {database} CONNECTION LIMIT {}", identity.limit),
    ];
    if let Some(comment) = &identity.comment {
        statements.push(format!("COMMENT ON DATABASE {database} IS {}", text(comment)));
    }
    if identity.granted {
        let mut grants = vec![
            format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"),
            format!("REVOKE ALL ON DATABASE {database} FROM {}", name(&identity.owner)),
        ];
        grants.extend(identity.grants.iter().filter_map(|grant| {
            let privilege @ ("CREATE" | "CONNECT" | "TEMPORARY") = grant.privilege.as_str() else {
                return None;
            };
            let role = grant.role.as_deref().map_or_else(|| "PUBLIC".to_owned(), name);
            let option = if grant.grantable { " WITH GRANT OPTION" } else { "" };
            Some(format!("GRANT {privilege} ON DATABASE {database} TO {role}{option}"))
        }));
        statements.push(grants.join("; "));
    }
    statements.extend(identity.settings.iter().map(|setting| {
        let holder = match &setting.role {
            Some(role) => format!("ROLE {} IN DATABASE {database}", name(role)),
            None => format!("DATABASE {database}"),
        };
        // A setting of an extension has a dot in its name, and each part is a name of its own.
        let parameter: Vec<_> = setting.name.split('.').map(name).collect();
        format!("ALTER {holder} SET {} TO {}", parameter.join("."), value(setting))
    }));
    statements
}

/// The value as SET takes it, as pg_dump writes it too: a list of names was stored quoted name by name.
fn value(setting: &Setting) -> String {
    if LISTS.iter().any(|list| setting.name.eq_ignore_ascii_case(list)) {
        let names: Vec<_> = names(&setting.value).iter().map(|name| text(name)).collect();
        names.join(", ")
    } else {
        text(&setting.value)
    }
}

/// The names of a stored list.
fn names(list: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut quoted = false;
    let mut characters = list.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, names.last_mut()) {
            ('"', Some(name)) if quoted && characters.next_if_eq(&'"').is_some() => name.push('"'),
            ('"', _) => quoted = !quoted,
            (',', _) if !quoted => names.push(String::new()),
            (character, Some(name)) if quoted || !character.is_whitespace() => name.push(character),
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_list_is_taken_apart_name_by_name() {
        let expected: [(&str, &[&str]); 5] = [
            (r#""$user", public, "o'd ""d""#, &["$user", "public", "o'd \"d"]),
            (r#""a, b",c"#, &["a, b", "c"]),
            (r#""""""#, &["\""]),
            (r#""""#, &[""]),
            ("", &[""]),
        ];
        for (list, expected) in expected {
            assert_eq!(names(list), expected, "{list}");
        }
    }

    #[test]
    fn a_setting_is_written_without_taking_effect() {
        let identity = |name: &str, value: &str| Identity {
            owner: "o".into(),
            limit: -1,
            comment: None,
            granted: false,
            grants: Vec::new(),
            settings: vec![Setting {
                role: Some("app".into()),
                name: name.into(),
                value: value.into(),
            }],
        };
        for (name, value, expected) in [
            ("role", "owner", r#""role" TO 'owner'"#),
            ("DateStyle", "ISO, DMY", r#""DateStyle" TO 'ISO, DMY'"#),
            (
                "search_path",
                r#""$user", public"#,
                r#""search_path" TO '$user', 'public'"#,
            ),
            ("my.own", "it's", r#""my"."own" TO 'it''s'"#),
        ] {
            let statements = statements(&identity(name, value), "db");
            let expected = format!(r#"ALTER ROLE "app" IN DATABASE "db" SET {expected}"#);
            assert_eq!(statements.last(), Some(&expected));
        }
    }
}
