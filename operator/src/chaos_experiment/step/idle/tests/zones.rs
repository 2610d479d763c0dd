//! Every time zone there is, round every change of its clock, through all of the decision whether a run begins.
//!
//! What the ticks are is said once more here, without the library that finds them: of a wildcard by reading the wall
//! clock at every minute, of a time of the day by the calendar, in which each day has one.

use super::*;
use crate::chaos_experiment::schedule::Schedule;
use crate::chaos_experiment::testing::{rounds, seed};
use chrono::{LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike};
use chrono_tz::{TZ_VARIANTS, Tz};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::collections::{BTreeMap, BTreeSet};

/// A change of the clock: when, and by how much.
type Change = (DateTime<Utc>, TimeDelta);

fn offset(zone: Tz, at: DateTime<Utc>) -> TimeDelta {
    TimeDelta::seconds(
        zone.offset_from_utc_datetime(&at.naive_utc())
            .fix()
            .local_minus_utc()
            .into(),
    )
}

/// The changes of a zone's clock in two years.
fn changes(zone: Tz) -> Vec<Change> {
    let first: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
    let days = (0..730).map(|day| first + TimeDelta::days(day));
    let mut found = Vec::new();
    for day in days {
        let (mut before, mut after) = (day, day + TimeDelta::days(1));
        let by = offset(zone, after) - offset(zone, before);
        if by.is_zero() {
            continue;
        }
        while after - before > TimeDelta::seconds(1) {
            let middle = before + TimeDelta::seconds((after - before).num_seconds() / 2);
            if offset(zone, middle) == offset(zone, before) {
                before = middle;
            } else {
                after = middle;
            }
        }
        found.push((after, by));
    }
    found
}

/// A zone for each way in which clocks change: the others have the same ticks under another name.
fn kinds_of_zones() -> BTreeMap<(i64, Vec<Change>), Tz> {
    let kind = |zone: &Tz| {
        let first = "2026-01-01T00:00:00Z".parse().unwrap();
        ((offset(*zone, first).num_seconds(), changes(*zone)), *zone)
    };
    TZ_VARIANTS.iter().map(kind).collect()
}

/// What began: the scheduled time, and when.
type Begun = (DateTime<Utc>, DateTime<Utc>);

/// Lives through the time as the controller does, waking up `late` after it asked to, and ends each run at once.
fn live(
    zone: Tz,
    text: &str,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    mut late: impl FnMut() -> TimeDelta,
) -> Vec<Begun> {
    let mut experiment = one(json!({"schedule": text, "timeZone": zone.name()}));
    let (mut now, mut begun) = (from, Vec::new());
    while now < to {
        let (_, until) = settle(&mut experiment, now);
        let status = experiment.status.as_ref().unwrap();
        let Some(until) = until else {
            begun.push((status.scheduled_at.unwrap(), now));
            assert_eq!(status.run, Some(run_id(status.scheduled_at.unwrap())));
            end(&mut experiment);
            continue;
        };
        assert!(until > now, "{text} in {zone}: it wakes up at {until}, and it is {now}");
        assert_eq!(status.next_run_at, Some(until), "{text} in {zone} at {now}");
        now = until + late();
    }
    begun
}

/// The minutes at which the wall clock shows a multiple of `minutes`.
fn multiples(zone: Tz, minutes: u32, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let all = (1..(to - from).num_minutes()).map(|minute| from + TimeDelta::minutes(minute));
    all.filter(|at| at.with_timezone(&zone).minute() % minutes == 0)
        .collect()
}

#[test]
fn every_zone_is_known_by_its_name() {
    for zone in TZ_VARIANTS {
        Schedule::parse("30 2 * * *", Some(zone.name())).unwrap_or_else(|error| panic!("{zone}: {error}"));
    }
}

