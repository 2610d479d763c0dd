//! Unit and service tests: every test program of the workspace but the end-to-end tests, and the examples of the
//! documentation, on a PostgreSQL, a Redis and an S3 server of their own.
//!
//! cargo runs one program after the other. Many of them wait for a server or for the time to pass rather than compute, so
//! here as many run at a time as there are cores, each with the threads that it takes by itself.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{compile, each};
use crate::command::Program;
use crate::counting::{Count, judge};
use crate::interrupt;
use crate::paths::Paths;
use crate::services::Services;
use crate::steps::{Log, Steps, slug};
use crate::store::Store;
use crate::tools::{debian, go};
use crate::workspace::{self, Artifacts, cargo};

/// How often somebody looks whether there is something to tell.
const POLL: Duration = Duration::from_millis(200);

/// Installs what the tests need, compiles and runs them.
pub fn stage(paths: &Paths, steps: &mut Steps, count: &mut Count) {
    each(steps, "Installing PostgreSQL, Redis and age", |log| {
        debian::install(&[debian::SERVICES, debian::READERS].concat(), log)
    });
    if interrupt::requested() {
        return;
    }
    let Ok(artifacts) = steps.run("Compiling the tests", |log| compile(paths, log)) else {
        return;
    };
    each(steps, "Unit and service tests", |log| {
        let _claim = workspace::claim(paths, log)?;
        let outcome = run(paths, &artifacts, log);
        judge(outcome, count, log)
    });
}

fn run(paths: &Paths, artifacts: &Artifacts, log: &Log) -> Result<()> {
    let h2spec = go::H2SPEC.install(paths, log)?;
    let store = go::VERSITYGW.install(paths, log)?;
    let services = Services::start(log)?;
    let store = Store::start(&store, log)?;
    let job = |title: String, program: Program| Job {
        title,
        program: store
            .tell(program)
            .env("TEST_DATABASE_URL", &services.database_url)
            .env("TEST_REDIS_URL", &services.redis_url)
            .env("VALERIX_H2SPEC", &h2spec),
    };
    // The whole workspace, else cargo would compile with other features.
    let examples = cargo(paths).args(["test", "--locked", "--workspace", "--doc", "--no-fail-fast"]);
    let mut jobs = vec![job("examples of the documentation".to_owned(), examples)];
    jobs.extend(artifacts.tests_outside(&paths.checkout.join("e2e")).map(|test| {
        let folder = test.folder.strip_prefix(&paths.checkout).unwrap_or(&test.folder);
        let title = format!("{} {}", folder.display(), test.name);
        job(title, Program::new(&test.path).in_folder(&test.folder))
    }));
    let lanes = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    run_beside_each_other(jobs, lanes, log)
}

/// A program with tests.
struct Job {
    title: String,
    program: Program,
}

/// What became of one.
struct Ended {
    title: String,
    took: Duration,
    said: String,
    outcome: Result<()>,
}

impl Job {
    /// What it says goes to a log of its own, so that nothing of another is in between.
    fn run(self, folder: &Path) -> Ended {
        let began = Instant::now();
        let Self { title, program } = self;
        let log = Log::beside(folder.join(format!("{}.log", slug(&title))));
        let ran = log.and_then(|log| {
            let outcome = program.run(&log);
            Ok((log.text()?, outcome))
        });
        let (said, outcome) = ran.unwrap_or_else(|error| (String::new(), Err(error)));
        Ended {
            took: began.elapsed(),
            said,
            outcome: outcome.with_context(|| format!("failed to run the tests of {title}")),
            title,
        }
    }
}

/// Runs every job, `lanes` at a time, also after one has failed; `log` gets what each said as a whole, and at its end which of
/// them the others waited for.
fn run_beside_each_other(jobs: Vec<Job>, lanes: usize, log: &Log) -> Result<()> {
    let folder = log.path().with_extension("");
    let all = jobs.len();
    let waiting = Mutex::new(jobs.into_iter());
    let next = || {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.next().filter(|_| !interrupt::requested())
    };
    let (sender, ended) = channel();
    let mut times = Vec::new();
    let outcome = thread::scope(|threads| {
        for _ in 0..lanes {
            let (next, folder, sender) = (&next, &folder, sender.clone());
            threads.spawn(move || {
                while let Some(job) = next() {
                    // Nobody listens only where the loop below has panicked.
                    if sender.send(job.run(folder)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut outcome = Ok(());
        loop {
            match ended.recv_timeout(POLL) {
                Ok(ended) => {
                    log.write_line(&ended.said);
                    outcome = outcome.and(ended.outcome);
                    times.push((ended.took, ended.title));
                    log.set_progress(format!("{} of {all} test programs ran", times.len()));
                }
                Err(RecvTimeoutError::Timeout) => log.heartbeat(),
                Err(RecvTimeoutError::Disconnected) => return outcome.and(interrupt::check()),
            }
        }
    });
    times.sort();
    for (took, title) in times.iter().rev() {
        log.write_line(&format!("{:7.1} s {title}", took.as_secs_f64()));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(title: &str, script: &str, folder: &Path) -> Job {
        Job {
            title: title.to_owned(),
            program: Program::new("sh").args(["-c", script]).in_folder(folder),
        }
    }

    #[test]
    fn programs_run_at_the_same_time_and_each_says_its_own_in_one_piece() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create(folder.path().join("step.log")).unwrap();
        // Each waits until the other has begun.
        let meet = "test -p meeting || mkfifo meeting 2>/dev/null; echo it begins";
        let jobs = vec![
            shell("first", &format!("{meet}; timeout 60 cat meeting"), folder.path()),
            shell(
                "second",
                &format!("{meet}; echo it was met | timeout 60 tee meeting"),
                folder.path(),
            ),
        ];
        run_beside_each_other(jobs, 2, &log).unwrap();
        let text = log.text().unwrap();
        assert_eq!(text.matches("\nit begins\nit was met\n").count(), 2, "{text}");
    }

    #[test]
    fn a_failure_is_told_after_the_others_have_run() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create(folder.path().join("step.log")).unwrap();
        let jobs = vec![
            shell("broken", "exit 3", folder.path()),
            shell("whole", "echo it ran", folder.path()),
        ];
        let error = run_beside_each_other(jobs, 1, &log).unwrap_err();
        assert!(error.to_string().contains("the tests of broken"), "{error:#}");
        let text = log.text().unwrap();
        assert!(text.contains("\nit ran\n"), "{text}");
        assert_eq!(text.lines().filter(|line| line.contains(" s ")).count(), 2, "{text}");
    }
}
