//! What is asked of a restored database: structure, volume, semantics, integrity.
//!
//! In: the server, the database's manifest. Out: nothing, or the [`Finding`] that ends the ladder. Reads only.

use super::{
    server::{Server, Told},
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
            "SELECT pg_catalog.format('SELECT count(*), %L FROM ONLY %s', {}, {table}) \\gexec",
            rows::of_extension(name)
        );
    }
    let failed = |why: String| Finding::failed(Rung::Volume, format!("{}: {why}", member.name));
    let answers = server.ask(database, &script).await;
    let answers = answers.map_err(|unanswered| unanswered.finding(Rung::Volume, &member.name))?;
    let counts: Vec<_> = answers.lines().map(counted).collect();
    if counts.len() != member.rows.len() {
        return Err(failed("not every table was counted".into()));
    }
    let different: Vec<_> = member
        .rows
        .iter()
        .zip(&counts)
        .filter(|((_, rows), count)| {
            !count.is_some_and(|(count, of_extension)| rows::is_whole(**rows, count, of_extension))
        })
        .map(|((name, rows), count)| {
            let count = count.map(|(count, _)| count).unwrap_or_default();
            format!("{name} has {count} rows, its dump has {rows}")
        })
        .collect();
    seen.rows += counts.into_iter().flatten().map(|(count, _)| count).sum::<u64>();
    all_well(&different).map_err(failed)
}

/// Rows of a table, and whether it belongs to an extension.
fn counted(line: &str) -> Option<(u64, bool)> {
    let (rows, of_extension) = line.trim().split_once('|')?;
    Some((rows.parse().ok()?, of_extension == "t"))
}

/// One of the policy's questions. It stands inside of a SELECT of ours, so it is one expression and changes nothing.
///
/// Whatever is in the rows stays there: first the server is asked whether it understands the question, without a look at
/// any row, and may say why not; then only for the answer, of which nothing but a number is told.
pub(super) async fn semantics(server: &Server, database: &str, query: &VerificationQuery) -> Result<(), Finding> {
    let failed = |why: String| Finding::failed(Rung::Semantics, why);
    let label = format!("verification.queries {}", query.name);
    let question = format!("SELECT (\n{}\n)::text", query.query);
    let prepared = format!("PREPARE question AS {question}");
    let understood = server.put(database, &prepared, Told::Words).await;
    understood.map_err(|unanswered| unanswered.finding(Rung::Semantics, &label))?;
    // Nothing ends the transaction but the end of the session, so that the answer is the last thing that psql prints.
    let asked = format!("BEGIN TRANSACTION READ ONLY; SET LOCAL statement_timeout = '{QUERY_TIMEOUT}'; {question}");
    let answer = server.put(database, &asked, Told::Code).await;
    let answer = answer.map_err(|unanswered| unanswered.finding(Rung::Semantics, &label))?;
    match answer.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => compare(query, number).map_err(failed),
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