#[test]
fn a_wildcard_runs_whenever_the_wall_clock_shows_it() {
    for ((_, changes), zone) in kinds_of_zones() {
        let round = changes
            .first()
            .map_or("2026-06-01T00:00:00Z".parse().unwrap(), |(at, _)| *at);
        for around in changes.iter().map(|(at, _)| *at).chain([round]).take(2) {
            let (from, to) = (around - TimeDelta::hours(2), around + TimeDelta::hours(3));
            let begun = live(zone, "*/15 * * * *", from, to, TimeDelta::zero);
            let ticks: Vec<_> = begun.iter().map(|(tick, _)| *tick).collect();
            assert_eq!(ticks, multiples(zone, 15, from, to), "{zone} round {around}");
        }
    }
}

/// When the wall clock shows this time: of two the first, and where it is left out the first moment after that.
fn shown(zone: Tz, wall: NaiveDateTime, at: DateTime<Utc>) -> DateTime<Utc> {
    match zone.from_local_datetime(&wall) {
        LocalResult::Single(shown) | LocalResult::Ambiguous(shown, _) => shown.with_timezone(&Utc),
        LocalResult::None => at,
    }
}

/// Also one that the clock leaves out or shows twice.
#[test]
fn a_time_of_the_day_runs_once_on_every_day() {
    for ((_, changes), zone) in kinds_of_zones() {
        for (at, by) in changes {
            let wall = (at - TimeDelta::seconds(1)).with_timezone(&zone).naive_local() + TimeDelta::seconds(1);
            // Within what is left out, or shown twice, and at its ends.
            for minutes in [0, by.num_minutes() / 2, by.num_minutes()] {
                let time = wall + TimeDelta::minutes(minutes);
                let text = format!("{} {} * * *", time.minute(), time.hour());
                let (from, to) = (at - TimeDelta::hours(60), at + TimeDelta::hours(60));
                let days = (-4..=4).map(|days| shown(zone, time + TimeDelta::days(days), at));
                let expected: Vec<_> = days.filter(|tick| *tick > from && *tick < to).collect();
                let begun = live(zone, &text, from, to, TimeDelta::zero);
                let ticks: Vec<_> = begun.into_iter().map(|(tick, _)| tick).collect();
                assert_eq!(ticks, expected, "{text} in {zone} round {at}");
            }
        }
    }
}

/// Whoever wakes up late, or was away for hours, runs the newest time if it is not too old, and none twice.
#[test]
fn who_was_away_runs_the_newest_time_and_none_twice() {
    let zones: Vec<_> = kinds_of_zones().into_iter().collect();
    for round in 0..rounds(60) {
        let mut random = StdRng::seed_from_u64(seed().wrapping_add(round));
        let ((_, changes), zone) = &zones[random.random_range(0..zones.len())];
        let any = "2026-06-01T00:00:00Z".parse().unwrap();
        let around = changes.get(random.random_range(0..4)).map_or(any, |(at, _)| *at);
        let (from, to) = (around - TimeDelta::hours(8), around + TimeDelta::hours(8));
        let late = || {
            if random.random_bool(0.3) {
                TimeDelta::seconds(random.random_range(0..3 * 3_600))
            } else {
                TimeDelta::seconds(random.random_range(0..20))
            }
        };
        let begun = live(*zone, "*/30 * * * *", from, to, late);
        let context = format!("seed {}, round {round}, {zone} round {around}: {begun:#?}", seed());
        let ticks = multiples(*zone, 30, from, to + TimeDelta::hours(3));
        let once: BTreeSet<_> = begun.iter().map(|(tick, _)| *tick).collect();
        assert_eq!(once.len(), begun.len(), "twice: {context}");
        assert!(begun.is_sorted(), "{context}");
        for (tick, at) in &begun {
            assert!(*at - *tick <= TimeDelta::minutes(5), "too late: {context}");
            let newest = ticks.iter().filter(|tick| *tick <= at).max();
            assert_eq!(newest, Some(tick), "not the newest: {context}");
        }
    }
}
