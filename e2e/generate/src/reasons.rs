//! `docs/reasons.md`: the reasons that a status may show, from the tables of operator and runners.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use valerix_crds::{backup_runner, restore_runner};
use valerix_operator::runtime::HindranceReason;
use valerix_operator::{backup_policy, chaos_experiment, resilient_service, restore};

/// The page, by its path.
pub fn files() -> BTreeMap<PathBuf, String> {
    let mut page = String::from(
        "<!-- Generated from the operator's tables of reasons; change those and run `make generate`. -->\n# Reasons\n",
    );
    let service = resilient_service::Reason::ALL
        .iter()
        .map(|reason| (reason.as_str(), reason.meaning().to_owned()));
    section(
        &mut page,
        "ResilientService",
        "Before the colon: the conditions that show it.",
        service,
    );
    let pods = HindranceReason::ALL
        .iter()
        .map(|reason| (reason.as_str(), reason.meaning().to_owned()));
    section(
        &mut page,
        "Pods that do not start",
        "In `Available` and `Ready` of a service, and in the message of a Backup.",
        pods,
    );
    let chaos = chaos_experiment::Reason::ALL.into_iter().map(|reason| {
        let ending = format!("{} (verdict {:?})", reason.sentence(), reason.verdict());
        (reason.as_str(), ending)
    });
    section(
        &mut page,
        "ChaosExperiment",
        "Why a run ended as it did, or does not begin.",
        chaos,
    );
    let policy = backup_policy::Reason::ALL
        .iter()
        .map(|reason| (reason.as_str(), reason.meaning().to_owned()));
    section(
        &mut page,
        "BackupPolicy",
        "Before the colon: the conditions that show it.",
        policy,
    );
    let backup = backup_runner::REASONS
        .iter()
        .map(|(word, meaning)| (*word, (*meaning).to_owned()));
    section(
        &mut page,
        "Backup",
        "In `status.reason`, beside those of pods that do not start; what to do is in [a backup failed](runbooks/backup-failed.md).",
        backup,
    );
    let operator = restore::Reason::ALL
        .iter()
        .map(|reason| (reason.as_str(), reason.meaning().to_owned()));
    let said: Vec<_> = restore::Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let runner = restore_runner::REASONS
        .iter()
        .filter(|(word, _)| !said.contains(word))
        .map(|(word, meaning)| (*word, (*meaning).to_owned()));
    section(
        &mut page,
        "Restore",
        "In `status.reason` and in `Ready` and `Completed`.",
        operator.chain(runner),
    );
    BTreeMap::from([(PathBuf::from("docs/reasons.md"), page)])
}

fn section(page: &mut String, title: &str, where_shown: &str, rows: impl Iterator<Item = (&'static str, String)>) {
    let _ = writeln!(page, "\n## {title}\n{where_shown}\n\n| Reason | Means |\n| --- | --- |");
    for (word, meaning) in rows {
        let _ = writeln!(page, "| `{word}` | {meaning} |");
    }
}
