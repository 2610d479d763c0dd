//! What came of a verification: the exit code, and the reports for a pipeline.
//!
//! Pure.

use super::timeline::{Moment, kind};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::fmt::Write as _;
use valerix_crds::{ChaosExperimentStatus, Verdict};

/// The system withstood the fault.
pub const PASSED: u8 = 0;
/// It did not.
pub const FAILED: u8 = 1;
/// There is no verdict on the system: the run was skipped, stopped, could not be judged, or could not be asked for.
pub const NO_VERDICT: u8 = 2;

/// Everything that is known at the end.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Namespace of the experiment; empty when it is not known.
    pub namespace: String,
    /// Name of the experiment, or of the file that holds it.
    pub name: String,
    /// Identity of the run.
    pub run: String,
    /// When it was asked for.
    pub began: DateTime<Utc>,
    /// When this was known.
    pub ended: DateTime<Utc>,
    /// What happened.
    pub timeline: Vec<Moment>,
    /// The run's status, as far as it came.
    pub status: Option<ChaosExperimentStatus>,
    /// Why there is no verdict, where the reason does not stand in status.
    pub error: Option<String>,
}

impl Outcome {
    /// Nothing is known yet of a run that is about to be asked for.
    pub fn new(namespace: String, name: String) -> Self {
        let now = Utc::now();
        Self {
            namespace,
            name,
            run: format!("verify-{}", uuid::Uuid::new_v4().simple()),
            began: now,
            ended: now,
            timeline: Vec::new(),
            status: None,
            error: None,
        }
    }

    /// The verdict, if the run has come to one.
    pub fn verdict(&self) -> Option<Verdict> {
        let status = self.status.as_ref().filter(|_| self.error.is_none())?;
        status.verdict
    }

    /// How the process ends.
    pub fn exit_code(&self) -> u8 {
        match self.verdict() {
            Some(Verdict::Pass) => PASSED,
            Some(Verdict::Fail) => FAILED,
            _ => NO_VERDICT,
        }
    }

    /// One word and one sentence on why it ended as it did.
    fn why(&self) -> (&str, &str) {
        if let Some(error) = &self.error {
            return ("NotVerified", error);
        }
        let status = self.status.as_ref();
        (
            status.and_then(|status| status.reason.as_deref()).unwrap_or("Unknown"),
            status.and_then(|status| status.message.as_deref()).unwrap_or_default(),
        )
    }

    fn seconds(&self) -> f64 {
        (self.ended - self.began).as_seconds_f64().max(0.0)
    }

    /// The last lines for a person.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let (reason, message) = self.why();
        let verdict = self
            .verdict()
            .map_or("no verdict".to_owned(), |verdict| format!("{verdict:?}"));
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{}/{}: {verdict}, {reason}: {message}", self.namespace, self.name);
        let Some(status) = &self.status else { return text };
        let injected = status.summary.as_ref().map_or("", |summary| summary.injected.as_str());
        let recovery = status.time_to_recover.as_deref().unwrap_or("not measured");
        let _ = writeln!(
            text,
            "  {} injected {}, recovery {recovery}, run {}",
            kind(status),
            if injected.is_empty() { "nowhere" } else { injected },
            self.run
        );
        for probe in &status.probes {
            let first = probe
                .first_failure
                .as_deref()
                .map(|failure| format!("; first: {failure}"));
            let _ = writeln!(
                text,
                "  probe {}: {} passed, {} failed{}",
                probe.name,
                probe.passed,
                probe.failed,
                first.unwrap_or_default()
            );
        }
        text
    }

    /// The report as JSON.
    pub fn json(&self) -> Value {
        let (reason, message) = self.why();
        let status = self.status.clone().unwrap_or_default();
        json!({
            "namespace": self.namespace,
            "experiment": self.name,
            "run": self.run,
            "exitCode": self.exit_code(),
            "verdict": self.verdict(),
            "reason": reason,
            "message": message,
            "phase": status.phase,
            "type": kind(&status),
            "beganAt": self.began,
            "endedAt": self.ended,
            "intentAt": status.intent_at,
            "injectedAt": status.injected_at,
            "faultEndedAt": status.fault_ended_at.filter(|_| status.intent_at.is_some()),
            "steadyAgainAt": status.steady_again_at,
            "timeToRecover": status.time_to_recover,
            "seed": status.seed,
            "targets": status.targets,
            "spared": status.spared,
            "probes": status.probes,
            "timeline": self.timeline,
        })
    }

    /// The report as JUnit's XML: one case, which is a failure, an error or skipped where it is not Pass.
    pub fn junit(&self) -> String {
        let (reason, message) = self.why();
        let verdict = self.verdict();
        let (mut failures, mut errors, mut skipped) = (0, 0, 0);
        let attributes = format!("type=\"{}\" message=\"{}\"", escape(reason), escape(message));
        let result = match verdict {
            Some(Verdict::Pass) => String::new(),
            Some(Verdict::Fail) => {
                failures = 1;
                format!("      <failure {attributes}/>\n")
            }
            Some(Verdict::Skipped) => {
                skipped = 1;
                format!(
                    "      <skipped message=\"{}\"/>\n",
                    escape(&format!("{reason}: {message}"))
                )
            }
            _ => {
                errors = 1;
                format!("      <error {attributes}/>\n")
            }
        };
        let lines: String = self
            .timeline
            .iter()
            .map(|moment| format!("{} {}\n", moment.at.to_rfc3339(), moment.text))
            .collect();
        let (suite, case) = (escape(&self.namespace), escape(&self.name));
        let counts = format!("tests=\"1\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\"");
        let time = format!("time=\"{:.3}\"", self.seconds());
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts} {time}>\n  \
             <testsuite name=\"chaos.{suite}\" timestamp=\"{}\" {counts} {time}>\n    \
             <testcase classname=\"chaos.{suite}\" name=\"{case}\" {time}>\n{result}      \
             <system-out>{}</system-out>\n    </testcase>\n  </testsuite>\n</testsuites>\n",
            self.began.to_rfc3339(),
            escape(&(lines + &self.summary()))
        )
    }
}

