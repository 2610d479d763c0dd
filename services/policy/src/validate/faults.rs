//! The bounds of faults.

use super::{DAY, Findings};
use crate::duration::Duration;
use crate::error::{PolicyError, Violation};
use crate::faults::{FAULTS_VERSION, Fault, Faults};
use crate::parse::{Parsed, parse};

impl Faults {
    /// Reads `faults.json`.
    ///
    /// # Errors
    /// When the bytes are no JSON, of another version or shape, or a value is out of bounds.
    pub fn parse(bytes: &[u8]) -> Result<Parsed<Self>, PolicyError> {
        parse(bytes, FAULTS_VERSION, Self::violations)
    }

    /// Every value that is out of bounds.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        faults(self)
    }
}

fn faults(document: &Faults) -> Vec<Violation> {
    let mut findings = Findings::default();
    findings.require(
        document.faults.len() <= 1,
        "faults",
        document.faults.len(),
        "list at most one fault",
    );
    for (index, entry) in document.faults.iter().enumerate() {
        let path = format!("faults[{index}]");
        findings.require(
            !entry.run.is_empty() && entry.run.len() <= 253 && entry.run.bytes().all(|byte| byte.is_ascii_graphic()),
            format!("{path}.run"),
            format!("{:?}", entry.run),
            "use 1 to 253 visible ASCII characters",
        );
        findings.duration(format!("{path}.duration"), entry.duration, Duration::ZERO, DAY);
        findings.require(
            entry.not_after >= entry.intent_at,
            format!("{path}.notAfter"),
            entry.not_after,
            "use a time after intentAt",
        );
        for (number, spared) in entry.spared_paths.iter().enumerate() {
            findings.require(
                spared.starts_with('/') && spared.len() <= 4_096,
                format!("{path}.sparedPaths[{number}]"),
                format!("{spared:?}"),
                "write a path such as /healthz",
            );
        }
        fault(&mut findings, &format!("{path}.fault"), &entry.fault);
    }
    findings.0
}

fn fault(findings: &mut Findings, path: &str, fault: &Fault) {
    if let Some(latency) = &fault.latency {
        findings.duration(
            format!("{path}.latency.delay"),
            latency.delay,
            Duration::from_millis(1),
            DAY,
        );
        findings.require(
            latency.jitter <= latency.delay,
            format!("{path}.latency.jitter"),
            latency.jitter,
            format!("use at most latency.delay ({})", latency.delay),
        );
        findings.number(format!("{path}.latency.percent"), latency.percent, 1, 100);
        findings.routes(&format!("{path}.latency.routes"), &latency.routes);
    }
    if let Some(errors) = &fault.errors {
        findings.number(format!("{path}.errors.percent"), errors.percent, 1, 100);
        findings.number(format!("{path}.errors.status"), u32::from(errors.status), 400, 599);
        findings.routes(&format!("{path}.errors.routes"), &errors.routes);
    }
    if let Some(abort) = &fault.abort {
        findings.number(format!("{path}.abort.percent"), abort.percent, 1, 100);
        findings.routes(&format!("{path}.abort.routes"), &abort.routes);
    }
    if let Some(crash) = &fault.crash {
        findings.number(format!("{path}.crash.times"), crash.times, 1, 3);
    }
    if let Some(partition) = &fault.partition {
        let good = !partition.peer.is_empty() && partition.peer.len() <= 127;
        findings.require(
            good,
            format!("{path}.partition.peer"),
            format!("{:?}", partition.peer),
            "name the peer",
        );
    }
    if let Some(stress) = &fault.cpu_stress {
        findings.number(format!("{path}.cpuStress.loadPercent"), stress.load_percent, 1, 100);
        findings.number(format!("{path}.cpuStress.workers"), stress.workers, 1, 64);
    }
    if let Some(stress) = &fault.memory_stress {
        let good = stress.bytes().is_some_and(|bytes| bytes > 0 && bytes <= 64 << 30);
        findings.require(
            good,
            format!("{path}.memoryStress.size"),
            format!("{:?}", stress.size),
            "use a quantity up to 64Gi such as 256Mi",
        );
    }
}
