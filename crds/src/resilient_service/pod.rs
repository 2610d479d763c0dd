//! What the user writes about the pod around the container: as whom it runs, where, and what it mounts.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the container sees a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMount {
    /// Name of the volume in `volumes`. Required.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Absolute path in the container. Required.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[^:\p{Cc}]*$"))]
    pub mount_path: String,
    /// Path inside the volume that is mounted instead of its root. Default: the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[^/]"))]
    pub sub_path: Option<String>,
    /// Whether the container may only read it. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
}

/// As whom the pod runs and what it may do. Absent fields have the value that the restricted Pod Security profile asks for.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.runAsUser) && self.runAsUser == 0) || (has(self.runAsNonRoot) && !self.runAsNonRoot)")
        .message("runAsUser 0 is root: set runAsNonRoot to false as well, or choose another user"),
    validation = Rule::new("!(has(self.capabilities) && has(self.capabilities.add) && ('SYS_ADMIN' in self.capabilities.add || 'CAP_SYS_ADMIN' in self.capabilities.add)) || (has(self.allowPrivilegeEscalation) && self.allowPrivilegeEscalation)")
        .message("capabilities.add holds SYS_ADMIN, which Kubernetes refuses without allowPrivilegeEscalation: set it to true, or add less")
)]
pub struct SecurityContext {
    /// User of every container. Unit: user id. Default: 65532.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub run_as_user: Option<i64>,
    /// Group of every container. Unit: group id. Default: 65532.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub run_as_group: Option<i64>,
    /// Group that owns the volumes. Unit: group id. Default: 65532.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub fs_group: Option<i64>,
    /// Groups beside the first. Unit: group ids. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(range(min = 0, max = 2147483647)))]
    pub supplemental_groups: Vec<i64>,
    /// Whether a container that would run as root is refused. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_non_root: Option<bool>,
    /// Whether the image's own files may only be read. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only_root_filesystem: Option<bool>,
    /// Whether a process may get more rights than its parent. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_privilege_escalation: Option<bool>,
    /// Linux capabilities. Default: all are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Filter of system calls. Default: type RuntimeDefault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<SeccompProfile>,
}

/// Linux capabilities by name, without `CAP_`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Capabilities {
    /// Those that are added, for example NET_BIND_SERVICE. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64), regex(pattern = r"^[A-Z_]+$")))]
    pub add: Vec<String>,
    /// Those that are taken away; an empty list takes none. Default: `ALL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 64), regex(pattern = r"^[A-Z_]+$")))]
    pub drop: Option<Vec<String>>,
}

/// A filter of system calls.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.type == 'Localhost') == has(self.localhostProfile)")
    .message("localhostProfile belongs to type Localhost, which needs it"))]
pub struct SeccompProfile {
    /// RuntimeDefault, Localhost or Unconfined. Required.
    #[serde(rename = "type")]
    pub kind: SeccompProfileType,
    /// Path of a profile below the kubelet's folder of them. Default: none, required for Localhost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub localhost_profile: Option<String>,
}

/// The kinds of filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SeccompProfileType {
    /// That of the container runtime.
    RuntimeDefault,
    /// A file on the node.
    Localhost,
    /// None.
    Unconfined,
    /// A value of a newer version; treated as RuntimeDefault.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A taint of a node that the pods put up with.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.operator) || self.operator != 'Exists' || !has(self.value)")
        .message("value belongs to operator Equal; Exists looks at the key alone"),
    validation = Rule::new("has(self.key) || (has(self.operator) && self.operator == 'Exists')")
        .message("key is missing: name the taint, or set operator to Exists for every taint"),
    validation = Rule::new("!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')")
        .message("tolerationSeconds belongs to effect NoExecute")
)]
pub struct Toleration {
    /// Key of the taint. Default: every key, with operator Exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 317),
        regex(
            pattern = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
        )
    )]
    pub key: Option<String>,
    /// Equal compares the value, Exists takes any. Default: Equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// Value of the taint. Default: empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"))]
    pub value: Option<String>,
    /// Effect of the taint. Default: every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// How long a pod stays on a node that gets the taint. Unit: seconds. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31536000))]
    pub toleration_seconds: Option<i64>,
}

/// How a taint is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum TolerationOperator {
    /// By key and value.
    Equal,
    /// By key.
    Exists,
    /// A value of a newer version; treated as Equal.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What a taint does to pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum TaintEffect {
    /// None is scheduled there.
    NoSchedule,
    /// None is scheduled there if another node will do.
    PreferNoSchedule,
    /// None stays there.
    NoExecute,
    /// A value of a newer version; treated as every effect.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}
