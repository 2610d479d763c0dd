//! Which archives stay.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which archives stay; the rest is removed after a run that has stored one, and their Backups with them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupRetention {
    /// The newest archives. Unit: archives. Default: 14.
    #[serde(default = "daily")]
    #[schemars(range(min = 1, max = 400))]
    pub daily: u32,
    /// The newest archive of each of so many weeks that have one. Unit: archives. Default: 8.
    #[serde(default = "weekly")]
    #[schemars(range(min = 0, max = 520))]
    pub weekly: u32,
    /// The newest archive of each of so many months that have one. Unit: archives. Default: 12.
    #[serde(default = "monthly")]
    #[schemars(range(min = 0, max = 240))]
    pub monthly: u32,
    /// The newest archives that were restored on trial; while there are fewer, nothing is removed. With verification.restore Off any archive counts. Unit: archives. Default: 3.
    #[serde(default = "min_verified")]
    #[schemars(range(min = 1, max = 100))]
    pub min_verified: u32,
}

impl Default for BackupRetention {
    fn default() -> Self {
        Self {
            daily: daily(),
            weekly: weekly(),
            monthly: monthly(),
            min_verified: min_verified(),
        }
    }
}

fn daily() -> u32 {
    14
}

fn weekly() -> u32 {
    8
}

fn monthly() -> u32 {
    12
}

fn min_verified() -> u32 {
    3
}
