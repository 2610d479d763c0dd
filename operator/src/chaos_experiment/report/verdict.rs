//! The verdict: one table, row by row.
//!
//! Pure. In: what was seen before, during and after the fault, and whether it was injected. Out: the verdict, the word for
//! it and the phase that goes with it.

pub use super::reason::Reason;
use crate::chaos_experiment::probes::samples::{After, Before, During};
use valerix_crds::{ChaosPhase, Verdict};

/// How a run ends, or that it does not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// One word.
    pub reason: Reason,
    /// A sentence, with the remedy where there is one.
    pub message: String,
    /// The phase, where it is not the reason's own.
    pub phase: ChaosPhase,
    /// The verdict, where it is not the reason's own.
    pub verdict: Verdict,
}

impl Ending {
    /// An ending with the reason's own phase and verdict.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            phase: reason.phase(),
            verdict: reason.verdict(),
        }
    }

    /// The same word for a run that was under way: it was stopped, not skipped.
    #[must_use]
    pub fn stopped(mut self) -> Self {
        (self.phase, self.verdict) = (ChaosPhase::Stopped, Verdict::Stopped);
        self
    }

    /// The same word for a run that did not even begin: nothing was done, so nothing was stopped.
    #[must_use]
    pub fn not_begun(mut self) -> Self {
        if self.reason == Reason::SafetyLever {
            (self.phase, self.verdict) = (ChaosPhase::Skipped, Verdict::Skipped);
        }
        if self.reason == Reason::ProbeError {
            self.phase = ChaosPhase::Failed;
        }
        self
    }
}

/// What the steady state before the fault means, if it forbids to begin.
pub fn judge_before(before: &Before) -> Option<Ending> {
    match before {
        Before::Met | Before::Awaited => None,
        Before::NotMet(why) => Some(Ending::new(
            Reason::SteadyStateNotMet,
            format!("the steady state did not hold before the fault, so nothing was done; {why}"),
        )),
        Before::NotAsked(why) => Some(
            Ending::new(
                Reason::ProbeError,
                format!("nothing was done; {why}; correct the probe"),
            )
            .not_begun(),
        ),
    }
}

/// What the steady state during the fault means, if it decides the verdict.
pub fn judge_during(during: &During) -> Option<Ending> {
    match during {
        During::Within => None,
        During::Broken(why) => Some(Ending::new(
            Reason::SteadyStateDeviated,
            format!("the steady state broke while the fault was on; {why}"),
        )),
        During::NotAsked(why) => Some(Ending::new(Reason::ProbeError, why.clone())),
        During::Gap(why) => Some(Ending::new(
            Reason::ObservationGap,
            format!("the fault was not watched all the time, so there is no verdict; {why}"),
        )),
    }
}

