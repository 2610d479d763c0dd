//! When runs start: five cron fields read in a time zone.
//!
//! Pure. In: the two texts of the spec and points in time. Out: ticks. Work is constant however many ticks were missed:
//! only the newest one is ever looked for.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use std::fmt;

/// How late a scheduled run may start. A fault at an hour that nobody chose is worse than a missed one.
const STARTING_DEADLINE: TimeDelta = TimeDelta::minutes(5);

/// A parsed schedule.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
}

/// Why a schedule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSchedule {
    /// The field of the spec that is wrong.
    pub field: &'static str,
    /// What is wrong with it and what to write instead.
    pub message: String,
}

/// The newest tick of a plan that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The scheduled time.
    pub at: DateTime<Utc>,
    /// Whether it is too old to start now.
    pub missed: bool,
}

impl fmt::Display for InvalidSchedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.field, self.message)
    }
}

impl Schedule {
    /// Reads the two texts.
    ///
    /// # Errors
    /// When the zone is unknown, the fields do not parse, or they never match.
    pub fn parse(schedule: &str, time_zone: Option<&str>) -> Result<Self, InvalidSchedule> {
        let name = time_zone.unwrap_or("Etc/UTC");
        let zone: Tz = name.parse().map_err(|_| InvalidSchedule {
            field: "spec.timeZone",
            message: format!("`{name}` is not an IANA time zone; write one such as Europe/Berlin or Etc/UTC"),
        })?;
        let remedy = "write five fields, minute hour day month weekday, such as `0 10 * * 1-5`";
        let cron = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build()
            .parse(schedule)
            .map_err(|error| InvalidSchedule {
                field: "spec.schedule",
                message: format!("`{schedule}` is not a schedule ({error}); {remedy}"),
            })?;
        let parsed = Self { cron, zone };
        if parsed.after(DateTime::UNIX_EPOCH + TimeDelta::days(20_000)).is_none() {
            return Err(InvalidSchedule {
                field: "spec.schedule",
                message: format!("`{schedule}` never comes; {remedy}"),
            });
        }
        Ok(parsed)
    }

    /// The first tick after `time`.
    pub fn after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = time.with_timezone(&self.zone);
        let next = self.cron.find_next_occurrence(&local, false).ok()?;
        Some(next.with_timezone(&Utc))
    }

    /// The newest tick at or before `time`.
    pub fn newest(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = time.with_timezone(&self.zone);
        let previous = self.cron.find_previous_occurrence(&local, true).ok()?;
        Some(previous.with_timezone(&Utc))
    }

    /// Whether `time` is a tick of this schedule: a plan that was made for another schedule is not kept.
    pub fn is_tick(&self, time: DateTime<Utc>) -> bool {
        self.newest(time) == Some(time)
    }

    /// The tick that is due, if the planned time has come: the newest one, however many were missed.
    pub fn due(&self, planned: DateTime<Utc>, now: DateTime<Utc>) -> Option<Tick> {
        if now < planned {
            return None;
        }
        let at = self.newest(now).filter(|newest| *newest >= planned).unwrap_or(planned);
        Some(Tick {
            at,
            missed: now - at > STARTING_DEADLINE,
        })
    }
}

/// The identity of a scheduled run: its time, so that a crash between two writes cannot fire it twice.
pub fn run_id(tick: DateTime<Utc>) -> String {
    tick.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn berlin(text: &str) -> Schedule {
        Schedule::parse(text, Some("Europe/Berlin")).unwrap()
    }

    #[test]
    fn the_zone_decides_the_hour() {
        let schedule = berlin("0 10 * * 1-5");
        assert_eq!(
            schedule.after(time("2026-11-20T09:00:00Z")),
            Some(time("2026-11-23T09:00:00Z"))
        );
        assert_eq!(
            schedule.after(time("2026-07-01T07:00:00Z")),
            Some(time("2026-07-01T08:00:00Z"))
        );
    }

    #[test]
    fn a_hundred_missed_ticks_are_one() {
        let schedule = Schedule::parse("* * * * *", None).unwrap();
        let planned = time("2026-11-21T10:00:00Z");
        assert_eq!(schedule.due(planned, time("2026-11-21T09:59:59Z")), None);
        assert_eq!(
            schedule.due(planned, time("2026-11-21T11:41:30Z")),
            Some(Tick {
                at: time("2026-11-21T11:41:00Z"),
                missed: false
            })
        );
    }

    #[test]
    fn a_tick_that_is_hours_old_is_missed() {
        let schedule = Schedule::parse("0 10 * * *", None).unwrap();
        let planned = time("2026-11-21T10:00:00Z");
        assert_eq!(
            schedule.due(planned, time("2026-11-21T10:05:00Z")),
            Some(Tick {
                at: planned,
                missed: false
            })
        );
        assert_eq!(
            schedule.due(planned, time("2026-11-21T10:05:01Z")),
            Some(Tick {
                at: planned,
                missed: true
            })
        );
        assert_eq!(
            schedule.due(planned, time("2026-11-23T10:01:00Z")),
            Some(Tick {
                at: time("2026-11-23T10:00:00Z"),
                missed: false
            })
        );
    }

    /// 2026-03-29: 02:00 becomes 03:00. 2026-10-25: 03:00 becomes 02:00.
    #[test]
    fn an_hour_that_the_clock_skips_or_repeats_runs_once() {
        let schedule = berlin("30 2 * * *");
        let spring: Vec<_> = ticks(&schedule, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
        assert_eq!(spring.len(), 2, "{spring:?}");
        let autumn: Vec<_> = ticks(&schedule, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
        assert_eq!(autumn.len(), 2, "{autumn:?}");
    }

    fn ticks(schedule: &Schedule, from: &str, to: &str) -> Vec<DateTime<Utc>> {
        let end = time(to);
        std::iter::successors(schedule.after(time(from)), |tick| schedule.after(*tick))
            .take_while(|tick| *tick < end)
            .collect()
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        for (text, zone, field, word) in [
            ("61 * * * *", None, "spec.schedule", "five fields"),
            ("0 0 31 2 *", None, "spec.schedule", "never comes"),
            ("0 10 * * * *", None, "spec.schedule", "five fields"),
            ("0 10 * * *", Some("Mars/Base"), "spec.timeZone", "Europe/Berlin"),
        ] {
            let error = Schedule::parse(text, zone).unwrap_err();
            assert_eq!(error.field, field, "{text}");
            assert!(error.message.contains(word), "{error}");
        }
    }

    #[test]
    fn a_plan_of_another_schedule_is_recognised() {
        let schedule = berlin("0 10 * * *");
        assert!(schedule.is_tick(time("2026-11-21T09:00:00Z")));
        assert!(!schedule.is_tick(time("2026-11-21T10:00:00Z")));
    }

    #[test]
    fn the_run_is_named_by_its_time() {
        assert_eq!(run_id(time("2026-11-21T09:00:00Z")), "2026-11-21T09:00:00Z");
    }
}
