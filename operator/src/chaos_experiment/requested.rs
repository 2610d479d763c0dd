//! The run that a value of the annotation asks for. Pure.

use sha2::{Digest, Sha256};
use valerix_crds::ChaosExperimentStatus;

/// The longest identity that is kept as the user wrote it.
const RUN_LIMIT: usize = 128;
/// The longest value of the annotation that status holds, in characters.
const REQUEST_LIMIT: usize = 256;

/// Whether the run that this value of the annotation asks for has begun or was refused.
pub fn is_handled(value: &str, status: &ChaosExperimentStatus) -> bool {
    let last = status.last_requested_run.as_deref();
    // Earlier versions kept the beginning of a long value: whether it was this one, the runs tell.
    let ran = || {
        let own = identity(value);
        status.run.as_ref() == Some(&own) || status.history.iter().any(|past| past.run == own)
    };
    last == Some(kept(value).as_str()) || (last == Some(beginning(value).as_str()) && ran())
}

/// What status keeps of the annotation's value: all of it, or what tells it from every other.
pub fn kept(value: &str) -> String {
    let beginning = beginning(value);
    if beginning.len() == value.len() {
        beginning
    } else {
        identity(value)
    }
}

fn beginning(value: &str) -> String {
    value.chars().take(REQUEST_LIMIT).collect()
}

/// The run's identity from what the user wrote: as written if a document can hold it, else its hash.
pub fn identity(requested: &str) -> String {
    if requested.len() <= RUN_LIMIT && requested.bytes().all(|byte| byte.is_ascii_graphic()) {
        return requested.to_owned();
    }
    format!("sha256-{}", &hex::encode(Sha256::digest(requested))[..32])
}
