//! The moment in which databases change their names, and the way back.
//!
//! In: databases that are restored and compared, and the intent on the status. Out: every one under its name, all in one
//! transaction, or none. From the intent on a pod can be killed anywhere: who comes next finds by OID whether the
//! transaction took, and otherwise opens the old database again.

use super::{
    failure::Failure,
    identity,
    plan::Item,
    target::{Found, Target, rename, unless_they_are},
};
use crate::sql::{self, name};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    time::Duration,
};
use tokio::time::Instant;
use valerix_crds::{
    RestoreDatabasePhase, RestoreDatabaseStatus,
    restore_runner::{drop_by_hand, dropped_name, mark_of},
};

/// How often the renames are tried: a session may have begun just before the old database was closed.
const ATTEMPTS: u32 = 5;
/// SQLSTATE of a database that somebody works in.
const IN_USE: &str = "55006";
/// Pause between attempts to put back, while the server is away.
const PAUSE: Duration = Duration::from_secs(1);

/// How databases stand after a pod that did not say so.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// They have their names.
    Swapped,
    /// They do not, and everything is as it was.
    Undone,
}

/// Gives the restored databases all that the old ones have beside their contents. Nothing of it is visible yet.
pub(crate) async fn prepare(target: &Target, items: &[Item]) -> Result<(), Failure> {
    let databases = target.databases().await?;
    for (item, oid) in replaced(items) {
        the_same(&databases, item, oid)?;
        identity::copy(&target.admin, oid, &item.staged).await?;
    }
    Ok(())
}

/// What is replaced, and the OID by which it was looked at.
fn replaced(items: &[Item]) -> impl Iterator<Item = (&Item, i64)> {
    items.iter().filter_map(|item| Some((item, item.previous.as_ref()?.1)))
}

/// The database that is to be replaced, if it still is the one that was looked at.
fn the_same<'a>(databases: &'a BTreeMap<String, Found>, item: &Item, oid: i64) -> Result<&'a Found, Failure> {
    let found = databases.get(&item.target).filter(|found| found.oid == oid);
    found.ok_or_else(|| {
        Failure::Swap(format!(
            "somebody has dropped, renamed or replaced {} meanwhile, and what has its name now was not touched",
            item.target
        ))
    })
}

/// Closes what is replaced and renames everything in one transaction. `stopped` is asked before each step that can be
/// left out; the caller puts back whatever this leaves behind.
pub(crate) async fn swap(target: &Target, items: &[Item], stopped: &impl Fn() -> bool) -> Result<(), Failure> {
    for (item, oid) in replaced(items) {
        if stopped() {
            return Err(Failure::Interrupted);
        }
        // What came since it was looked at the first time is looked for once more.
        let databases = target.databases().await?;
        target.check_replaceable(the_same(&databases, item, oid)?).await?;
        let close = format!(
            "{}; {}",
            allow_connections(&item.target, false),
            unless_they_are(&[(&item.target, oid)])
        );
        target
            .admin
            .execute(&format!("close the database {}", item.target), &close)
            .await?;
    }
    let mut renames = Vec::new();
    let mut names: Vec<(&str, i64)> = Vec::new();
    for item in items {
        if let Some((previous, oid)) = &item.previous {
            renames.push(rename(&item.target, previous));
            // A pod that was taken for dead may have opened it meanwhile, to put it back.
            renames.push(allow_connections(previous, false));
            names.push((previous, *oid));
        }
        renames.push(rename(&item.staged, &item.target));
        names.extend(item.oid.map(|oid| (item.target.as_str(), oid)));
    }
    renames.push(unless_they_are(&names));
    let mut attempts = 0;
    loop {
        for (_, oid) in replaced(items) {
            target
                .end_sessions_of(oid)
                .await
                .map_err(|error| Failure::Swap(error.to_string()))?;
        }
        for oid in items.iter().filter_map(|item| item.oid) {
            target.end_sessions_of(oid).await?;
        }
        if stopped() {
            return Err(Failure::Interrupted);
        }
        attempts += 1;
        match target.admin.execute("rename the databases", &renames.join("; ")).await {
            Ok(_) => return Ok(()),
            Err(error) if attempts < ATTEMPTS && error.is(IN_USE) => {
                tracing::warn!(%error, attempts, "trying again");
            }
            Err(error @ sql::Error::Statement { .. }) => return Err(Failure::Swap(error.to_string())),
            Err(error) => return Err(error.into()),
        }
    }
}

fn allow_connections(database: &str, allowed: bool) -> String {
    format!("ALTER DATABASE {} ALLOW_CONNECTIONS {allowed}", name(database))
}

