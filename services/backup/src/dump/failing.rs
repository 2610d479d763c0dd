//! What the words of a dumping program mean: whether trying again may help, and what somebody has to do. Pure.

use super::{Error, LOCK_WAIT_SECONDS};
use crate::{
    connection::Connection,
    libpq::{self, ConnectFault},
};

/// What it means that a dumping program ended so and wrote this.
pub(crate) fn failure(connection: &Connection, program: &'static str, how: String, stderr: &[u8]) -> Error {
    let label = connection.label.clone();
    let said = libpq::line(stderr);
    let mut complaint = libpq::shortened(&libpq::complaint(stderr, connection));
    if let Some(obstacle) = passing_obstacle(&said) {
        return Error::Passing {
            label,
            program,
            obstacle,
            how,
            complaint,
        };
    }
    if said.contains("permission denied") {
        complaint.push_str(
            ": the role must be able to read everything (grant it pg_read_all_data; large objects need their owner or a superuser)",
        );
    }
    if said.contains("row-level security") {
        complaint.push_str(": the role would see a part of the rows only; give it BYPASSRLS, or name the owner");
    }
    Error::Failed {
        label,
        program,
        how,
        complaint,
    }
}

/// What stood in pg_dump's way, if it passes by itself.
fn passing_obstacle(complaint: &str) -> Option<String> {
    let says = |text: &str| complaint.contains(text);
    if libpq::is_about_connecting(complaint) {
        return (libpq::connect_fault(complaint) == ConnectFault::Passing).then(|| "lost the connection".to_owned());
    }
    // Behind it stand the names of the tables, of all of them since version 16, and a name may be any word.
    let locking = complaint.split_once("LOCK TABLE").map(|(error, _)| error);
    if locking.is_some_and(|error| {
        ["statement timeout", "lock timeout"]
            .iter()
            .any(|text| error.contains(text))
    }) {
        return Some(format!(
            "waited {LOCK_WAIT_SECONDS} s for a lock on a table that another session holds"
        ));
    }
    if libpq::is_lost(complaint) {
        return Some("lost the connection".to_owned());
    }
    [
        ("conflict with recovery", "was cancelled by the standby's recovery"),
        ("deadlock detected", "met a deadlock"),
        // What was there when the dump began was dropped meanwhile.
        ("cache lookup failed for", "met a change of the schema"),
        ("could not open relation with OID", "met a change of the schema"),
    ]
    .into_iter()
    .find_map(|(text, obstacle)| says(text).then(|| obstacle.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_told_from_what_does_not() {
        for (complaint, expected) in [
            (
                "error: query failed: ERROR: canceling statement due to statement timeout pg_dump: detail: Query was: LOCK TABLE public.t IN ACCESS SHARE MODE",
                Some("waited 60 s for a lock on a table that another session holds"),
            ),
            (
                "ERROR: canceling statement due to conflict with recovery",
                Some("was cancelled by the standby's recovery"),
            ),
            ("ERROR: deadlock detected", Some("met a deadlock")),
            (
                "FATAL: terminating connection due to administrator command",
                Some("lost the connection"),
            ),
            (
                "error: Dumping the contents of table \"t\" failed: PQgetCopyData() failed. detail: Error message from server: SSL error: unexpected eof while reading",
                Some("lost the connection"),
            ),
            (
                "error: query failed: ERROR: cache lookup failed for index 16411",
                Some("met a change of the schema"),
            ),
            (
                "error: query failed: ERROR: could not open relation with OID 16403",
                Some("met a change of the schema"),
            ),
            (
                "connection to server at <key host>, port 1 failed: Connection refused",
                Some("lost the connection"),
            ),
            (
                "connection to server at <key host>, port 1 failed: FATAL: password authentication failed",
                None,
            ),
            (
                "ERROR: permission denied for table t detail: Query was: LOCK TABLE public.t",
                None,
            ),
            (
                "ERROR: permission denied for table timeouts detail: Query was: LOCK TABLE public.timeouts, \"lock timeout\"",
                None,
            ),
            ("could not write to file: No space left on device", None),
        ] {
            assert_eq!(passing_obstacle(complaint).as_deref(), expected, "{complaint}");
        }
    }

    fn failure_of(stderr: &str) -> Error {
        let connection = Connection {
            label: "databases[0] orders".into(),
            secret: "orders-db".into(),
            name: "orders".into(),
            host: "db".into(),
            port: 5432,
            database: "orders".into(),
            username: "backup".into(),
            password: "secret".into(),
            ssl_mode: None,
            root_certificates: None,
        };
        failure(&connection, "pg_dump", "exit status: 1".into(), stderr.as_bytes())
    }

    /// As pg_dump 16 locks: all tables in one statement.
    fn locking(error: &str) -> String {
        let tables: Vec<_> = (0..100).map(|index| format!("public.table_{index}")).collect();
        format!(
            "pg_dump: error: query failed: ERROR:  {error}\npg_dump: detail: Query was: LOCK TABLE {} IN ACCESS SHARE MODE\n",
            tables.join(", ")
        )
    }

    #[test]
    fn a_lock_on_one_of_many_tables_passes() {
        let error = failure_of(&locking("canceling statement due to statement timeout"));
        assert!(
            matches!(&error, Error::Passing { obstacle, .. } if obstacle.contains("for a lock on a table")),
            "{error}"
        );
        assert!(error.to_string().chars().count() < 800, "{error}");
    }

    #[test]
    fn what_may_not_be_read_is_told_with_the_remedy() {
        for (stderr, said) in [
            (
                "pg_dump: error: query failed: ERROR:  permission denied for large object 16400".to_owned(),
                "permission denied for large object 16400",
            ),
            (
                locking("permission denied for table table_7"),
                "permission denied for table table_7",
            ),
        ] {
            let error = failure_of(&stderr);
            assert!(matches!(error, Error::Failed { .. }), "{error}");
            for text in [
                said,
                "grant it pg_read_all_data; large objects need their owner or a superuser",
            ] {
                assert!(error.to_string().contains(text), "{text} in {error}");
            }
        }
    }
}
