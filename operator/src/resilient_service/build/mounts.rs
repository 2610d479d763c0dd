//! Where containers see volumes. Pure.

use super::super::validate::{POLICY_DIRECTORY, Plan, STATE_DIRECTORY};
use k8s_openapi::api::core::v1::VolumeMount;
use valerix_crds::ResilientServiceSpec;

/// Name of the volume at [`SCRATCH_DIRECTORY`], which a user's volume of that name replaces.
pub const SCRATCH_VOLUME: &str = "tmp";
/// What may be written although the root file system may not.
const SCRATCH_DIRECTORY: &str = "/tmp";

/// Where whoever obeys the policy sees it.
pub fn build_policy_mounts() -> Vec<VolumeMount> {
    vec![
        VolumeMount {
            read_only: Some(true),
            ..mount("policy", POLICY_DIRECTORY)
        },
        mount("state", STATE_DIRECTORY),
    ]
}

/// Where the service's container sees volumes. The policy is not among them where a guard obeys it.
pub fn build_mounts(plan: &Plan) -> Vec<VolumeMount> {
    let spec = &plan.service.spec;
    let mut mounts = match plan.guard {
        Some(_) => Vec::new(),
        None => build_policy_mounts(),
    };
    if !mounts_scratch(spec) {
        mounts.push(mount(SCRATCH_VOLUME, SCRATCH_DIRECTORY));
    }
    mounts.extend(spec.volume_mounts.iter().map(|wanted| VolumeMount {
        sub_path: wanted.sub_path.clone(),
        // The API server leaves a false one out.
        read_only: wanted.read_only.filter(|read_only| *read_only),
        ..mount(&wanted.name, &wanted.mount_path)
    }));
    mounts
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

/// Whether the user mounts something of their own at `/tmp`.
pub fn mounts_scratch(spec: &ResilientServiceSpec) -> bool {
    spec.volume_mounts
        .iter()
        .any(|mount| mount.mount_path.trim_end_matches('/') == SCRATCH_DIRECTORY)
}
