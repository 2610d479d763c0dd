//! One word on how a run ended: one table, row by row, from which the documentation is made too.
//!
//! Pure.

use valerix_crds::{ChaosPhase, Verdict};

/// One word on why a run ended as it did, or does not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The steady state held during the fault and after it.
    SteadyStateHeld,
    /// There was no probe to judge by; add spec.steadyState.probes.
    NoProbes,
    /// Some of the chosen pods could not be hurt, so the fault was weaker than asked for.
    PartlyInjected,
    /// No request met the fault: its routes match none, or nobody asked while it was on.
    NoRequestAffected,
    /// A probe failed as often in a row as its failureThreshold says while the fault was on.
    SteadyStateDeviated,
    /// The steady state did not come back within spec.steadyState.recoveryTimeout after the fault.
    DidNotRecover,
    /// Nobody watched for longer than failureThreshold x interval, for example because the operator was away.
    ObservationGap,
    /// A probe could not be asked; status.probes says why.
    ProbeError,
    /// spec.desired was set to Stop, or the experiment was deleted.
    AbortedByUser,
    /// ConfigMap valerix-safety in the operator's namespace stops every experiment.
    SafetyLever,
    /// spec.count selects none of the ready pods.
    NoTargets,
    /// Not every target was hurt within 45 seconds; everything was undone.
    NotDelivered,
    /// A pod or the API server refused the fault.
    InjectionFailed,
    /// A target was removed, restarted or left the fault before its end.
    TargetsLost,
    /// Somebody removed the fault from the target's ConfigMap before its end.
    FaultRemoved,
    /// A field of the spec cannot be acted on; the message names it and what to write instead.
    InvalidSpec,
    /// The steady state did not hold before the fault, so nothing was done.
    SteadyStateNotMet,
    /// The ResilientService or its ConfigMap does not exist.
    TargetNotFound,
    /// The ResilientService does not consent, or withdrew its consent: spec.chaos.admission is not Allowed.
    NotAdmitted,
    /// The ResilientService is paused.
    ServicePaused,
    /// The fault needs pods that report, and those of the target do not.
    ReportMissing,
    /// No experiment may run in this namespace.
    NamespaceDenied,
    /// The operator may not evict pods in this namespace; see the chart's value chaos.namespaces.
    EvictionNotAllowed,
    /// spec.count asks for more pods than are ready, or fewer than spec.safety.minAvailable would be left.
    NotEnoughPods,
    /// The target's Deployment is being rolled out.
    RolloutInProgress,
    /// The last fault on the same target ended less than spec.safety.cooldown ago.
    Cooldown,
    /// Clocks of pods differ from the operator's, so a fault could not end on time.
    ClockSkew,
    /// Another experiment has the target.
    TargetBusy,
    /// A PodDisruptionBudget refused every eviction for now.
    DisruptionBudget,
    /// The scheduled time was missed by more than spec.startingDeadlineSeconds.
    MissedSchedule,
    /// The scheduled time, or the time at which its run could have begun, lies in one of spec.excludedWindows.
    ExcludedWindow,
    /// The scheduled time came while another run of the experiment was under way; in status.history only.
    RunUnderWay,
    /// The run was stopped for the next scheduled one, as spec.concurrencyPolicy is Replace.
    Replaced,
    /// The experiment that spec.after names ended with another verdict.
    PrecedingVerdict,
    /// spec.dryRun is true: status says who would be hurt, and nothing was done.
    DryRun,
}

impl Reason {
    /// Every word, in the order of the documentation.
    pub const ALL: [Self; 35] = [
        Self::SteadyStateHeld,
        Self::NoProbes,
        Self::PartlyInjected,
        Self::NoRequestAffected,
        Self::SteadyStateDeviated,
        Self::DidNotRecover,
        Self::ObservationGap,
        Self::ProbeError,
        Self::AbortedByUser,
        Self::SafetyLever,
        Self::NoTargets,
        Self::NotDelivered,
        Self::InjectionFailed,
        Self::TargetsLost,
        Self::FaultRemoved,
        Self::InvalidSpec,
        Self::SteadyStateNotMet,
        Self::TargetNotFound,
        Self::NotAdmitted,
        Self::ServicePaused,
        Self::ReportMissing,
        Self::NamespaceDenied,
        Self::EvictionNotAllowed,
        Self::NotEnoughPods,
        Self::RolloutInProgress,
        Self::Cooldown,
        Self::ClockSkew,
        Self::TargetBusy,
        Self::DisruptionBudget,
        Self::MissedSchedule,
        Self::ExcludedWindow,
        Self::RunUnderWay,
        Self::Replaced,
        Self::PrecedingVerdict,
        Self::DryRun,
    ];