/// The verdict of a run whose fault was injected and is gone. `decided` is what stood before: it wins.
pub fn judge(decided: Option<Ending>, has_probes: bool, after: &After, recovery_timeout: &str) -> Ending {
    if let Some(decided) = decided {
        return decided;
    }
    match after {
        After::NotYet {
            watched: false,
            message,
            ..
        } => Ending::new(
            Reason::ObservationGap,
            format!("the recovery was not watched all the time, so there is no verdict; {message}"),
        ),
        After::NotYet {
            not_asked: true,
            message,
            ..
        } => Ending::new(Reason::ProbeError, message.clone()),
        After::NotYet { message, .. } => Ending::new(
            Reason::DidNotRecover,
            format!("the steady state did not come back within {recovery_timeout} after the fault; {message}"),
        ),
        After::Met(_) if !has_probes => Ending::new(
            Reason::NoProbes,
            "there was no probe to judge by; add spec.steadyState.probes to get a verdict",
        ),
        After::Met(_) => Ending::new(
            Reason::SteadyStateHeld,
            "the steady state held during the fault and after it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos_experiment::testing::at;
    use rstest::rstest;

    const BROKEN: &str = "probe a: status 503";

    fn not_yet(not_asked: bool, watched: bool) -> After {
        After::NotYet {
            message: BROKEN.into(),
            not_asked,
            watched,
        }
    }

    /// The rows of the table, in its order; `None` in `before` means that nothing forbids to begin.
    #[rstest]
    #[case::not_met(Before::NotMet(BROKEN.into()), During::Within, After::Met(at(0)), true, Verdict::Skipped, "SteadyStateNotMet")]
    #[case::not_asked(Before::NotAsked(BROKEN.into()), During::Within, After::Met(at(0)), true, Verdict::Error, "ProbeError")]
    #[case::pass(
        Before::Met,
        During::Within,
        After::Met(at(0)),
        true,
        Verdict::Pass,
        "SteadyStateHeld"
    )]
    #[case::broken(Before::Met, During::Broken(BROKEN.into()), After::Met(at(0)), true, Verdict::Fail, "SteadyStateDeviated")]
    #[case::broken_and_never_back(Before::Met, During::Broken(BROKEN.into()), not_yet(false, true), true, Verdict::Fail, "SteadyStateDeviated")]
    #[case::never_back(
        Before::Met,
        During::Within,
        not_yet(false, true),
        true,
        Verdict::Fail,
        "DidNotRecover"
    )]
    #[case::probe_error_during(Before::Met, During::NotAsked(BROKEN.into()), After::Met(at(0)), true, Verdict::Error, "ProbeError")]
    #[case::probe_error_after(Before::Met, During::Within, not_yet(true, true), true, Verdict::Error, "ProbeError")]
    #[case::gap_during(Before::Met, During::Gap(BROKEN.into()), After::Met(at(0)), true, Verdict::Error, "ObservationGap")]
    #[case::gap_after(
        Before::Met,
        During::Within,
        not_yet(false, false),
        true,
        Verdict::Error,
        "ObservationGap"
    )]
    #[case::no_probes(
        Before::Met,
        During::Within,
        After::Met(at(0)),
        false,
        Verdict::NotEvaluated,
        "NoProbes"
    )]
    fn every_row_of_the_table(
        #[case] before: Before,
        #[case] during: During,
        #[case] after: After,
        #[case] has_probes: bool,
        #[case] verdict: Verdict,
        #[case] reason: &str,
    ) {
        let ending = judge_before(&before).unwrap_or_else(|| judge(judge_during(&during), has_probes, &after, "60s"));
        assert_eq!((ending.verdict, ending.reason.as_str()), (verdict, reason));
        assert!(ending.phase.is_terminal());
    }

    /// Injection and interruption decide whatever the probes say afterwards.
    #[rstest]
    #[case(Reason::NoTargets, Verdict::Error, ChaosPhase::Failed)]
    #[case(Reason::InjectionFailed, Verdict::Error, ChaosPhase::Failed)]
    #[case(Reason::NotDelivered, Verdict::Error, ChaosPhase::Failed)]
    #[case(Reason::TargetsLost, Verdict::Error, ChaosPhase::Failed)]
    #[case(Reason::AbortedByUser, Verdict::Stopped, ChaosPhase::Stopped)]
    #[case(Reason::SafetyLever, Verdict::Stopped, ChaosPhase::Stopped)]
    #[case(Reason::DisruptionBudget, Verdict::Skipped, ChaosPhase::Skipped)]
    fn what_was_decided_stands(#[case] reason: Reason, #[case] verdict: Verdict, #[case] phase: ChaosPhase) {
        for after in [After::Met(at(0)), not_yet(false, true), not_yet(true, false)] {
            let ending = judge(Some(Ending::new(reason, "")), true, &after, "60s");
            assert_eq!((ending.verdict, ending.phase), (verdict, phase));
        }
    }

    #[test]
    fn a_run_that_did_not_begin_was_not_stopped() {
        let ending = Ending::new(Reason::SafetyLever, "").not_begun();
        assert_eq!((ending.verdict, ending.phase), (Verdict::Skipped, ChaosPhase::Skipped));
    }
}
