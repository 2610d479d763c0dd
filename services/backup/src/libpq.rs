//! How the programs of libpq reach one database: one connection text, one trust, one environment for `psql` and
//! `pg_dump`, so that what the one accepts the other does too. And what their complaints mean.
//!
//! In: a [`Connection`]. Out: a command that lacks only its own arguments; of a complaint, a line without any value of
//! the Secret. The password travels in the environment, never on the command line.

use crate::{client::Client, connection::Connection};
use std::{io, process::Stdio, time::Duration};
use tokio::process::Command;

/// How long libpq tries to connect to one address. Unit: seconds.
const CONNECT_TIMEOUT_SECONDS: u32 = 10;
/// After this long without an answer a connection counts as lost.
const SILENCE: Duration = Duration::from_secs(45);
/// The longest name that a server keeps. Unit: bytes.
const LONGEST_NAME: usize = 63;
/// A shorter value is taken for one of the Secret only where it stands in quotes alone. Unit: bytes.
const MASKED_ANYWHERE: usize = 4;
/// The most that is kept of a program's complaint at each of its two ends.
const KEPT_END: usize = 300;

/// Why a connection was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFault {
    /// The server is not there, not ready, or full: asking again may help.
    Passing,
    /// The server's certificate is not one that the Secret trusts.
    Certificate,
    /// The server, or libpq itself, refuses: only a change of the Secret or of the server helps.
    Lasting,
}