    /// The word as it stands in status.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The verdict that goes with the word.
    pub fn verdict(self) -> Verdict {
        self.row().1
    }

    /// The phase in which such a run ends.
    pub fn phase(self) -> ChaosPhase {
        self.row().2
    }

    /// What it means, in a sentence for the documentation.
    pub fn sentence(self) -> &'static str {
        self.row().3
    }

    /// Whether a run with this verdict still waits for the steady state, to measure how long that takes.
    pub fn awaits_the_steady_state(self) -> bool {
        matches!(
            self,
            Self::SteadyStateDeviated | Self::ObservationGap | Self::ProbeError | Self::PartlyInjected
        )
    }

    /// Reads the word back from a status.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }

    fn row(self) -> (&'static str, Verdict, ChaosPhase, &'static str) {
        use ChaosPhase::{Completed, Failed, Skipped, Stopped};
        match self {
            // The run ended by itself and was judged, or was not to be judged.
            Self::SteadyStateHeld => (
                "SteadyStateHeld",
                Verdict::Pass,
                Completed,
                "The steady state held during the fault and after it.",
            ),
            Self::NoProbes => (
                "NoProbes",
                Verdict::NotEvaluated,
                Completed,
                "There was no probe to judge by; add spec.steadyState.probes.",
            ),
            Self::PartlyInjected => (
                "PartlyInjected",
                Verdict::NotEvaluated,
                Completed,
                "Some of the chosen pods could not be hurt, so the fault was weaker than asked for.",
            ),
            Self::NoRequestAffected => (
                "NoRequestAffected",
                Verdict::NotEvaluated,
                Completed,
                "No request met the fault: its routes match none, or nobody asked while it was on.",
            ),
            Self::SteadyStateDeviated => (
                "SteadyStateDeviated",
                Verdict::Fail,
                Completed,
                "A probe failed as often in a row as its failureThreshold says while the fault was on.",
            ),
            Self::DidNotRecover => (
                "DidNotRecover",
                Verdict::Fail,
                Completed,
                "The steady state did not come back within spec.steadyState.recoveryTimeout after the fault.",
            ),
            // The run ended by itself, but cannot be judged: nobody watched.
            Self::ObservationGap => (
                "ObservationGap",
                Verdict::Error,
                Completed,
                "Nobody watched for longer than failureThreshold x interval, for example because the operator was away.",
            ),
            Self::ProbeError => (
                "ProbeError",
                Verdict::Error,
                Completed,
                "A probe could not be asked; status.probes says why.",
            ),
            // Somebody ended it.
            Self::AbortedByUser => (
                "AbortedByUser",
                Verdict::Stopped,
                Stopped,
                "spec.desired was set to Stop, or the experiment was deleted.",
            ),
            Self::SafetyLever => (
                "SafetyLever",
                Verdict::Stopped,
                Stopped,
                "ConfigMap valerix-safety in the operator's namespace stops every experiment.",
            ),
            // Something could not be done.
            Self::NoTargets => (
                "NoTargets",
                Verdict::Error,
                Failed,
                "spec.count selects none of the ready pods.",
            ),
            Self::NotDelivered => (
                "NotDelivered",
                Verdict::Error,
                Failed,
                "Not every target was hurt within 45 seconds; everything was undone.",
            ),
            Self::InjectionFailed => (
                "InjectionFailed",
                Verdict::Error,
                Failed,
                "A pod or the API server refused the fault.",
            ),
            Self::TargetsLost => (
                "TargetsLost",
                Verdict::Error,
                Failed,
                "A target was removed, restarted or left the fault before its end.",
            ),
            Self::FaultRemoved => (
                "FaultRemoved",
                Verdict::Error,
                Failed,
                "Somebody removed the fault from the target's ConfigMap before its end.",
            ),
            Self::InvalidSpec => (
                "InvalidSpec",
                Verdict::Error,
                Failed,
                "A field of the spec cannot be acted on; the message names it and what to write instead.",
            ),
            // It did not begin.
            Self::SteadyStateNotMet => (
                "SteadyStateNotMet",
                Verdict::Skipped,
                Skipped,
                "The steady state did not hold before the fault, so nothing was done.",
            ),
            Self::TargetNotFound => (
                "TargetNotFound",
                Verdict::Skipped,
                Skipped,
                "The ResilientService or its ConfigMap does not exist.",
            ),
            Self::NotAdmitted => (
                "NotAdmitted",
                Verdict::Skipped,
                Skipped,
                "The ResilientService does not consent, or withdrew its consent: spec.chaos.admission is not Allowed.",
            ),
            Self::ServicePaused => (
                "ServicePaused",
                Verdict::Skipped,
                Skipped,
                "The ResilientService is paused.",
            ),
            Self::ReportMissing => (
                "ReportMissing",
                Verdict::Skipped,
                Skipped,
                "The fault needs pods that report, and those of the target do not.",
            ),
            Self::NamespaceDenied => (
                "NamespaceDenied",
                Verdict::Skipped,
                Skipped,
                "No experiment may run in this namespace.",
            ),
            Self::EvictionNotAllowed => (
                "EvictionNotAllowed",
                Verdict::Skipped,
                Skipped,
                "The operator may not evict pods in this namespace; see the chart's value chaos.namespaces.",
            ),
            Self::NotEnoughPods => (
                "NotEnoughPods",
                Verdict::Skipped,
                Skipped,
                "spec.count asks for more pods than are ready, or fewer than spec.safety.minAvailable would be left.",
            ),
            Self::RolloutInProgress => (
                "RolloutInProgress",
                Verdict::Skipped,
                Skipped,
                "The target's Deployment is being rolled out.",
            ),
            Self::Cooldown => (
                "Cooldown",
                Verdict::Skipped,
                Skipped,
                "The last fault on the same target ended less than spec.safety.cooldown ago.",
            ),
            Self::ClockSkew => (
                "ClockSkew",
                Verdict::Skipped,
                Skipped,
                "Clocks of pods differ from the operator's, so a fault could not end on time.",
            ),
            Self::TargetBusy => (
                "TargetBusy",
                Verdict::Skipped,
                Skipped,
                "Another experiment has the target.",
            ),
            Self::DisruptionBudget => (
                "DisruptionBudget",
                Verdict::Skipped,
                Skipped,
                "A PodDisruptionBudget refused every eviction for now.",
            ),
            Self::MissedSchedule => (
                "MissedSchedule",
                Verdict::Skipped,
                Skipped,
                "The scheduled time was missed by more than spec.startingDeadlineSeconds.",
            ),
            Self::ExcludedWindow => (
                "ExcludedWindow",
                Verdict::Skipped,
                Skipped,
                "The scheduled time, or the time at which its run could have begun, lies in one of spec.excludedWindows.",
            ),
            Self::RunUnderWay => (
                "RunUnderWay",
                Verdict::Skipped,
                Skipped,
                "The scheduled time came while another run of the experiment was under way; in status.history only.",
            ),
            Self::Replaced => (
                "Replaced",
                Verdict::Stopped,
                Stopped,
                "The run was stopped for the next scheduled one, as spec.concurrencyPolicy is Replace.",
            ),
            Self::PrecedingVerdict => (
                "PrecedingVerdict",
                Verdict::Skipped,
                Skipped,
                "The experiment that spec.after names ended with another verdict.",
            ),
            Self::DryRun => (
                "DryRun",
                Verdict::NotEvaluated,
                Completed,
                "spec.dryRun is true: status says who would be hurt, and nothing was done.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_can_be_read_back_and_only_one_passes() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
            assert!(reason.sentence().ends_with('.'), "{reason:?}");
        }
        let passing: Vec<_> = Reason::ALL
            .into_iter()
            .filter(|reason| reason.verdict() == Verdict::Pass)
            .collect();
        assert_eq!(passing, [Reason::SteadyStateHeld]);
    }
}
