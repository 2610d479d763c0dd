//! What a person sees while xtask works: one line when a step begins, a heartbeat while it is long, one line when
//! it ends; for a failed step the reason, the remedy and the last lines of its log.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::failure::{Shown, WithRemedy, remedy_of, shorten};
use crate::interrupt;

const HEARTBEAT: Duration = Duration::from_secs(10);
const SHOWN_LOG_LINES: usize = 40;

/// The log of one step: a file that the step's programs write to.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    began: Instant,
    next_heartbeat: Cell<Instant>,
    progress: Arc<Mutex<String>>,
    shown: bool,
}

impl Log {
    /// An empty log at `path`.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: PathBuf) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
        }
        File::create(&path).with_context(|| format!("failed to create {}", path.display()))?;
        Ok(Self::at(path))
    }

    /// The log at `path` as it is.
    fn at(path: PathBuf) -> Self {
        let now = Instant::now();
        Self {
            path,
            began: now,
            next_heartbeat: Cell::new(now + HEARTBEAT),
            progress: Arc::default(),
            shown: true,
        }
    }

    /// A log of work beside the step that is shown: nothing of it reaches the person.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn beside(path: PathBuf) -> Result<Self> {
        Ok(Self {
            shown: false,
            ..Self::create(path)?
        })
    }

    /// The log's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one line. A log that cannot be written does not fail the step.
    pub fn write_line(&self, line: &str) {
        if let Ok(mut file) = self.append() {
            drop(writeln!(file, "{line}"));
        }
    }

    /// Tells the person something now, and keeps it in the log.
    pub fn say(&self, text: &str) {
        if self.shown {
            for line in text.lines() {
                println!("   {line}");
            }
        }
        self.write_line(text);
    }

    /// An output for a child process that appends to this log.
    pub(crate) fn as_output(&self) -> Result<Stdio> {
        Ok(Stdio::from(self.append()?))
    }

    /// What the next signs of life say before the log's last line, until this is set to something else.
    pub fn set_progress(&self, text: impl Into<String>) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
    }

    /// How far the work is, and what it said last.
    fn sign(&self) -> String {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let last = self.tail(1);
        let parts = [progress.trim(), last.trim()];
        parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// Shows a sign of life when the last one is long ago.
    pub(crate) fn heartbeat(&self) {
        let now = Instant::now();
        if !self.shown || now < self.next_heartbeat.get() {
            return;
        }
        self.next_heartbeat.set(now + HEARTBEAT);
        println!(
            "   … {} s: {}",
            self.began.elapsed().as_secs(),
            shorten(&self.sign(), 120)
        );
    }

    /// The last `lines` lines that are not blank.
    pub fn tail(&self, lines: usize) -> String {
        let text = self.last_bytes(64 * 1024).unwrap_or_default();
        // Progress bars rewrite their line with carriage returns; what they ended with is what counts.
        let shown = text
            .lines()
            .map(|line| line.rsplit('\r').find(|part| !part.is_empty()).unwrap_or(""));
        let kept: Vec<&str> = shown.filter(|line| !line.trim().is_empty()).collect();
        kept[kept.len().saturating_sub(lines)..].join("\n")
    }

    /// The whole log.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn text(&self) -> Result<String> {
        let bytes = std::fs::read(&self.path).with_context(|| format!("failed to read {}", self.path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Made again when somebody removed it meanwhile: cleaning a build folder must not fail a build.
    fn append(&self) -> Result<File> {
        if let Some(folder) = self.path.parent().filter(|folder| !folder.exists()) {
            std::fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
        }
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .with_context(|| format!("failed to open the log {}", self.path.display()))
    }

    fn last_bytes(&self, count: u64) -> std::io::Result<String> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(count)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Work that goes on beside the steps that are shown, until [`Steps::wait_for`].
pub struct Beside<'scope, T> {
    title: String,
    log: Log,
    work: ScopedJoinHandle<'scope, Result<T>>,
}

/// A step that has ended.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    title: String,
    seconds: f64,
    passed: bool,
}

/// The steps of one command, in order.
#[derive(Debug)]
pub struct Steps {
    logs: PathBuf,
    began: Instant,
    rows: Vec<Row>,
    _alone: File,
}

impl Steps {
    /// Begins a command whose logs go to the folder `logs`, which is emptied. The same command in the same checkout
    /// runs once at a time.
    ///
    /// # Errors
    /// When the folder cannot be made, or the same command is running.
    pub fn begin(logs: PathBuf) -> Result<Self> {
        let lock = logs.with_extension("lock");
        if let Some(folder) = lock.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
        }
        let alone = File::create(&lock).with_context(|| format!("failed to create {}", lock.display()))?;
        alone
            .try_lock()
            .context("the same command is running in this checkout")
            .remedy("wait for it to end")?;
        if logs.exists() {
            std::fs::remove_dir_all(&logs).with_context(|| format!("failed to empty {}", logs.display()))?;
        }
        std::fs::create_dir_all(&logs).with_context(|| format!("failed to create {}", logs.display()))?;
        Ok(Self {
            logs,
            began: Instant::now(),
            rows: Vec::new(),
            _alone: alone,
        })
    }

    /// Does one step. A failure is shown here with its reason, remedy and log; the returned error is [`Shown`].
    ///
    /// # Errors
    /// [`Shown`], when the step failed.
    pub fn run<T>(&mut self, title: &str, work: impl FnOnce(&Log) -> Result<T>) -> Result<T> {
        println!("\n[{:>6.1} s] {title}", self.began.elapsed().as_secs_f64());
        let began = Instant::now();
        let log = Log::create(
            self.logs
                .join(format!("{:02}-{}.log", self.rows.len() + 1, slug(title))),
        )?;
        let outcome = work(&log);
        let seconds = began.elapsed().as_secs_f64();
        self.rows.push(Row {
            title: title.to_owned(),
            seconds,
            passed: outcome.is_ok(),
        });
        match outcome {
            Ok(value) => {
                println!("   done in {seconds:.1} s");
                Ok(value)
            }
            Err(error) => {
                show_failure(&error, seconds, &log);
                Err(Shown.into())
            }
        }
    }

    /// Begins work beside the next steps: what waits for the network beside what computes. When it fails it asks the
    /// others to stop, so that its reason is told by [`Steps::wait_for`] soon.
    ///
    /// # Errors
    /// When its log cannot be made.
    pub fn beside<'scope, T: Send + 'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        title: &str,
        work: impl FnOnce(&Log) -> Result<T> + Send + 'scope,
    ) -> Result<Beside<'scope, T>> {
        println!("\n[{:>6.1} s] Meanwhile: {title}", self.began.elapsed().as_secs_f64());
        let path = self.logs.join(format!("beside-{}.log", slug(title)));
        let log = Log::beside(path.clone())?;
        let seen = Log {
            progress: Arc::clone(&log.progress),
            ..Log::at(path)
        };
        let work = move || work(&log).inspect_err(|_| interrupt::request());
        Ok(Beside {
            title: title.to_owned(),
            log: seen,
            work: scope.spawn(work),
        })
    }

    /// Shows the rest of work that was begun by [`Steps::beside`] as a step of its own.
    ///
    /// # Errors
    /// [`Shown`], when the work failed.
    pub fn wait_for<T>(&mut self, beside: Beside<'_, T>) -> Result<T> {
        self.run(&beside.title, |log| {
            while !beside.work.is_finished() {
                log.set_progress(beside.log.sign());
                log.heartbeat();
                std::thread::sleep(Duration::from_millis(100));
            }
            log.write_line(&beside.log.tail(SHOWN_LOG_LINES));
            beside
                .work
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("the work ended by a panic")))
        })
    }

    /// How many steps have failed so far.
    pub fn failures(&self) -> usize {
        self.rows.iter().filter(|row| !row.passed).count()
    }

    /// All steps with their seconds and results, as a table.
    pub fn summary(&self) -> String {
        let mut table = table(&self.rows);
        table.push_str(&format!("{:>8.1} s  in all", self.began.elapsed().as_secs_f64()));
        table
    }
}

