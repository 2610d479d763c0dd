//! Runs other programs: their output goes to the step's log, they never read the terminal, they run in a process
//! group of their own that is ended when the user interrupts, and a failure names the command and its status.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::failure::{WithRemedy, shorten};
use crate::interrupt;
use crate::steps::Log;

const POLL: Duration = Duration::from_millis(40);
const GRACE: Duration = Duration::from_secs(15);

/// One run of another program.
pub struct Program {
    command: Command,
    input: Option<Vec<u8>>,
    during_cleanup: bool,
}

impl Program {
    /// A program by name (looked up in PATH) or by path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        // What it prints goes to a file: no colours, no progress bars.
        command
            .stdin(Stdio::null())
            .env("TERM", "dumb")
            .env("CARGO_TERM_COLOR", "never");
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Self {
            command,
            input: None,
            during_cleanup: false,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, arguments: I) -> Self {
        self.command.args(arguments);
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs in `folder`.
    #[must_use]
    pub fn in_folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Feeds `bytes` to the program's standard input.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self.command.stdin(Stdio::piped());
        self
    }

    /// Goes on although the user interrupted: for programs that clean up.
    #[must_use]
    pub fn during_cleanup(mut self) -> Self {
        self.during_cleanup = true;
        self
    }

    /// Reads and writes the terminal like a program that the user started.
    #[must_use]
    pub fn on_the_terminal(mut self) -> Self {
        self.command.stdin(Stdio::inherit());
        std::os::unix::process::CommandExt::process_group(
            &mut self.command,
            rustix::process::getpgrp().as_raw_nonzero().get(),
        );
        self
    }

