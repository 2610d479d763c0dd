//! Calls kubectl on one cluster, never on whatever the current context of the user is.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::{Program, shorten};
use crate::interrupt;
use crate::steps::Log;

/// kubectl with a kubeconfig.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// The kubectl at `program`, on the cluster of `kubeconfig`.
    pub fn new(program: PathBuf, kubeconfig: PathBuf) -> Self {
        Self { program, kubeconfig }
    }

    /// Where this kubectl is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A call with arguments.
    pub fn call<I: IntoIterator<Item: AsRef<std::ffi::OsStr>>>(&self, arguments: I) -> Program {
        Program::new(&self.program)
            .env("KUBECONFIG", &self.kubeconfig)
            .args(arguments)
    }

    /// Shows a person what `kubectl <arguments>` prints, with the command above it.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn show(&self, arguments: &str, log: &Log) -> Result<()> {
        let output = self.call(arguments.split_whitespace()).read(log)?;
        log.say(&format!("$ kubectl {arguments}\n{}", output.trim_end()));
        Ok(())
    }

    /// Reads one object.
    ///
    /// # Errors
    /// When it is not there.
    pub fn get(&self, kind: &str, namespace: &str, name: &str, log: &Log) -> Result<Value> {
        let text = self
            .call(["get", kind, name, "--namespace", namespace, "--output=json"])
            .read(log)?;
        serde_json::from_str(&text).with_context(|| format!("failed to read {kind}/{name} as JSON"))
    }

    /// Applies one object.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn apply(&self, object: &Value, log: &Log) -> Result<()> {
        self.call([
            "apply",
            "--server-side",
            "--field-manager=valerix-demo",
            "--force-conflicts",
            "--filename=-",
        ])
        .input(object.to_string())
        .run(log)
    }

    /// Reads one object until `done` says something about it. `what` completes "waiting for ...".
    ///
    /// # Errors
    /// When that does not happen within `limit`; the last status is in the message.
    pub fn await_object<T>(
        &self,
        (kind, namespace, name): (&str, &str, &str),
        what: &str,
        limit: Duration,
        log: &Log,
        mut done: impl FnMut(&Value) -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            let object = self.get(kind, namespace, name, log)?;
            if let Some(value) = done(&object)? {
                return Ok(value);
            }
            if Instant::now() > deadline {
                let status = shorten(&object["status"].to_string(), 1_000);
                bail!(
                    "{kind}/{name}: {what} did not happen within {} s; status: {status}",
                    limit.as_secs()
                );
            }
            interrupt::check()?;
            log.heartbeat();
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

/// The status (`True`, `False`, `Unknown`) of a condition, if the object has it.
pub fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == name)?["status"].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_are_found_by_type() {
        let object = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
        assert_eq!(condition(&object, "Ready"), Some("False"));
        assert_eq!(condition(&object, "Other"), None);
        assert_eq!(condition(&json!({}), "Ready"), None);
    }

    #[test]
    fn every_call_names_its_kubeconfig() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = Log::create(folder.path().join("log")).expect("a log");
        let kubectl = Kubectl::new(PathBuf::from("sh"), PathBuf::from("/k"));
        assert_eq!(
            kubectl.call(["-c", "echo $KUBECONFIG"]).read(&log).expect("it runs"),
            "/k\n"
        );
    }
}
