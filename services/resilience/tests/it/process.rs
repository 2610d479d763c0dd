//! Processes of their own, for what a test cannot do to itself: be killed, be stopped, be measured alone.
//!
//! They are this very test program, started with a role in its environment; without one the test below does nothing.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::PATIENCE;

const ROLE: &str = "RESILIENCE_TEST_ROLE";
/// Begins each line that a process says to its parent; the test harness prints lines of its own.
const MARK: &str = "@@";

/// What a process does that was started with a role.
#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        match role.as_str() {
            "payments" => crate::payments::serve().await,
            "report" => crate::reload_process::read_reports().await,
            "reload" => crate::reload_process::run().await,
            "crash" => crate::fault_process::crash().await,
            "stress" => crate::fault_process::stress().await,
            other => panic!("no such role: {other}"),
        }
    });
}

/// What the parent set for this process.
pub(crate) fn setting(name: &str) -> Option<String> {
    std::env::var(format!("RESILIENCE_TEST_{name}")).ok()
}

/// Says a line to the parent.
pub(crate) fn say(line: &str) {
    println!("\n{MARK}{line}");
}

/// Ends (SIGKILL) or stops (SIGSTOP) this process from within. Returns only when it goes on.
pub(crate) fn signal_self(signal: Signal) {
    kill_process(rustix::process::getpid(), signal).unwrap();
    // Another thread may be the one that is interrupted: this one must not get any further meanwhile.
    std::thread::sleep(Duration::from_millis(100));
}

/// A process of a role; killed when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub(crate) fn start(role: &str, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["process::role", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        for (name, value) in settings {
            command.env(format!("RESILIENCE_TEST_{name}"), value);
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that it says; `None` when it ended without one.
    pub(crate) async fn hear(&mut self) -> Option<String> {
        self.hear_within(PATIENCE * 3).await
    }

    /// The same, for a process that has much to do first.
    pub(crate) async fn hear_within(&mut self, patience: Duration) -> Option<String> {
        let heard = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if let Some(said) = line.strip_prefix(MARK) {
                    return Some(said.to_owned());
                }
            }
            None
        };
        tokio::time::timeout(patience, heard).await.expect("it says something")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// How it ended.
    pub(crate) async fn end(mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.expect("it ends").unwrap()
    }
}
