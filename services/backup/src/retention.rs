//! Which archives stay and which go. Pure.
//!
//! In: what is stored, the policy's rules, the slot that was just stored. Out: what goes, and of the rest why it stays; or
//! why nothing may go. The age of an archive is its slot's, never that of a file.

use chrono::{Datelike, NaiveDate};
use std::collections::{BTreeMap, BTreeSet};
use valerix_crds::BackupRetention;

/// One stored archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its slot.
    pub slot: NaiveDate,
    /// Whether it counts for `minVerified`.
    pub verified: bool,
}

/// Why an archive stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is one of the newest.
    Daily,
    /// It is the newest of its week.
    Weekly,
    /// It is the newest of its month.
    Monthly,
    /// It is one of the newest that were restored on trial.
    Verified,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What stays, and why.
    pub kept: BTreeMap<NaiveDate, BTreeSet<Reason>>,
    /// What goes, oldest first.
    pub removed: Vec<NaiveDate>,
}

/// Why nothing may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The newest archive is not the one of this run.
    #[error("nothing is removed: the newest archive is not that of {today}")]
    Stale {
        /// The slot of this run.
        today: NaiveDate,
    },
    /// Too few archives are known to be good.
    #[error("nothing is removed: {found} archives were restored on trial, retention.minVerified is {needed}")]
    TooFewVerified {
        /// How many there are.
        found: usize,
        /// How many there must be.
        needed: usize,
    },
}

/// Decides.
///
/// # Errors
/// Why nothing may go.
pub fn plan(stored: &[Stored], rules: &BackupRetention, today: NaiveDate) -> Result<Plan, Refusal> {
    let mut newest_first: Vec<Stored> = stored.to_vec();
    newest_first.sort_by_key(|archive| std::cmp::Reverse(archive.slot));
    newest_first.dedup_by_key(|archive| archive.slot);
    if newest_first.first().is_none_or(|newest| newest.slot != today) {
        return Err(Refusal::Stale { today });
    }
    let slots = || newest_first.iter().map(|archive| archive.slot);
    let mut kept: BTreeMap<NaiveDate, BTreeSet<Reason>> = BTreeMap::new();
    let mut keep = |slot: NaiveDate, reason| {
        kept.entry(slot).or_default().insert(reason);
    };
    slots()
        .take(count(rules.daily))
        .for_each(|slot| keep(slot, Reason::Daily));
    let week = |slot: NaiveDate| (slot.iso_week().year(), slot.iso_week().week());
    let month = |slot: NaiveDate| (slot.year(), slot.month());
    newest_of_each(slots(), week, rules.weekly).for_each(|slot| keep(slot, Reason::Weekly));
    newest_of_each(slots(), month, rules.monthly).for_each(|slot| keep(slot, Reason::Monthly));
    let verified = || newest_first.iter().filter(|archive| archive.verified);
    verified()
        .take(count(rules.min_verified))
        .for_each(|archive| keep(archive.slot, Reason::Verified));
    let removed: Vec<NaiveDate> = slots().rev().filter(|slot| !kept.contains_key(slot)).collect();
    let (found, needed) = (verified().count(), count(rules.min_verified));
    if !removed.is_empty() && found < needed {
        return Err(Refusal::TooFewVerified { found, needed });
    }
    Ok(Plan { kept, removed })
}

