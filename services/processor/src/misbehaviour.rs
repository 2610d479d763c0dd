//! Which request goes wrong how. Pure: the dice are an argument.

use sha2::{Digest, Sha256};

use crate::config::MisbehaviourArgs;

/// What is done to one request that changes the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Done and answered.
    Normal,
    /// Answered 500, not done.
    FailBefore,
    /// Done, answered 500.
    FailAfter,
    /// Done, answered late.
    Late,
}

/// The fate of a request that rolled `dice` (0 to 99): the shares lie side by side, and what exceeds 100 is lost.
pub fn fate(args: &MisbehaviourArgs, dice: u8) -> Fate {
    let mut bound = 0_u16;
    for (percent, fate) in [
        (args.fail_percent, Fate::FailBefore),
        (args.fail_after_percent, Fate::FailAfter),
        (args.late_percent, Fate::Late),
    ] {
        bound += u16::from(percent);
        if u16::from(dice) < bound {
            return fate;
        }
    }
    Fate::Normal
}

/// Whether the charge of this key is declined: the same for every attempt.
pub fn declined(args: &MisbehaviourArgs, key: &str) -> bool {
    let hash = Sha256::digest(key.as_bytes());
    let number = hash
        .iter()
        .take(4)
        .fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
    number % 100 < u32::from(args.decline_percent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn args(decline: u8, fail: u8, fail_after: u8, late: u8) -> MisbehaviourArgs {
        MisbehaviourArgs {
            decline_percent: decline,
            refund_decline_percent: 0,
            delay: Duration::ZERO,
            fail_percent: fail,
            fail_after_percent: fail_after,
            late_percent: late,
            late_by: Duration::from_secs(5),
        }
    }

    #[test]
    fn shares_lie_side_by_side() {
        let args = args(0, 10, 20, 30);
        let count = |fate_wanted| (0..100).filter(|dice| fate(&args, *dice) == fate_wanted).count();
        assert_eq!(
            [Fate::FailBefore, Fate::FailAfter, Fate::Late, Fate::Normal].map(count),
            [10, 20, 30, 40]
        );
    }

    #[test]
    fn a_key_is_declined_always_or_never_and_about_as_often_as_asked() {
        let share = |percent| {
            let args = args(percent, 0, 0, 0);
            (0..2000)
                .filter(|number| declined(&args, &format!("key-{number}")))
                .count()
        };
        assert_eq!((share(0), share(100)), (0, 2000));
        assert!((500..700).contains(&share(30)), "{}", share(30));
    }
}
