//! The mask beside the machine: the policy's mode and a timed override, in one word that is zero when neither is set.

use valerix_policy::{Mode, OverrideState};

use crate::sync::{AtomicU64, Ordering};

const SHADOW: u64 = 1;
const DISABLED: u64 = 2;
const FORCED_OPEN: u64 = 4;
const FORCED_CLOSED: u64 = 8;
const UNTIL_SHIFT: u32 = 4;

/// What the mask makes of a request for a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mask {
    None,
    ForcedOpen {
        /// Milliseconds until it ends.
        left: u64,
    },
    PassAll,
    Off,
}

#[derive(Debug)]
pub(crate) struct Gate(AtomicU64);

impl Default for Gate {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Gate {
    /// Whether there is anything to decode.
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn mask(&self, now: u64) -> Mask {
        let word = self.0.load(Ordering::Relaxed);
        let until = word >> UNTIL_SHIFT;
        let in_force = now < until;
        if word & DISABLED != 0 {
            Mask::Off
        } else if in_force && word & FORCED_OPEN != 0 && word & SHADOW == 0 {
            Mask::ForcedOpen { left: until - now }
        } else if (in_force && word & FORCED_CLOSED != 0) || word & SHADOW != 0 {
            Mask::PassAll
        } else {
            Mask::None
        }
    }

    pub(crate) fn override_state(&self, now: u64) -> Option<OverrideState> {
        let word = self.0.load(Ordering::Relaxed);
        if now >= word >> UNTIL_SHIFT {
            None
        } else if word & FORCED_OPEN != 0 {
            Some(OverrideState::ForcedOpen)
        } else {
            (word & FORCED_CLOSED != 0).then_some(OverrideState::ForcedClosed)
        }
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        let bits = match mode {
            Mode::Enforce => 0,
            Mode::Shadow => SHADOW,
            Mode::Disabled => DISABLED,
        };
        self.update(SHADOW | DISABLED, bits);
    }

    pub(crate) fn set_override(&self, state: Option<(OverrideState, u64)>) {
        let bits = state.map_or(0, |(state, until)| {
            let flag = match state {
                OverrideState::ForcedOpen => FORCED_OPEN,
                OverrideState::ForcedClosed => FORCED_CLOSED,
            };
            until.min(u64::MAX >> UNTIL_SHIFT) << UNTIL_SHIFT | flag
        });
        self.update(!(SHADOW | DISABLED), bits);
    }

    fn update(&self, clear: u64, set: u64) {
        let mut word = self.0.load(Ordering::Relaxed);
        while let Err(found) =
            self.0
                .compare_exchange_weak(word, word & !clear | set, Ordering::Relaxed, Ordering::Relaxed)
        {
            word = found;
        }
    }
}
