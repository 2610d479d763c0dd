//! The documentation held against the project: every block of commands is run by a test or says that it is not, every
//! command and every object in it names what is there, and so does every name in the prose.

mod block;
mod known;
mod kubectl;
mod names;
mod programs;
mod schema;
mod shell;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

pub use block::{Block, Mark, blocks};
use known::Known;
use names::Names;

use crate::failure::WithRemedy;
use crate::links;
use crate::steps::Log;

/// Languages of blocks that hold no commands.
const LANGUAGES: [&str; 7] = ["yaml", "json", "sql", "rust", "toml", "text", "promql"];
/// Pages that tell of what was, or that are made of what is.
const TOLD_ELSEWHERE: [&str; 3] = ["CHANGELOG.md", "docs/adr/", "docs/reference.md"];

/// Looks at every page below `checkout`.
///
/// # Errors
/// When a file cannot be read, or a page says what is not so; the log has each with its line.
pub fn check(checkout: &Path, log: &Log) -> Result<()> {
    let (known, names) = (Known::read(checkout)?, Names::read(checkout)?);
    let mut wrong = Vec::new();
    let (mut looked, mut run) = (0, 0);
    for (name, text) in pages(checkout)? {
        for block in blocks(&text) {
            looked += 1;
            run += usize::from(matches!(block.mark(), Some(Mark::Run | Mark::TestedBy(_))));
            wrong.extend(
                of_block(checkout, &known, &name, &block)
                    .into_iter()
                    .map(|(line, why)| format!("{name}:{line}: {why}")),
            );
        }
        for (line, span) in block::spans(&text) {
            let why = of_span(&known, &names, span);
            wrong.extend(why.into_iter().map(|why| format!("{name}:{line}: `{span}`: {why}")));
        }
    }
    if wrong.is_empty() {
        log.say(&format!(
            "{looked} blocks of the documentation name what is there; tests run {run} of them"
        ));
        return Ok(());
    }
    for line in &wrong {
        log.write_line(line);
    }
    Err(anyhow::anyhow!(
        "the documentation says {} things that are not so",
        wrong.len()
    ))
    .remedy("correct the lines that the log names")
}

/// Every page that tells of what is, by its path from the checkout.
///
/// # Errors
/// When a file cannot be read.
pub fn pages(checkout: &Path) -> Result<BTreeMap<String, String>> {
    let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
    links::read(checkout, &mut files)?;
    let named = files
        .into_iter()
        .map(|(path, text)| (path.strip_prefix(checkout).unwrap_or(&path).display().to_string(), text));
    Ok(named
        .filter(|(name, _)| !TOLD_ELSEWHERE.iter().any(|elsewhere| name.starts_with(elsewhere)))
        .collect())
}

/// A command that a test is to run as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runnable {
    /// Page and line.
    pub at: String,
    /// The program and its arguments; a `0` stands for what another command would print.
    pub words: Vec<String>,
}

/// The commands of all blocks that a test is to run, in the order of their pages.
///
/// # Errors
/// When a file cannot be read.
pub fn to_run(checkout: &Path) -> Result<Vec<Runnable>> {
    let mut commands = Vec::new();
    for (name, text) in pages(checkout)? {
        for block in blocks(&text).iter().filter(|block| block.mark() == Some(Mark::Run)) {
            let script = shell::read(&block.text)
                .map_err(|line| anyhow::anyhow!("{name}:{}: a quote does not end", block.line + 1 + line))?;
            let programs = script.commands.into_iter().filter(|command| is_run(&command.words));
            commands.extend(programs.map(|command| Runnable {
                at: format!("{name}:{}", block.line + 1 + command.line),
                words: command.words,
            }));
        }
    }
    Ok(commands)
}

/// Whether the end-to-end tests run it: what stands between `$(` and `)` is no command of its own there.
fn is_run(words: &[String]) -> bool {
    words
        .first()
        .is_some_and(|program| ["kubectl", "helm"].contains(&program.as_str()))
}