/// The first slot, which is the newest, of each of so many weeks or months.
fn newest_of_each<Part: PartialEq + Copy>(
    slots: impl Iterator<Item = NaiveDate>,
    part: impl Fn(NaiveDate) -> Part,
    most: u32,
) -> impl Iterator<Item = NaiveDate> {
    let mut last = None;
    slots
        .filter(move |slot| last.replace(part(*slot)) != Some(part(*slot)))
        .take(count(most))
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Days;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn rules(daily: u32, weekly: u32, monthly: u32, min_verified: u32) -> BackupRetention {
        BackupRetention {
            daily,
            weekly,
            monthly,
            min_verified,
        }
    }

    /// An archive of each of so many days up to the 21st of August 2026, a Friday.
    fn daily(days: u64) -> Vec<Stored> {
        let newest = day("2026-08-21");
        let slots = (0..days).map(|back| newest - Days::new(back));
        slots.map(|slot| Stored { slot, verified: true }).collect()
    }

    #[test]
    fn the_table() {
        let names = |slots: &[NaiveDate]| slots.iter().map(ToString::to_string).collect::<Vec<_>>();
        let kept = |days, rules: &BackupRetention| {
            let plan = plan(&daily(days), rules, day("2026-08-21")).unwrap();
            names(&plan.kept.into_keys().collect::<Vec<_>>())
        };
        assert_eq!(kept(5, &rules(2, 0, 0, 1)), ["2026-08-20", "2026-08-21"]);
        // The newest of a week is its Sunday; of this week it is today's.
        assert_eq!(kept(30, &rules(1, 3, 0, 1)), ["2026-08-09", "2026-08-16", "2026-08-21"]);
        assert_eq!(kept(90, &rules(1, 0, 3, 1)), ["2026-06-30", "2026-07-31", "2026-08-21"]);
        assert_eq!(kept(30, &rules(1, 0, 0, 3)), ["2026-08-19", "2026-08-20", "2026-08-21"]);
        // A year turns within a week, and the week is one.
        let turn = [day("2026-12-31"), day("2027-01-01"), day("2027-01-02")];
        let stored = turn.map(|slot| Stored { slot, verified: true });
        let found = plan(&stored, &rules(1, 2, 0, 1), turn[2]).unwrap();
        assert_eq!(names(&found.removed), ["2026-12-31", "2027-01-01"]);
        let reasons: Vec<_> = found.kept[&turn[2]].iter().copied().collect();
        assert_eq!(reasons, [Reason::Daily, Reason::Weekly, Reason::Verified]);
    }

    #[test]
    fn nothing_goes_while_the_newest_is_stale_or_too_few_are_known_to_be_good() {
        let mut stored = daily(10);
        let today = day("2026-08-21");
        assert_eq!(
            plan(&stored[1..], &rules(1, 0, 0, 1), today),
            Err(Refusal::Stale { today })
        );
        stored[2..].iter_mut().for_each(|archive| archive.verified = false);
        let refused = plan(&stored, &rules(3, 0, 0, 3), today);
        assert_eq!(refused, Err(Refusal::TooFewVerified { found: 2, needed: 3 }));
        assert!(plan(&stored, &rules(10, 0, 0, 3), today).unwrap().removed.is_empty());
        // What was restored stays, however old it is.
        stored[9].verified = true;
        let found = plan(&stored, &rules(1, 0, 0, 3), today).unwrap();
        assert!(found.kept.contains_key(&stored[9].slot));
        assert_eq!((found.kept.len(), found.removed.len()), (3, 7));
    }

    /// Many stores and rules, drawn by a small generator of its own so that a failure is found again.
    #[test]
    fn what_was_restored_last_stays_whatever_is_stored_and_asked_for() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let today = day("2026-08-21");
        for round in 0..2000 {
            let mut stored = vec![Stored {
                slot: today,
                verified: draw(2) == 0,
            }];
            for back in 1..=draw(500) {
                if draw(3) > 0 {
                    stored.push(Stored {
                        slot: today - Days::new(back),
                        verified: draw(4) == 0,
                    });
                }
            }
            let number = |number: u64| u32::try_from(number).unwrap();
            let rules = rules(
                1 + number(draw(20)),
                number(draw(12)),
                number(draw(14)),
                1 + number(draw(5)),
            );
            let Ok(found) = plan(&stored, &rules, today) else {
                continue;
            };
            let newest_verified: Vec<_> = stored
                .iter()
                .filter(|archive| archive.verified)
                .take(count(rules.min_verified))
                .map(|archive| archive.slot)
                .collect();
            assert!(found.kept.contains_key(&today), "round {round}");
            for slot in &newest_verified {
                assert!(!found.removed.contains(slot), "round {round}: {slot} of {rules:?}");
            }
            assert!(
                found.removed.is_empty() || newest_verified.len() == count(rules.min_verified),
                "round {round}"
            );
            assert_eq!(found.kept.len() + found.removed.len(), stored.len(), "round {round}");
            let newest = stored.iter().take(count(rules.daily));
            assert!(
                newest.clone().all(|archive| found.kept.contains_key(&archive.slot)),
                "round {round}"
            );
            // Done again on what is left, nothing more goes.
            stored.retain(|archive| found.kept.contains_key(&archive.slot));
            assert_eq!(plan(&stored, &rules, today).unwrap().removed, [], "round {round}");
        }
    }
}