    /// Becomes the program; returns only when that fails.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn replace(mut self) -> Result<()> {
        let shown = self.shown();
        let program = self.command.get_program().to_owned();
        let error = std::os::unix::process::CommandExt::exec(&mut self.command);
        Err(error)
            .with_context(|| format!("failed to start `{shown}`"))
            .remedy(remedy_for_missing(&program))
    }

    /// Runs to the end; both outputs go to the log.
    ///
    /// # Errors
    /// When the program cannot be started, is interrupted, or ends with another status than 0.
    pub fn run(mut self, log: &Log) -> Result<()> {
        let shown = self.shown();
        log.write_line(&format!("$ {shown}"));
        self.command.stdout(log.as_output()?).stderr(log.as_output()?);
        let status = self.finish(log, &shown, |_| {})?;
        require_success(status, &shown)
    }

    /// As [`Program::run`], and `seen` is told each line of standard error as it comes.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn run_seeing(mut self, log: &Log, mut seen: impl FnMut(&str)) -> Result<()> {
        let shown = self.shown();
        log.write_line(&format!("$ {shown}"));
        self.command.stdout(log.as_output()?).stderr(Stdio::piped());
        let status = self.finish(log, &shown, |line| {
            let line = String::from_utf8_lossy(line);
            log.write_line(line.trim_end());
            seen(line.trim_end());
        })?;
        require_success(status, &shown)
    }

    /// Runs to the end and returns its standard output; standard error goes to the log.
    ///
    /// # Errors
    /// As [`Program::run`], and when the output is not UTF-8.
    pub fn read(self, log: &Log) -> Result<String> {
        self.read_seeing(log, |_| {})
    }

    /// As [`Program::read`], and `seen` is told each line of standard output as it comes.
    ///
    /// # Errors
    /// As [`Program::read`].
    pub fn read_seeing(mut self, log: &Log, mut seen: impl FnMut(&str)) -> Result<String> {
        let shown = self.shown();
        log.write_line(&format!("$ {shown}"));
        self.command.stdout(Stdio::piped()).stderr(log.as_output()?);
        let mut output = Vec::new();
        let status = self.finish(log, &shown, |line| {
            seen(&String::from_utf8_lossy(line));
            output.extend_from_slice(line);
        })?;
        require_success(status, &shown)?;
        String::from_utf8(output).with_context(|| format!("failed to read the output of `{shown}` as UTF-8"))
    }

    /// True when the program runs and ends with status 0 within ten seconds; its output is thrown away.
    pub fn succeeds(mut self) -> bool {
        self.command.stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(mut child) = self.command.spawn() else {
            return false;
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL),
                _ => {
                    end(&mut child);
                    return false;
                }
            }
        }
    }

    /// Starts the program and leaves it running until the returned guard is dropped; both outputs go to the log.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(mut self, log: &Log) -> Result<Running> {
        let shown = self.shown();
        log.write_line(&format!("$ {shown} &"));
        self.command.stdout(log.as_output()?).stderr(log.as_output()?);
        Ok(Running {
            child: spawn(&mut self.command, &shown)?,
        })
    }

    /// As [`Program::start`], with standard output readable line by line.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_reading(mut self, log: &Log) -> Result<(Running, std::process::ChildStdout)> {
        let shown = self.shown();
        log.write_line(&format!("$ {shown} &"));
        self.command.stdout(Stdio::piped()).stderr(log.as_output()?);
        let mut child = spawn(&mut self.command, &shown)?;
        let output = child
            .stdout
            .take()
            .with_context(|| format!("failed to read the output of `{shown}`"))?;
        Ok((Running { child }, output))
    }

    /// As [`Program::start_reading`], with standard input to write to: for programs that answer questions.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_talking(
        mut self,
        log: &Log,
    ) -> Result<(Running, std::process::ChildStdin, std::process::ChildStdout)> {
        self.command.stdin(Stdio::piped());
        let shown = self.shown();
        let (mut running, output) = self.start_reading(log)?;
        let input = running.child.stdin.take();
        let input = input.with_context(|| format!("failed to write to `{shown}`"))?;
        Ok((running, input, output))
    }

    /// Runs to the end; `line` is given each line of the output that is piped.
    fn finish(&mut self, log: &Log, shown: &str, mut line: impl FnMut(&[u8])) -> Result<ExitStatus> {
        let mut child = spawn(&mut self.command, shown)?;
        let feeder = self.input.take().zip(child.stdin.take()).map(|(bytes, mut pipe)| {
            // A program that stops reading early says so by its status.
            std::thread::spawn(move || drop(pipe.write_all(&bytes)))
        });
        let lines = match (child.stdout.take(), child.stderr.take()) {
            (Some(pipe), _) => lines_of(pipe),
            (None, Some(pipe)) => lines_of(pipe),
            (None, None) => channel().1,
        };
        let status = loop {
            lines.try_iter().for_each(|bytes| line(&bytes));
            if let Some(status) = child
                .try_wait()
                .with_context(|| format!("failed to wait for `{shown}`"))?
            {
                break status;
            }
            if interrupt::requested() && !self.during_cleanup {
                end(&mut child);
                bail!("interrupted");
            }
            log.heartbeat();
            std::thread::sleep(POLL);
        };
        lines.iter().for_each(|bytes| line(&bytes));
        if let Some(feeder) = feeder {
            drop(feeder.join());
        }
        Ok(status)
    }

    /// The command as a person would type it, cut to a readable length.
    fn shown(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        shorten(&words.map(quote).collect::<Vec<_>>().join(" "), 300)
    }
}

/// A program that runs in the background; ended, with its children, when this is dropped.
pub struct Running {
    child: Child,
}

impl Running {
    /// True while the program has not ended by itself.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// The lines of a pipe, with their ends, as they come; the channel closes when the pipe does.
fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) && sender.send(line).is_ok() {
            line = Vec::new();
        }
    });
    lines
}

fn spawn(command: &mut Command, shown: &str) -> Result<Child> {
    let program = command.get_program().to_owned();
    command
        .spawn()
        .with_context(|| format!("failed to start `{shown}`"))
        .remedy(remedy_for_missing(&program))
}

fn remedy_for_missing(program: &OsString) -> String {
    format!("install {}, or put it on PATH", program.display())
}

