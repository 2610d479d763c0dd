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

/// Why a time is not run exactly once on a day, as the clocks show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Irregularity {
    Skipped,
    Repeated,
    RunAgain,
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
                    let slot = Slot { day, at };
                    let misled = before.and_then(|before| self.misled(before, slot));
                    before = Some(slot);
                    misled
                }
            }
        })
    }

    /// Where the CronJob controller, coming from one run, does not come to the next.
    fn misled(&self, from: Slot, next: Slot) -> Option<(NaiveDate, Irregularity)> {
        // Clocks that change by whole hours do not mislead its way of counting.
        if (next.at - from.at).num_minutes() % 60 == 0 {
            return None;
        }
        let run = self.controllers_next(from.at);
        if run == next.at {
            None
        } else if backup_runner::slot(run, &self.zone) == from.day {
            Some((from.day, Irregularity::RunAgain))
        } else {
            Some((next.day, Irregularity::PassedOver))
        }
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

    /// When the CronJob controller would run on a day, as the clocks show it: where they change in the middle of an hour, it
    /// comes to a time that they skip a whole hour later, and not to each of two.
    fn controllers_runs(&self, day: NaiveDate) -> Vec<NaiveTime> {
        let before = (1..8).find_map(|days| self.slot(day.checked_sub_days(Days::new(days))?));
        std::iter::successors(before.map(|before| before.at), |run| Some(self.controllers_next(*run)))
            .map(|run| run.with_timezone(&self.zone).naive_local())
            .skip_while(|run| run.date() < day)
            .take_while(|run| run.date() == day)
            .map(|run| run.time())
            .collect()
    }

    fn sentence(&self, day: NaiveDate, irregularity: Irregularity) -> String {
        let (time, zone) = (self.time.format("%H:%M"), self.zone.name());
        let cause = match irregularity {
            Irregularity::Skipped => {
                format!("{time} does not exist on {day} in {zone}, whose clocks go forward then")
            }
            Irregularity::Repeated => format!("{time} comes twice on {day} in {zone}, whose clocks go back then"),
            Irregularity::RunAgain => format!(
                "{time} is run again on {day} in {zone} by the CronJob controller, which counts minutes where the clocks go forward by half an hour"
            ),
            Irregularity::PassedOver => format!(
                "{time} is passed over on {day} in {zone} by the CronJob controller, which counts whole hours where the clocks change by half of one"
            ),
        };
        let runs = match self.controllers_runs(day)[..] {
            [] => "no backup would run that day".to_owned(),
            [run] if run == self.time => "a backup would run at one of the two only".to_owned(),
            [run] => format!("the backup of that day would run at {}", run.format("%H:%M")),
            _ => "two backups would run that day".to_owned(),
        };
        format!("{cause}: {runs}")
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
mod tests;