/// Finds out how the databases stand, and unless they have their names, puts everything back: the old ones are opened,
/// the restored ones dropped. Tried again until `until` while the server is away.
///
/// # Errors
/// What could not be put back, with what to do by hand.
pub(crate) async fn settle(
    target: &Target,
    databases: &[RestoreDatabaseStatus],
    until: Instant,
) -> Result<Outcome, String> {
    loop {
        match settle_once(target, databases).await {
            Ok(outcome) => return Ok(outcome),
            Err(error) if Instant::now() + PAUSE < until => {
                tracing::warn!(%error, "trying again to put back");
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(by_hand(databases, error)),
        }
    }
}

async fn settle_once(target: &Target, databases: &[RestoreDatabaseStatus]) -> Result<Outcome, sql::Error> {
    // Nothing is taken away but what has the mark of the pod that has written this: whoever does this may be slow, and
    // another one at work by now.
    let staged = || databases.iter().filter_map(|database| database.staged.as_deref());
    let marks: BTreeSet<_> = staged().map(mark_of).collect();
    // A statement that a killed pod has sent may still be at work.
    for mark in &marks {
        target.end_sessions_of_pod(mark).await?;
    }
    let found = target.databases().await?;
    let is = |name: &str, oid: Option<i64>| oid.is_some() && found.get(name).map(|found| found.oid) == oid;
    let swapped = databases
        .iter()
        .filter(|database| database.phase >= RestoreDatabasePhase::Swapping)
        .any(|database| is(&database.target, database.oid));
    if swapped {
        return Ok(Outcome::Swapped);
    }
    open_again(target, databases, &found).await?;
    drop_staged(target, databases).await?;
    for mark in &marks {
        target.drop_unfinished_roles(mark).await?;
    }
    Ok(Outcome::Undone)
}

/// Opens each old database that still has its name and was closed to be replaced.
async fn open_again(
    target: &Target,
    databases: &[RestoreDatabaseStatus],
    found: &BTreeMap<String, Found>,
) -> Result<(), sql::Error> {
    for database in databases {
        if database.phase < RestoreDatabasePhase::Restoring {
            continue;
        }
        let closed = found.get(&database.target).filter(|found| !found.open);
        if let Some(old) = closed.filter(|old| Some(old.oid) == database.previous_oid) {
            let open = format!(
                "{}; {}",
                allow_connections(&old.name, true),
                unless_they_are(&[(&old.name, old.oid)])
            );
            let action = format!("open the database {} again", old.name);
            target.admin.execute(&action, &open).await?;
            tracing::info!(database = old.name, "the old database is open again");
        }
    }
    Ok(())
}

/// Takes back what a pod that was taken for dead did after its heir had looked: what it still has at work, what it closed,
/// and what it made. The heir itself closes once more, in the transaction of its renames, whatever is opened here.
pub(crate) async fn withdraw(target: &Target, databases: &[RestoreDatabaseStatus]) -> Result<(), sql::Error> {
    target.end_sessions_of_pod(&target.mark).await?;
    let found = target.databases().await?;
    open_again(target, databases, &found).await?;
    drop_staged(target, databases).await
}

/// Drops what the pod that has written this has restored, also where it was about to be dropped already.
async fn drop_staged(target: &Target, databases: &[RestoreDatabaseStatus]) -> Result<(), sql::Error> {
    let found = target.databases().await?;
    for database in databases {
        let Some(staged) = &database.staged else { continue };
        for there in found.values() {
            let its_own = there.name == *staged && database.oid.is_none_or(|oid| oid == there.oid);
            if its_own {
                target.drop(staged, there.oid).await?;
            } else if there.name == dropped_name(staged, there.oid) {
                target.drop_renamed(staged, there.oid).await?;
            }
        }
    }
    Ok(())
}

/// What it is to fail before the server was reached, where an earlier pod has left something there: as long as nobody has
/// looked, the record of that must stay.
pub(crate) fn not_reached(databases: &[RestoreDatabaseStatus], failure: Failure) -> Failure {
    if !databases.iter().any(is_begun) {
        return failure;
    }
    Failure::NotUndone {
        failure: Box::new(failure),
        why: by_hand(databases, "an earlier pod has begun it, and the server was not reached"),
    }
}

/// Whether something of it may be on the server.
fn is_begun(database: &RestoreDatabaseStatus) -> bool {
    database.staged.is_some() || database.phase >= RestoreDatabasePhase::Restoring
}

fn by_hand(databases: &[RestoreDatabaseStatus], why: impl Display) -> String {
    let begun = databases.iter().filter(|database| is_begun(database));
    let statements: Vec<_> = begun
        .flat_map(|database| {
            let open = database
                .previous_oid
                .is_some()
                .then(|| allow_connections(&database.target, true));
            let drop = database
                .staged
                .as_ref()
                .map(|staged| drop_by_hand(staged, database.oid));
            [open, drop].into_iter().flatten()
        })
        .collect();
    format!(
        "it could not be put back ({why}); until another pod has done it: {}",
        statements.join("; ")
    )
}