fn require_success(status: ExitStatus, shown: &str) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    match status.code() {
        Some(code) => bail!("`{shown}` ended with status {code}"),
        None => bail!("`{shown}` was ended by a signal ({status})"),
    }
}

/// SIGTERM to the whole group, SIGKILL after a grace time, and waits for the child itself.
fn end(child: &mut Child) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let signal = |signal| group.map(|group| kill_process_group(group, signal));
    signal(Signal::TERM);
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(POLL);
    }
    signal(Signal::KILL);
    drop(child.wait());
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./:=@,+%".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    let mut quoted = String::from("'");
    for character in word.chars() {
        match character {
            '\'' => quoted.push_str("'\\''"),
            other => drop(quoted.write_char(other)),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> (tempfile::TempDir, Log) {
        let folder = tempfile::tempdir().expect("a folder");
        let log = Log::create(folder.path().join("a.log")).expect("a log");
        (folder, log)
    }

    #[test]
    fn output_is_returned_and_errors_are_logged() {
        let (_folder, log) = log();
        let output = Program::new("sh")
            .args(["-c", "echo out; echo err >&2"])
            .read(&log)
            .expect("it runs");
        assert_eq!(output, "out\n");
        assert!(log.tail(10).contains("err"), "{}", log.tail(10));
    }

    #[test]
    fn lines_are_seen_one_by_one_and_kept() {
        let (_folder, log) = log();
        let script = ["-c", "echo one; echo two >&2; printf three"];
        let mut seen = Vec::new();
        let output = Program::new("sh")
            .args(script)
            .read_seeing(&log, |line| seen.push(line.to_owned()))
            .expect("it runs");
        assert_eq!(
            (output.as_str(), seen.as_slice()),
            ("one\nthree", &["one\n".to_owned(), "three".to_owned()][..])
        );
        let mut seen = Vec::new();
        Program::new("sh")
            .args(script)
            .run_seeing(&log, |line| seen.push(line.to_owned()))
            .expect("it runs");
        assert_eq!(seen, ["two"], "standard error is what progress is told on");
    }

    #[test]
    fn a_failure_names_command_and_status() {
        let (_folder, log) = log();
        let error = Program::new("sh")
            .args(["-c", "exit 3"])
            .run(&log)
            .expect_err("it fails");
        assert_eq!(error.to_string(), "`sh -c 'exit 3'` ended with status 3");
    }

    #[test]
    fn a_missing_program_has_a_remedy() {
        let (_folder, log) = log();
        let error = Program::new("no-such-program").run(&log).expect_err("it is missing");
        assert_eq!(
            crate::failure::remedy_of(&error),
            Some("install no-such-program, or put it on PATH")
        );
    }

    #[test]
    fn input_reaches_the_program() {
        let (_folder, log) = log();
        assert_eq!(Program::new("cat").input("hello").read(&log).expect("it runs"), "hello");
    }

    #[test]
    fn dropping_a_running_program_ends_its_children_too() {
        let (folder, log) = log();
        let mark = folder.path().join("pid");
        let script = format!("sleep 300 & echo $! > {}; wait", mark.display());
        let running = Program::new("sh").args(["-c", &script]).start(&log).expect("it starts");
        let pid = loop {
            match std::fs::read_to_string(&mark) {
                Ok(text) if text.ends_with('\n') => break text.trim().to_owned(),
                _ => std::thread::sleep(POLL),
            }
        };
        drop(running);
        let alive = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        let deadline = Instant::now() + Duration::from_secs(10);
        while alive() && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        assert!(!alive(), "the grandchild {pid} outlived the guard");
    }

    #[test]
    fn words_are_quoted_as_a_shell_would_need() {
        assert_eq!(quote(OsStr::new("a/b-c=1")), "a/b-c=1");
        assert_eq!(quote(OsStr::new("it's")), "'it'\\''s'");
        assert_eq!(quote(OsStr::new("")), "''");
    }
}
