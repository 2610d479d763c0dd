//! What a container may do. Pure.

use super::metadata::some;
use k8s_openapi::api::core::v1::{Capabilities, SeccompProfile, SecurityContext};

/// User and group of every container, whatever the image says: images made for root do not start otherwise.
pub const USER: i64 = 65532;

/// What one container may do: as little as the restricted profile asks for, unless the specification says otherwise.
pub fn build_container_security(wanted: &valerix_crds::SecurityContext) -> SecurityContext {
    let capabilities = wanted.capabilities.clone().unwrap_or_default();
    SecurityContext {
        allow_privilege_escalation: Some(wanted.allow_privilege_escalation.unwrap_or(false)),
        read_only_root_filesystem: Some(wanted.read_only_root_filesystem.unwrap_or(true)),
        capabilities: Some(Capabilities {
            add: some(capabilities.add),
            drop: some(capabilities.drop.unwrap_or_else(|| vec!["ALL".to_owned()])),
        }),
        ..SecurityContext::default()
    }
}

/// What the guard may do: as little as the restricted profile asks for, whatever the service's container needs.
pub fn least_privilege() -> SecurityContext {
    SecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..build_container_security(&valerix_crds::SecurityContext::default())
    }
}