/// Text as XML takes it: what XML cannot hold at all is left out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\n' | '\t' => escaped.push(character),
            '\u{fffe}' | '\u{ffff}' => {}
            other if other.is_control() => {}
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos_experiment::testing::at;
    use rstest::rstest;

    fn outcome(verdict: Option<Verdict>, error: Option<&str>) -> Outcome {
        Outcome {
            namespace: "shop".into(),
            name: "slow".into(),
            run: "verify-1".into(),
            began: at(0),
            ended: at(9),
            timeline: vec![Moment {
                at: at(1),
                text: "a < b & \"c\"\u{7}".into(),
            }],
            status: verdict.map(|verdict| ChaosExperimentStatus {
                verdict: Some(verdict),
                reason: Some("Why".into()),
                message: Some("because <x>".into()),
                ..ChaosExperimentStatus::default()
            }),
            error: error.map(str::to_owned),
        }
    }

    #[rstest]
    #[case(Some(Verdict::Pass), None, 0, "failures=\"0\" errors=\"0\" skipped=\"0\"")]
    #[case(Some(Verdict::Fail), None, 1, "failures=\"1\" errors=\"0\" skipped=\"0\"")]
    #[case(Some(Verdict::Skipped), None, 2, "failures=\"0\" errors=\"0\" skipped=\"1\"")]
    #[case(Some(Verdict::Error), None, 2, "failures=\"0\" errors=\"1\" skipped=\"0\"")]
    #[case(Some(Verdict::Stopped), None, 2, "failures=\"0\" errors=\"1\" skipped=\"0\"")]
    #[case(Some(Verdict::NotEvaluated), None, 2, "failures=\"0\" errors=\"1\" skipped=\"0\"")]
    #[case(Some(Verdict::Awaited), None, 2, "failures=\"0\" errors=\"1\" skipped=\"0\"")]
    #[case(None, Some("no cluster"), 2, "failures=\"0\" errors=\"1\" skipped=\"0\"")]
    #[case(
        Some(Verdict::Pass),
        Some("too late"),
        2,
        "failures=\"0\" errors=\"1\" skipped=\"0\""
    )]
    fn only_pass_is_zero(
        #[case] verdict: Option<Verdict>,
        #[case] error: Option<&str>,
        #[case] code: u8,
        #[case] counts: &str,
    ) {
        let outcome = outcome(verdict, error);
        assert_eq!(outcome.exit_code(), code);
        assert_eq!(outcome.json()["exitCode"], json!(code));
        let junit = outcome.junit();
        assert!(junit.contains(counts), "{junit}");
        assert_eq!(junit.matches("<testcase ").count(), 1);
    }

    #[test]
    fn xml_holds_what_was_said_and_nothing_that_would_break_it() {
        let junit = outcome(Some(Verdict::Fail), None).junit();
        assert!(junit.contains("message=\"because &lt;x&gt;\""), "{junit}");
        assert!(junit.contains("a &lt; b &amp; &quot;c&quot;\n"), "{junit}");
        assert!(!junit.contains('\u{7}'));
    }
}