/// A program of one client with everything that does not depend on what it is asked to do.
pub fn command(client: &Client, program: &str) -> Command {
    let mut command = Command::new(client.program(program));
    // Nothing of the pod's environment reaches the programs; messages are English, since they are read below.
    command
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("PGAPPNAME", "valerix-backup")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The same, connected: asks nobody for a password.
pub fn connected(client: &Client, program: &str, connection: &Connection) -> Command {
    let mut command = command(client, program);
    command
        .env("PGPASSWORD", &connection.password)
        .arg("--no-password")
        .arg("--dbname")
        .arg(connection_text(connection));
    command
}

/// The name of its database alone, for a program that wants it apart.
pub fn database_text(connection: &Connection) -> String {
    format!("dbname={}", quoted(&connection.database))
}

/// Runs a command to its end.
///
/// # Errors
/// If it cannot be started or heard.
pub async fn output(mut command: Command) -> io::Result<std::process::Output> {
    command.spawn()?.wait_with_output().await
}

/// Everything but the password, quoted as libpq reads it: a name may hold spaces, quotes and `=`.
fn connection_text(connection: &Connection) -> String {
    let mut text = format!(
        "host={} port={} user={} dbname={} connect_timeout={CONNECT_TIMEOUT_SECONDS} keepalives_idle=15 keepalives_interval=5 keepalives_count=3 tcp_user_timeout={}",
        quoted(&connection.host),
        connection.port,
        quoted(&connection.username),
        quoted(&connection.database),
        SILENCE.as_millis(),
    );
    if let Some(mode) = &connection.ssl_mode {
        text.push_str(" sslmode=");
        text.push_str(&quoted(mode));
    }
    if let Some(certificates) = &connection.root_certificates {
        text.push_str(" sslrootcert=");
        text.push_str(&quoted(&certificates.to_string_lossy()));
    }
    text
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// What a complaint about connecting means. What libpq says itself is English; a server may speak another language, and
/// what is not understood counts as passing: it is tried until the deadline, and told meanwhile.
pub fn connect_fault(complaint: &str) -> ConnectFault {
    const CERTIFICATE: [&str; 4] = [
        "certificate verify failed",
        "does not match host name",
        "root certificate file",
        "host name from server certificate",
    ];
    const LASTING: [&str; 10] = [
        "authentication failed",
        "no password supplied",
        "does not exist",
        "no pg_hba.conf entry",
        "pg_hba.conf rejects",
        "is not permitted to log in",
        "permission denied for database",
        "is not currently accepting connections",
        "server does not support SSL",
        "authentication method",
    ];
    let says = |texts: &[&str]| texts.iter().any(|text| complaint.contains(text));
    if says(&CERTIFICATE) {
        ConnectFault::Certificate
    } else if says(&LASTING) {
        ConnectFault::Lasting
    } else {
        ConnectFault::Passing
    }
}

/// Whether a complaint is about connecting.
pub fn is_about_connecting(complaint: &str) -> bool {
    complaint.contains("connection to server") || complaint.contains("could not translate host name")
}

/// Whether a complaint says that a session was lost that had been there.
pub fn is_lost(complaint: &str) -> bool {
    [
        "server closed the connection",
        "terminating connection",
        "connection to server was lost",
        "no connection to the server",
        "SSL connection has been closed",
        "SSL SYSCALL error",
        // As OpenSSL 3 says it where something between cuts the session.
        "SSL error: unexpected eof",
        "could not receive data from server",
        "could not send data to server",
    ]
    .iter()
    .any(|text| complaint.contains(text))
}

/// What a program wrote to its error stream, in one line, to be told; what it means is judged by its [line]. Where it
/// speaks of the connection, a value of the Secret is shown as the name of its key: two keys that were mixed up must not
/// publish a password.
pub fn complaint(stderr: &[u8], connection: &Connection) -> String {
    let mut text = String::from_utf8_lossy(stderr).into_owned();
    if is_about_connecting(&line(stderr)) {
        let password = connection.password.to_string_lossy().into_owned();
        let mut values = [
            ("host", connection.host.as_str()),
            ("username", &connection.username),
            ("dbname", &connection.database),
            ("password", &password),
        ];
        // One value may be a part of another.
        values.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        for (key, value) in values {
            // Before white space is joined: a value may hold some.
            for shown in [value, cut(value)] {
                text = text.replace(&format!("\"{shown}\""), &format!("<key {key}>"));
                // A server of another language has other quotes, and a path of a socket goes on.
                if shown.len() >= MASKED_ANYWHERE {
                    text = text.replace(shown, &format!("<key {key}>"));
                }
            }
        }
    }
    line(text.as_bytes())
}

/// As a server quotes a name that is longer than it takes.
fn cut(value: &str) -> &str {
    let mut end = value.len().min(LONGEST_NAME);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

/// What was written, in one line.
pub fn line(written: &[u8]) -> String {
    let text = String::from_utf8_lossy(written);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What psql wrote with VERBOSITY=verbose, as it would have written it without: the SQLSTATE of what came last, and the
/// text without SQLSTATEs and without places in the server's source. A server speaks its own language, and codes are the
/// same in all.
pub fn without_codes(stderr: &[u8]) -> (Option<String>, String) {
    const LENGTH: usize = 5;
    let (mut last, mut text) = (None, String::new());
    for line in String::from_utf8_lossy(stderr).lines() {
        if line.starts_with("LOCATION:  ") {
            continue;
        }
        let coded = line.split_once(":  ").and_then(|(severity, rest)| {
            let (code, message) = rest.split_at_checked(LENGTH)?;
            let is_code = code
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
            let message = message.strip_prefix(": ").filter(|_| is_code)?;
            Some((code, format!("{severity}:  {message}")))
        });
        match coded {
            Some((code, line)) => {
                last = Some(code.to_owned());
                text.push_str(&line);
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    (last, text)
}

/// Both ends of a long complaint: the error is at the one where a long query follows it, at the other where warnings
/// precede it.
pub fn shortened(complaint: &str) -> String {
    let count = complaint.chars().count();
    if count <= 2 * KEPT_END {
        return complaint.to_owned();
    }
    let characters = || complaint.chars();
    characters()
        .take(KEPT_END)
        .chain(['…'])
        .chain(characters().skip(count - KEPT_END))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection {
            label: "databases[0] x".into(),
            secret: "x-db".into(),
            name: "x".into(),
            host: "db".into(),
            port: 1,
            database: r"o'r\d = 1".into(),
            username: "me".into(),
            password: "geheim".into(),
            ssl_mode: Some("verify-full".into()),
            root_certificates: Some("/a b/ca.crt".into()),
        }
    }

    #[test]
    fn a_connection_is_quoted_and_carries_no_password() {
        let text = connection_text(&connection());
        for part in [
            r"dbname='o\'r\\d = 1'",
            "sslmode='verify-full'",
            "sslrootcert='/a b/ca.crt'",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("geheim"));
    }

    #[test]
    fn a_complaint_is_short() {
        assert_eq!(line(b"a\n b\n"), "a b");
        assert_eq!(shortened(&"é".repeat(600)), "é".repeat(600));
        let long = format!("error{}query", "é".repeat(700));
        assert_eq!(shortened(&long).chars().count(), 2 * KEPT_END + 1);
        assert!(shortened(&long).starts_with("error") && shortened(&long).ends_with("query"));
    }

    #[test]
    fn codes_are_read_in_every_language_and_not_told() {
        let german = "WARNUNG:  01000: x\nFEHLER:  55006: auf Datenbank „x“ wird zugegriffen\nDETAIL:  Eine andere.\nLOCATION:  RenameDatabase, dbcommands.c:1\n";
        let (code, text) = without_codes(german.as_bytes());
        assert_eq!(code.as_deref(), Some("55006"));
        assert_eq!(
            text,
            "WARNUNG:  x\nFEHLER:  auf Datenbank „x“ wird zugegriffen\nDETAIL:  Eine andere.\n"
        );
        let none = b"psql: error: connection to server at \"db\" failed: FATAL:  password authentication failed\n";
        assert_eq!(without_codes(none), (None, String::from_utf8_lossy(none).into_owned()));
    }

    #[test]
    fn keys_that_were_mixed_up_publish_no_password() {
        let mixed = Connection {
            username: "geheim".into(),
            password: "me".into(),
            ..connection()
        };
        let stderr = br#"psql: error: connection to server at "db" (10.0.0.1), port 1 failed: FATAL:  password authentication failed for user "geheim""#;
        assert_eq!(
            complaint(stderr, &mixed),
            "psql: error: connection to server at <key host> (10.0.0.1), port 1 failed: FATAL: password authentication failed for user <key username>"
        );
        // A server cuts what is too long, says it in its own language and with its own quotes; libpq names a socket by a path.
        let long = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/+";
        let at = "psql: error: connection to server at \"db\" (10.0.0.1), port 1 failed: ";
        for (username, host, stderr) in [
            (
                long,
                "db",
                format!("{at}FATAL:  role \"{}\" does not exist", &long[..63]),
            ),
            (
                "ge  heim\tx",
                "db",
                format!("{at}FATAL:  role \"ge  heim\tx\" does not exist"),
            ),
            (
                "geheim",
                "db",
                format!("{at}FATAL:  Passwort-Authentifizierung für Benutzer »geheim« fehlgeschlagen"),
            ),
            (
                "geheim",
                "db",
                format!("{at}FATAL:  authentification par mot de passe échouée pour l'utilisateur «\u{a0}geheim\u{a0}»"),
            ),
            (
                "me",
                "/geheim",
                "psql: error: connection to server on socket \"/geheim/.s.PGSQL.5432\" failed: No such file or directory"
                    .to_owned(),
            ),
        ] {
            let mixed = Connection {
                username: username.into(),
                host: host.into(),
                ..connection()
            };
            let told = complaint(stderr.as_bytes(), &mixed);
            assert!(told.contains("<key "), "{told}");
            for secret in ["geheim", "ge heim", "0123456789abcdef"] {
                assert!(!told.contains(secret), "{told}");
            }
        }
        // What is no talk about the connection is left as it is: a table may have any name.
        let stderr = br#"pg_dump: error: query would be affected by row-level security policy for table "me""#;
        assert!(complaint(stderr, &mixed).ends_with("table \"me\""));
    }

    #[test]
    fn what_passes_is_told_from_what_lasts() {
        for (text, expected) in [
            ("failed: Connection refused", ConnectFault::Passing),
            ("failed: timeout expired", ConnectFault::Passing),
            ("FATAL: the database system is starting up", ConnectFault::Passing),
            ("FATAL: sorry, too many clients already", ConnectFault::Passing),
            (
                "could not translate host name <key host> to address",
                ConnectFault::Passing,
            ),
            (
                "FATAL: Passwort-Authentifizierung fehlgeschlagen",
                ConnectFault::Passing,
            ),
            (
                "FATAL: password authentication failed for user <key username>",
                ConnectFault::Lasting,
            ),
            ("FATAL: database <key dbname> does not exist", ConnectFault::Lasting),
            ("FATAL: no pg_hba.conf entry for host", ConnectFault::Lasting),
            (
                "server does not support SSL, but SSL was required",
                ConnectFault::Lasting,
            ),
            ("SSL error: certificate verify failed", ConnectFault::Certificate),
            (
                "server certificate for \"a\" does not match host name <key host>",
                ConnectFault::Certificate,
            ),
            ("root certificate file \"/x\" does not exist", ConnectFault::Certificate),
        ] {
            assert_eq!(connect_fault(text), expected, "{text}");
        }
    }
}
