//! Days and moments of a daily schedule in a zone. Pure; the moment is an argument.
//!
//! A time that the zone skips or repeats on a day would be run never or twice on that day, and a time that the CronJob
//! controller passes over would not be run: both are refused a year and a month ahead, with a time that is not.

use crate::runtime::Violation;
use chrono::{DateTime, Days, LocalResult, NaiveDate, NaiveTime, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use std::{str::FromStr, time::Duration};
use valerix_crds::{BackupSchedule, backup_runner};

/// How far ahead a time is checked. Unit: days.
const CHECKED_DAYS: u64 = 400;
/// How late a missed run may still start when the policy does not say.
const DEFAULT_CATCH_UP_WINDOW: Duration = Duration::from_secs(6 * 60 * 60);
/// The shortest window that the CronJob controller can keep: it looks every ten seconds.
const SHORTEST_WINDOW: Duration = Duration::from_secs(60);
/// Steps in which a better time is looked for. Unit: minutes.
const SUGGESTION_STEP: i64 = 15;

/// A daily time in a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Time of day.
    pub time: NaiveTime,
    /// Zone.
    pub zone: Tz,
    /// How late a missed run may still start.
    pub window: Duration,
}

/// Why a time is not run exactly once on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Irregularity {
    Skipped,
    Repeated,
    PassedOver,
}

/// One day's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The civil date.
    pub day: NaiveDate,
    /// When it is due.
    pub at: DateTime<Utc>,
}

impl Schedule {
    /// Reads and checks the schedule for the 400 days from `now`.
    ///
    /// # Errors
    /// Which field is wrong, and what to write instead.
    pub fn new(schedule: &BackupSchedule, now: DateTime<Utc>) -> Result<Self, Violation> {
        let zone = Tz::from_str(&schedule.time_zone).map_err(|_| {
            Violation::new(
                "spec.schedule.timeZone",
                format!("`{}` is not in the IANA database of zones", schedule.time_zone),
                "write for example Europe/Berlin or Etc/UTC",
            )
        })?;
        let time = NaiveTime::parse_from_str(&schedule.time_of_day, "%H:%M").map_err(|_| {
            Violation::new(
                "spec.schedule.timeOfDay",
                format!("`{}` is not a time of day", schedule.time_of_day),
                "write HH:MM, for example 02:30",
            )
        })?;
        let window = match &schedule.catch_up_window {
            Some(window) => window.value().map_err(|error| {
                Violation::new("spec.schedule.catchUpWindow", error.to_string(), "write for example 6h")
            })?,
            None => DEFAULT_CATCH_UP_WINDOW,
        };
        let schedule = Self {
            time,
            zone,
            window: window.max(SHORTEST_WINDOW),
        };
        match schedule.first_irregularity(now) {
            None => Ok(schedule),
            Some((day, irregularity)) => Err(Violation::new(
                "spec.schedule.timeOfDay",
                schedule.sentence(day, irregularity),
                format!("write {}", schedule.suggestion(now)),
            )),
        }
    }

    /// The run of a day; none on a day that skips the time.
    pub fn slot(&self, day: NaiveDate) -> Option<Slot> {
        let at = self.zone.from_local_datetime(&day.and_time(self.time)).earliest()?;
        Some(Slot { day, at: at.to_utc() })
    }

    /// The run of the day that it is now in the zone, due or not.
    pub fn today(&self, now: DateTime<Utc>) -> Option<Slot> {
        self.slot(backup_runner::slot(now, &self.zone))
    }

    /// The first run after `now`.
    pub fn next(&self, now: DateTime<Utc>) -> Option<Slot> {
        let today = backup_runner::slot(now, &self.zone);
        // A zone may leave out a whole day, as Samoa did; a week holds a run in any case.
        (0..8)
            .filter_map(|days| self.slot(today.checked_add_days(Days::new(days))?))
            .find(|slot| slot.at > now)
    }

    /// The newest run that is due at `now`.
    pub fn latest(&self, now: DateTime<Utc>) -> Option<Slot> {
        let today = backup_runner::slot(now, &self.zone);
        (0..8)
            .filter_map(|days| self.slot(today.checked_sub_days(Days::new(days))?))
            .find(|slot| slot.at <= now)
    }

    /// When a run that was due at `at` can start no more.
    pub fn closes(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        TimeDelta::from_std(self.window)
            .ok()
            .and_then(|window| at.checked_add_signed(window))
            .unwrap_or(at)
    }

    /// The schedule in the five fields of cron.
    pub fn cron(&self) -> String {
        self.time.format("%-M %-H * * *").to_string()
    }

    /// The first day on which the time does not come, or is not run, exactly once.
    fn first_irregularity(&self, now: DateTime<Utc>) -> Option<(NaiveDate, Irregularity)> {
        let today = backup_runner::slot(now, &self.zone);
        let mut before = today.pred_opt().and_then(|day| self.slot(day));
        (0..CHECKED_DAYS).find_map(|days| {
            let day = today.checked_add_days(Days::new(days))?;
            match self.zone.from_local_datetime(&day.and_time(self.time)) {
                LocalResult::None => Some((day, Irregularity::Skipped)),
                LocalResult::Ambiguous(..) => Some((day, Irregularity::Repeated)),
                LocalResult::Single(at) => {
                    let at = at.to_utc();
                    let passed_over = before.is_some_and(|before| self.is_passed_over(before.at, at));
                    before = Some(Slot { day, at });
                    passed_over.then_some((day, Irregularity::PassedOver))
                }
            }
        })
    }