fn show_failure(error: &anyhow::Error, seconds: f64, log: &Log) {
    println!("   FAILED after {seconds:.1} s: {error:#}");
    let tail = log.tail(SHOWN_LOG_LINES);
    if !tail.is_empty() {
        println!("   --- the end of {}", log.path().display());
        for line in tail.lines() {
            println!("   | {line}");
        }
        println!("   ---");
    }
    if let Some(remedy) = remedy_of(error) {
        println!("   remedy: {remedy}");
    }
}

fn table(rows: &[Row]) -> String {
    rows.iter()
        .map(|row| {
            format!(
                "{:>8.1} s  {:<6}  {}\n",
                row.seconds,
                if row.passed { "ok" } else { "FAILED" },
                row.title
            )
        })
        .collect()
}

/// A file name made of a title's letters and digits.
pub(crate) fn slug(title: &str) -> String {
    let mut slug = String::new();
    for character in title.to_lowercase().chars() {
        if character.is_ascii_alphanumeric() {
            slug.push(character);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_matches('-').chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_counted_and_marked_as_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut steps = Steps::begin(folder.path().join("logs")).expect("it begins");
        steps.run("Good", |_| Ok(())).expect("it passes");
        let error = steps
            .run("Bad one", |_| Err::<(), _>(anyhow::anyhow!("no")))
            .expect_err("it fails");
        assert!(error.is::<Shown>());
        assert_eq!(steps.failures(), 1);
        assert!(folder.path().join("logs/02-bad-one.log").is_file());
    }

    #[test]
    fn work_beside_is_told_where_it_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut steps = Steps::begin(folder.path().join("logs")).expect("it begins");
        std::thread::scope(|scope| {
            let good = steps.beside(scope, "Good", |_| Ok(7)).expect("it begins");
            let bad = steps.beside(scope, "Bad", |log| {
                log.say("the reason");
                Err::<(), _>(anyhow::anyhow!("no"))
            });
            let bad = bad.expect("it begins");
            assert_eq!(steps.wait_for(good).expect("it passes"), 7);
            assert!(steps.wait_for(bad).expect_err("it fails").is::<Shown>());
        });
        assert_eq!(steps.failures(), 1);
        let log = std::fs::read_to_string(folder.path().join("logs/02-bad.log")).expect("a log");
        assert_eq!(log, "the reason\n", "the step's log has what the work said");
    }

    #[test]
    fn the_same_command_runs_once_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Steps::begin(folder.path().join("logs")).expect("it begins");
        let error = Steps::begin(folder.path().join("logs")).expect_err("it is running");
        assert!(error.to_string().contains("the same command is running"), "{error}");
        drop(first);
        Steps::begin(folder.path().join("logs")).expect("it begins again");
    }

    #[test]
    fn a_sign_of_life_says_how_far_and_what() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = Log::create(folder.path().join("log")).expect("a log");
        log.set_progress("2 of 3");
        assert_eq!(log.sign(), "2 of 3");
        log.write_line("   Compiling x");
        assert_eq!(log.sign(), "2 of 3; Compiling x");
        log.set_progress("");
        assert_eq!(log.sign(), "Compiling x");
    }

    #[test]
    fn the_tail_skips_blank_lines_and_rewritten_progress() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = Log::create(folder.path().join("log")).expect("a log");
        log.write_line("one\n\n10%\r50%\r100%\nlast");
        assert_eq!(log.tail(2), "100%\nlast");
    }

    #[test]
    fn the_table_has_a_line_per_step() {
        let rows = [
            Row {
                title: "Format".into(),
                seconds: 1.25,
                passed: true,
            },
            Row {
                title: "Lint".into(),
                seconds: 100.0,
                passed: false,
            },
        ];
        assert_eq!(table(&rows), "     1.2 s  ok      Format\n   100.0 s  FAILED  Lint\n");
    }

    #[test]
    fn titles_become_file_names() {
        assert_eq!(
            slug("Installing: Debian's packages (3)"),
            "installing-debian-s-packages-3"
        );
    }
}
