//! What is asked of a restored database: structure, volume, semantics, integrity.
//!
//! In: the server, the database's manifest. Out: nothing, or the [`Finding`] that ends the ladder. Reads only.

use super::{
    server::Server,
    verdict::{Finding, Rung, Seen, compare},
};
use crate::{manifest::Member, rows};
use std::fmt::Write;
use valerix_crds::VerificationQuery;

/// How long one question of the policy may take.
const QUERY_TIMEOUT: &str = "5min";
/// How many differences a message names.
const NAMED: usize = 3;

/// A sequence that is behind its column makes the first insert collide; the question is one query per sequence.
const INTEGRITY: &str = r"SELECT format(
  'SELECT %L, coalesce((SELECT max(%I) FROM %s)::numeric <= (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM %s), true)',
  'sequence ' || s.oid::regclass || ' is behind its column', a.attname, t.oid::regclass, s.oid::regclass)
FROM pg_catalog.pg_class s
JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid
JOIN pg_catalog.pg_depend d ON d.objid = s.oid AND d.deptype IN ('a', 'i')
  AND d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
JOIN pg_catalog.pg_class t ON t.oid = d.refobjid
JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
WHERE q.seqincrement > 0 AND NOT q.seqcycle AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
\gexec
SELECT 'index ' || indexrelid::regclass || ' is not valid', false FROM pg_catalog.pg_index WHERE NOT indisvalid;
";

/// Every table of the dump is there.
pub(super) async fn structure(
    server: &Server,
    database: &str,
    member: &Member,
    seen: &mut Seen,
) -> Result<(), Finding> {
    let mut script = String::new();
    for name in member.rows.keys() {
        // Writing into a String cannot fail.
        let _ = writeln!(script, "SELECT {} IS NOT NULL;", rows::table(name));
    }
    let failed = |why: String| Finding::failed(Rung::Structure, format!("{}: {why}", member.name));
    let answers = server.ask(database, &script).await;
    let answers = answers.map_err(|unanswered| unanswered.finding(Rung::Structure, &member.name))?;
    let missing: Vec<_> = member
        .rows
        .keys()
        .zip(answers.lines())
        .filter(|(_, answer)| *answer != "t")
        .map(|(name, _)| name.clone())
        .collect();
    if answers.lines().count() != member.rows.len() {
        return Err(failed("not every question about its tables was answered".into()));
    }
    seen.tables += member.rows.len();
    all_well(&missing).map_err(|names| failed(format!("tables of the dump are not there: {names}")))
}

/// Every table has the rows that were counted in its dump.
pub(super) async fn volume(server: &Server, database: &str, member: &Member, seen: &mut Seen) -> Result<(), Finding> {
    let mut script = String::new();
    for name in member.rows.keys() {
        let table = rows::table(name);
        let _ = writeln!(
            script,
            "SELECT pg_catalog.format('SELECT count(*) FROM ONLY %s', {table}) \\gexec"
        );
    }
    let failed = |why: String| Finding::failed(Rung::Volume, format!("{}: {why}", member.name));
    let answers = server.ask(database, &script).await;
    let answers = answers.map_err(|unanswered| unanswered.finding(Rung::Volume, &member.name))?;
    let counts: Vec<Option<u64>> = answers.lines().map(|line| line.trim().parse().ok()).collect();
    if counts.len() != member.rows.len() {
        return Err(failed("not every table was counted".into()));
    }
    let different: Vec<_> = member
        .rows
        .iter()
        .zip(&counts)
        .filter(|((_, rows), count)| Some(**rows) != **count)
        .map(|((name, rows), count)| format!("{name} has {} rows, its dump has {rows}", count.unwrap_or_default()))
        .collect();
    seen.rows += counts.into_iter().flatten().sum::<u64>();
    all_well(&different).map_err(failed)
}

/// One of the policy's questions. It stands inside of a SELECT of ours, so it is one expression and changes nothing.
pub(super) async fn semantics(server: &Server, database: &str, query: &VerificationQuery) -> Result<(), Finding> {
    let script = format!(
        "BEGIN TRANSACTION READ ONLY;\nSET LOCAL statement_timeout = '{QUERY_TIMEOUT}';\nSELECT (\n{}\n)::numeric;\nROLLBACK;\n",
        query.query
    );
    let failed = |why: String| Finding::failed(Rung::Semantics, why);
    let label = format!("verification.queries {}", query.name);
    let answer = server.ask(database, &script).await;
    let answer = answer.map_err(|unanswered| unanswered.finding(Rung::Semantics, &label))?;
    match answer.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => compare(query, number).map_err(failed),
        // The answer itself may be somebody's data.
        _ => Err(failed(format!("{label}: it has no number for an answer"))),
    }
}

/// Sequences and indexes.
pub(super) async fn integrity(server: &Server, database: &str, member: &Member) -> Result<(), Finding> {
    let failed = |why: String| Finding::failed(Rung::Integrity, format!("{}: {why}", member.name));
    let answers = server.ask(database, INTEGRITY).await;
    let answers = answers.map_err(|unanswered| unanswered.finding(Rung::Integrity, &member.name))?;
    let wrong: Vec<_> = answers
        .lines()
        .filter_map(|line| line.strip_suffix("|f").map(str::to_owned))
        .collect();
    all_well(&wrong).map_err(failed)
}

fn all_well(wrong: &[String]) -> Result<(), String> {
    if wrong.is_empty() {
        return Ok(());
    }
    let more = wrong.len().saturating_sub(NAMED);
    let named = wrong.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    Err(if more > 0 {
        format!("{named}; and {more} more")
    } else {
        named
    })
}