fn of_block(checkout: &Path, known: &Known, page: &str, block: &Block) -> Vec<(usize, String)> {
    let mut wrong = Vec::new();
    let mut say = |line: usize, why: String| wrong.push((line, why));
    match block.language.as_str() {
        "" => say(
            block.line,
            "the block has no language: sh, console, text, yaml, ...".into(),
        ),
        "yaml" => of_yaml(known, block.value("of"), &block.text)
            .into_iter()
            .for_each(|why| say(block.line, why)),
        "json" => {
            if let Err(error) = serde_json::from_str::<Value>(&block.text) {
                say(block.line, format!("it is no JSON: {error}"));
            }
        }
        language if !block.is_commands() && !LANGUAGES.contains(&language.split(',').next().unwrap_or(language)) => {
            say(block.line, format!("{language} is no language that this check knows"));
        }
        _ => {}
    }
    if let Some(Mark::TestedBy(file)) = block.mark() {
        let test = fs::read_to_string(checkout.join(file)).unwrap_or_default();
        let name = page.rsplit('/').next().unwrap_or(page);
        if !test.contains(name) {
            say(block.line, format!("{file} is no test that names {name}"));
        }
    }
    if block.is_commands() {
        if block.mark().is_none() {
            say(block.line, "no test runs it and it does not say so: put run, by-hand, shown or tested-by=<file> after the language".into());
        }
        if block.mark() == Some(Mark::Run)
            && !shell::read(&block.text)
                .is_ok_and(|script| script.commands.iter().any(|command| is_run(&command.words)))
        {
            say(
                block.line,
                "the test of blocks that say run runs kubectl and helm only: put by-hand".into(),
            );
        }
        for (line, why) in of_commands(known, block) {
            say(block.line + 1 + line, why);
        }
    }
    wrong
}

fn of_commands(known: &Known, block: &Block) -> Vec<(usize, String)> {
    let shown = block.language == "console";
    // What was printed keeps its lines, and is no command.
    let commands: String = block
        .text
        .lines()
        .map(|line| {
            if shown {
                line.strip_prefix("$ ").unwrap_or_default()
            } else {
                line
            }
        })
        .fold(String::new(), |text, line| text + line + "\n");
    let script = match shell::read(&commands) {
        Ok(script) => script,
        Err(line) => return vec![(line, "a quote does not end".into())],
    };
    let of_command = |command: &shell::Command| {
        known
            .wrong(&command.words)
            .into_iter()
            .map(|why| (command.line, why))
            .collect::<Vec<_>>()
    };
    let mut wrong: Vec<(usize, String)> = script.commands.iter().flat_map(of_command).collect();
    for (line, document) in &script.documents {
        wrong.extend(of_yaml(known, None, document).into_iter().map(|why| (*line, why)));
    }
    if shown {
        wrong.extend(of_tables(known, &block.text, &script));
    }
    wrong
}

/// That the head of each printed table is one that kubectl prints of the kinds asked for.
fn of_tables(known: &Known, text: &str, script: &shell::Script) -> Vec<(usize, String)> {
    let words = script
        .commands
        .iter()
        .flat_map(|command| &command.words)
        .flat_map(|word| word.split([',', '/']));
    let kinds: Vec<_> = words.filter_map(|word| known.schemas.kind(word)).collect();
    let heads = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.starts_with("NAME ") || line.starts_with("NAMESPACE "));
    let strange = heads.filter(|(_, line)| {
        let head: Vec<&str> = line
            .split_whitespace()
            .filter(|word| *word != "NAMESPACE")
            .skip(1)
            .collect();
        !kinds
            .iter()
            .any(|kind| kind.columns.iter().map(String::as_str).eq(head.iter().copied()))
    });
    strange
        .map(|(line, _)| (line, "kubectl prints other columns of these kinds".into()))
        .collect()
}

/// Objects of ours are held against their schema; a part of one says of what it is one.
fn of_yaml(known: &Known, of: Option<&str>, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = match serde::Deserialize::deserialize(document) {
            Ok(Value::Null) => continue,
            Ok(value) => value,
            Err(error) => return vec![format!("it is no YAML: {error}")],
        };
        let value: Value = value;
        let version = value["apiVersion"].as_str();
        let (kind, path) = match (of, version) {
            (Some("alertmanager"), _) => {
                wrong.extend(of_alertmanager(known, &value));
                continue;
            }
            (Some(of), _) => of.split_once('.').unwrap_or((of, "")),
            (None, Some(version)) if version.starts_with("resilience.valerix.io/") => {
                (value["kind"].as_str().unwrap_or_default(), "")
            }
            (None, Some(_)) => continue,
            (None, None) => {
                wrong.push("it has no apiVersion: put of=<Kind>.<field> after the language, or of=alertmanager".into());
                continue;
            }
        };
        let path: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
        match known.schemas.kind(kind) {
            Some(known) => wrong.extend(known.wrong(&path, &value)),
            None => wrong.push(format!("there is no kind {kind}")),
        }
    }
    wrong
}

/// That the alerts which a configuration of Alertmanager matches are ours.
fn of_alertmanager(known: &Known, value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => {
            let names = text
                .strip_prefix("alertname")
                .map(|rest| rest.trim_start_matches(['=', '~', '!', '"']).trim_end_matches('"'));
            let unknown = names
                .into_iter()
                .flat_map(|names| names.split('|'))
                .filter(|name| !name.is_empty() && !known.alerts.contains(*name));
            unknown.map(|name| format!("there is no alert {name}")).collect()
        }
        Value::Array(items) => items.iter().flat_map(|item| of_alertmanager(known, item)).collect(),
        Value::Object(fields) => fields
            .values()
            .flat_map(|field| of_alertmanager(known, field))
            .collect(),
        _ => Vec::new(),
    }
}

