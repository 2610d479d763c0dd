//! The reasons of a ResilientService's conditions. Those of pods that do not start are `HindranceReason`'s.

use crate::runtime::reason::reasons;

reasons! {
    /// One word for why a condition of a ResilientService is as it is.
    pub enum Reason {
        /// ResourcesReady, Stalled: the specification contradicts itself; the message names field and remedy.
        InvalidSpec,
        /// ResourcesReady, Warning: spec.paused is true, so nothing is created, changed or put back.
        Paused,
        /// ResourcesReady, Stalled: an object of a child's name belongs to somebody else and is left alone.
        NotOwned,
        /// ResourcesReady: a child could not be written; Stalled when the API server refuses it for what it says.
        ApplyFailed,
        /// ResourcesReady: a child is being deleted and is made again when it is gone.
        Terminating,
        /// ResourcesReady: a Service that was handed over leads to the pods of before until those of this service are ready.
        TakingOver,
        /// ResourcesReady: every owned object stands as desired.
        AllApplied,
        /// Available, ConfigApplied, Ready: spec.replicas is 0, and no pod is expected.
        ScaledToZero,
        /// Available, Ready, Stalled: somebody scaled the Deployment to 0, which turns the autoscaler of spec.autoscaling off.
        AutoscalingOff,
        /// Available: as many pods are ready as were asked for.
        MinimumReplicasAvailable,
        /// Available, ConfigApplied: pods are not ready yet, or have not reported the configuration yet.
        WaitingForPods,
        /// Progressing, Available, Ready: pods of an earlier template are still there, or those of the current one are too few.
        RollingOut,
        /// Progressing, Reconciling: after an upgrade of the operator five services roll at a time; this one waits, and its pods serve.
        WaitingForTurn,
        /// Progressing: every pod is of the current template.
        RolloutComplete,
        /// Progressing: there is no Deployment yet.
        NotStarted,
        /// Progressing, Ready, Stalled: the rollout did not get on for spec.progressDeadlineSeconds (five minutes unless set).
        ProgressDeadlineExceeded,
        /// ConfigApplied: there is no configuration yet.
        NotBuilt,
        /// ConfigApplied, Ready: every ready pod runs the current configuration.
        AllPodsCurrent,
        /// ConfigApplied, Stalled: a pod refuses the configuration and keeps the last good one.
        RejectedByPods,
        /// ConfigApplied, CircuitsClosed: a pod has not answered for four minutes, so nothing is known of it.
        PodUnreachable,
        /// ConfigApplied, Stalled: a ready pod has not taken the configuration over within spec.configReload.deadline (a minute unless set).
        DeadlineExceeded,
        /// CircuitsClosed: the image does not report its circuits.
        NotReported,
        /// CircuitsClosed: the specification names no targets.
        NoTargets,
        /// CircuitsClosed: no pod has reported yet, or a ready one has not.
        NoReports,
        /// CircuitsClosed: a pod's library is newer than the operator and reports a circuit in a state that is not known here.
        CircuitUnknown,
        /// CircuitsClosed: no pod reports an open or half-open circuit.
        AllClosed,
        /// CircuitsClosed: a pod reports an open circuit.
        CircuitOpen,
        /// CircuitsClosed: a pod reports a half-open circuit, and none an open one.
        CircuitHalfOpen,
        /// Warning, Available: something else keeps setting the Deployment's replicas, so they are left to it.
        ReplicasContested,
        /// Warning: spec.replicas says nothing while spec.autoscaling decides.
        ReplicasIgnored,
        /// Warning: spec.disruption bounds nothing while there are fewer than two pods, so no PodDisruptionBudget is made.
        DisruptionUnbounded,
        /// Warning: spec.disruption lets no pod be evicted even while all are ready, so a drain of their nodes does not end.
        EvictionForbidden,
        /// Warning: a target's url names a Service in the cluster that does not exist.
        TargetUnresolved,
        /// Warning: an override of a target's circuit is over and has no effect.
        OverrideEnded,
        /// Warning: a Prometheus chose the ServiceMonitor and cannot use it.
        MonitorRejected,
        /// Warning: the library in the pods is older than a field of the configuration.
        FieldsIgnoredByPods,
        /// Warning: a limit of scope Service is so small that the pods' shares are not fair.
        SmallShares,
    }
}