    /// Whether the CronJob controller, coming from one run, does not come to the next.
    fn is_passed_over(&self, from: DateTime<Utc>, next: DateTime<Utc>) -> bool {
        // Clocks that change by whole hours do not mislead its way of counting.
        (next - from).num_minutes() % 60 != 0 && self.controllers_next(from) != next
    }

    /// When the CronJob controller runs next after a run: it counts minutes to the end of the hour, then whole hours until
    /// the hour is right, then minutes. A change of the clocks by half an hour leads it into the middle of every later
    /// hour, and past a time in the first half of one.
    fn controllers_next(&self, run: DateTime<Utc>) -> DateTime<Utc> {
        let local = |at: DateTime<Utc>| at.with_timezone(&self.zone);
        let mut at = run + TimeDelta::minutes(1);
        'hours: loop {
            while local(at).hour() != self.time.hour() {
                at += TimeDelta::hours(1);
            }
            while local(at).minute() != self.time.minute() {
                at += TimeDelta::minutes(1);
                if local(at).minute() == 0 {
                    continue 'hours;
                }
            }
            return at;
        }
    }

    fn sentence(&self, day: NaiveDate, irregularity: Irregularity) -> String {
        let (time, zone) = (self.time.format("%H:%M"), self.zone.name());
        match irregularity {
            Irregularity::Skipped => format!(
                "{time} does not exist on {day} in {zone}, whose clocks go forward then: no backup would run that day"
            ),
            Irregularity::Repeated => format!(
                "{time} comes twice on {day} in {zone}, whose clocks go back then: two backups would run that day"
            ),
            Irregularity::PassedOver => format!(
                "{time} is passed over on {day} in {zone} by the CronJob controller, which counts whole hours where the clocks change by half of one: no backup would run that day"
            ),
        }
    }

    /// The nearest time, later before earlier, that comes exactly once every day.
    fn suggestion(&self, now: DateTime<Utc>) -> String {
        (1..=12 * 60 / SUGGESTION_STEP)
            .flat_map(|steps| [steps, -steps])
            .map(|steps| Self {
                time: self
                    .time
                    .overflowing_add_signed(TimeDelta::minutes(steps * SUGGESTION_STEP))
                    .0,
                ..self.clone()
            })
            .find(|schedule| schedule.first_irregularity(now).is_none())
            .map_or_else(
                || "a time in Etc/UTC".to_owned(),
                |schedule| schedule.time.format("%H:%M").to_string(),
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn schedule(time: &str, zone: &str) -> BackupSchedule {
        BackupSchedule {
            time_of_day: time.into(),
            time_zone: zone.into(),
            catch_up_window: None,
        }
    }

    const NOW: &str = "2026-08-21T12:00:00Z";

    #[test]
    fn skipped_and_repeated_times_are_refused_with_a_suggestion() {
        for (time, zone, text) in [
            (
                "02:30",
                "Europe/Berlin",
                "02:30 comes twice on 2026-10-25 in Europe/Berlin, whose clocks go back then: two backups would run that day; write 03:00",
            ),
            (
                "00:00",
                "America/Havana",
                "00:00 comes twice on 2026-11-01 in America/Havana",
            ),
            (
                "02:15",
                "America/New_York",
                "02:15 does not exist on 2027-03-14 in America/New_York",
            ),
            (
                "02:30",
                "Europe/Atlantis",
                "spec.schedule.timeZone: `Europe/Atlantis` is not in",
            ),
            ("25:00", "Etc/UTC", "spec.schedule.timeOfDay: `25:00` is not"),
            (
                "12:15",
                "Australia/Lord_Howe",
                "12:15 is passed over on 2026-10-04 in Australia/Lord_Howe by the CronJob controller, which counts whole hours where the clocks change by half of one: no backup would run that day; write 12:30",
            ),
            ("12:00", "Australia/Lord_Howe", "passed over on 2026-10-04"),
            ("00:00", "Australia/Lord_Howe", "passed over on 2026-10-05"),
        ] {
            let error = Schedule::new(&schedule(time, zone), at(NOW)).unwrap_err().to_string();
            assert!(error.contains(text), "{time} {zone}: {error}");
        }
    }

    #[test]
    fn days_belong_to_the_zone() {
        let schedule = Schedule::new(&schedule("00:15", "Pacific/Auckland"), at(NOW)).unwrap();
        // Noon in UTC is past midnight in Auckland.
        assert_eq!(schedule.today(at(NOW)).unwrap().day.to_string(), "2026-08-22");
        assert_eq!(
            schedule.next(at("2026-08-21T12:14:59Z")).unwrap().at,
            at("2026-08-21T12:15:00Z")
        );
        assert_eq!(
            schedule.next(at("2026-08-21T12:15:00Z")).unwrap().at,
            at("2026-08-22T12:15:00Z")
        );
        assert_eq!(
            schedule.latest(at("2026-08-21T12:14:59Z")).unwrap().at,
            at("2026-08-20T12:15:00Z")
        );
        assert_eq!(
            schedule.latest(at("2026-08-21T12:15:00Z")).unwrap().day.to_string(),
            "2026-08-22"
        );
        assert_eq!(schedule.cron(), "15 0 * * *");
        assert_eq!(schedule.closes(at(NOW)), at("2026-08-21T18:00:00Z"));
    }

    #[test]
    fn the_next_run_is_of_the_zones_day_also_where_utc_is_a_day_ahead() {
        let schedule = Schedule::new(&schedule("22:00", "America/New_York"), at(NOW)).unwrap();
        let evening = at("2026-08-22T01:00:00Z");
        assert_eq!(schedule.next(evening).unwrap().day.to_string(), "2026-08-21");
        assert_eq!(schedule.next(evening), schedule.today(evening));
    }

    #[test]
    fn trouble_is_seen_from_today_on_and_more_than_a_year_ahead() {
        for (now, day) in [
            // This very day, and 370 days ahead: the change of clocks wanders from year to year.
            ("2026-03-08T05:30:00Z", "2026-03-08"),
            ("2026-03-09T05:30:00Z", "2027-03-14"),
        ] {
            let error = Schedule::new(&schedule("02:15", "America/New_York"), at(now)).unwrap_err();
            assert!(error.to_string().contains(day), "{now}: {error}");
        }
    }

    #[test]
    fn a_window_is_never_shorter_than_the_cron_job_controller_can_keep() {
        let window = |text: &str| {
            let given = BackupSchedule {
                catch_up_window: Some(text.parse().unwrap()),
                ..schedule("12:00", "Etc/UTC")
            };
            Schedule::new(&given, at(NOW)).unwrap().window.as_secs()
        };
        assert_eq!((window("1s"), window("59s"), window("61s")), (60, 60, 61));
    }

    #[test]
    fn every_zone_accepts_some_time_and_refuses_what_it_skips_or_repeats() {
        for zone in chrono_tz::TZ_VARIANTS {
            let mut accepted = 0;
            for time in ["00:00", "02:30", "12:00"] {
                match Schedule::new(&schedule(time, zone.name()), at(NOW)) {
                    Ok(_) => accepted += 1,
                    Err(violation) => {
                        let suggestion = violation.remedy.strip_prefix("write ").unwrap();
                        Schedule::new(&schedule(suggestion, zone.name()), at(NOW)).unwrap();
                    }
                }
            }
            assert!(accepted > 0, "{zone}");
        }
    }

    /// How often a wall clock in the zone shows this time on this day, without asking the code under test: every offset
    /// from UTC is tried.
    fn shown(zone: Tz, day: NaiveDate, time: NaiveTime) -> usize {
        (-12 * 4..=14 * 4)
            .filter(|quarters| {
                let instant = (day.and_time(time) - TimeDelta::minutes(quarters * 15)).and_utc();
                instant.with_timezone(&zone).naive_local() == day.and_time(time)
            })
            .count()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn an_accepted_time_comes_once_on_each_of_400_days_and_no_other_is_accepted(
            zone in 0..chrono_tz::TZ_VARIANTS.len(),
            quarter in 0..96_u32,
            start in 0..3000_i64,
        ) {
            let zone = chrono_tz::TZ_VARIANTS[zone];
            let now = at("2024-01-01T05:00:00Z") + TimeDelta::days(start);
            let time = NaiveTime::from_hms_opt(quarter / 4, quarter % 4 * 15, 0).unwrap();
            let first = backup_runner::slot(now, &zone);
            let days = || (0..CHECKED_DAYS).map(|days| first + Days::new(days));
            let result = Schedule::new(&schedule(&time.format("%H:%M").to_string(), zone.name()), now);
            // The one zone, under its two names, that changes its clocks by half an hour, twice in any 400 days.
            let half_an_hour = matches!(zone, Tz::Australia__Lord_Howe | Tz::Australia__LHI);
            let passed_over = half_an_hour && time.minute() < 30;
            let runs = !passed_over && days().all(|day| shown(zone, day, time) == 1);
            prop_assert_eq!(result.is_ok(), runs, "{:?}", result);
            if let Ok(schedule) = result {
                // Walking from run to run meets every day once, in order, under its own date.
                let mut from = now;
                let mut expected = schedule.next(now).unwrap().day;
                prop_assert!(expected == first || expected == first + Days::new(1));
                for _ in 0..CHECKED_DAYS - 2 {
                    let slot = schedule.next(from).unwrap();
                    prop_assert_eq!(slot.day, expected);
                    prop_assert_eq!(backup_runner::slot(slot.at, &zone), slot.day);
                    let job = backup_runner::job_name("shop", slot.at);
                    prop_assert_eq!(backup_runner::scheduled_at("shop", &job), Some(slot.at));
                    from = slot.at;
                    expected = expected + Days::new(1);
                }
            }
        }
    }
}