/// A command between backquotes is held against what there is, and so is a name.
fn of_span(known: &Known, names: &Names, span: &str) -> Vec<String> {
    let begins = ["kubectl ", "helm ", "make ", "cargo ", "npm "];
    if !begins.iter().any(|begin| span.starts_with(begin)) {
        return names.wrong(&known.schemas, span).into_iter().collect();
    }
    match shell::read(&span.replace("\\|", "|")) {
        Ok(script) => script
            .commands
            .iter()
            .flat_map(|command| known.wrong(&command.words))
            .collect(),
        Err(_) => vec!["a quote does not end".into()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_so_is_told_with_its_line() {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let (known, names) = (
            Known::read(&checkout).expect("the checkout"),
            Names::read(&checkout).expect("the sources"),
        );
        let wrong = |page: &str| {
            let of_block = |block: &Block| of_block(&checkout, &known, "docs/guide/a.md", block);
            let of_span = |(line, span): (usize, &str)| {
                of_span(&known, &names, span)
                    .into_iter()
                    .map(move |why| (line, why))
                    .collect::<Vec<_>>()
            };
            blocks(page)
                .iter()
                .flat_map(of_block)
                .chain(block::spans(page).into_iter().flat_map(of_span))
                .collect::<Vec<_>>()
        };
        for well in [
            "```sh by-hand\nmake demo\n```\n",
            "```text\nanything\n```\n",
            "`valerix_leader` `Recovered` `SlotUsed` `spec.configReload.deadline`",
            "```console shown\n$ kubectl get rst\nNAME  POLICY  SLOT  MODE  PHASE  TABLES  AGE\n```\n",
            "`orders.dump` `resilience_request_duration_seconds_bucket`",
            "```yaml of=BackupPolicy.spec\nretention: {daily: 14}\n```\n",
            "`GATEWAY_URL` and `kubectl get rsvc NAME`",
            "```json\n{}\n```\n",
            "```yaml\napiVersion: v1\nkind: Pod\n```\n",
            "```sh tested-by=e2e/xtask/src/documents/mod.rs\nmake test\n```\ndocs/guide/a.md",
        ] {
            assert_eq!(wrong(well), [], "{well}");
        }
        for (page, line, words) in [
            ("\n```\nmake demo\n```\n", 2, "no language"),
            ("```sh\nmake demo\n```\n", 1, "no test runs it"),
            ("```sh by-hand\n\nmake dmo\n```\n", 3, "no dmo"),
            (
                "```console shown\n$ kubectl get rst\nNAME  POLICY  AGE\n```\n",
                3,
                "other columns",
            ),
            ("```sh tested-by=e2e/none.rs\n```\n", 1, "no test that names a.md"),
            ("```yaml\nspec: {}\n```\n", 1, "no apiVersion"),
            (
                "```yaml of=BackupPolicy.spec\nretain: 1\n```\n",
                1,
                "retain is no field",
            ),
            ("```yaml of=Policy\na: 1\n```\n", 1, "no kind Policy"),
            (
                "```yaml\napiVersion: resilience.valerix.io/v1alpha1\nkind: Restore\nspec: {source: {}}\n```\n",
                1,
                "target is required",
            ),
            ("```yaml\na: [\n```\n", 1, "no YAML"),
            (
                "```yaml of=alertmanager\na: ['alertname=~\"OutboxOld|OutboxGone\"']\n```\n",
                1,
                "no alert OutboxGone",
            ),
            ("```json\n{\n```\n", 1, "no JSON"),
            ("```sh run\nmake demo\n```\n", 1, "put by-hand"),
            ("```cobol\n```\n", 1, "cobol"),
            ("```sh by-hand\na 'b\n```\n", 2, "quote"),
            ("a\n`valerix_leeder_total`", 2, "docs/metrics.md has no"),
            ("`SlotWorn`", 1, "called SlotWorn"),
            ("`spec.configReload.timeout`", 1, "no schema"),
            ("`kubectl get rsv`", 1, "no kind rsv"),
            ("`GATEWEY_URL`", 1, "called GATEWEY_URL"),
            (
                "```sh by-hand\nkubectl apply -f - <<'Y'\napiVersion: resilience.valerix.io/v1alpha1\nkind: Nothing\nY\n```\n",
                3,
                "no kind Nothing",
            ),
        ] {
            let told = wrong(page);
            assert!(
                told.iter().any(|(at, why)| *at == line && why.contains(words)),
                "{page}: {told:?}"
            );
        }
    }
}
