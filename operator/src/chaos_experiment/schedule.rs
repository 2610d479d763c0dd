//! When runs start: five cron fields read in a time zone.
//!
//! Pure. In: the two texts of the spec and points in time. Out: ticks. Work is bounded however many ticks were missed:
//! only the newest one is ever looked for. What is a tick is decided by the search forward alone, so that the clock's
//! changes cannot make the two directions disagree.

use crate::runtime::Violation;
use chrono::{DateTime, Datelike, NaiveDateTime, NaiveTime, SecondsFormat, SubsecRound, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use valerix_crds::{ExcludedWindow, Weekday};

/// How late a scheduled run may start, where the spec does not say. A fault at an hour that nobody chose is worse than a missed one.
const STARTING_DEADLINE: TimeDelta = TimeDelta::minutes(5);

/// Names that fields may hold, by what a range counts them as.
const NAMES: [(&str, u32); 19] = [
    ("JAN", 1),
    ("FEB", 2),
    ("MAR", 3),
    ("APR", 4),
    ("MAY", 5),
    ("JUN", 6),
    ("JUL", 7),
    ("AUG", 8),
    ("SEP", 9),
    ("OCT", 10),
    ("NOV", 11),
    ("DEC", 12),
    ("SUN", 0),
    ("MON", 1),
    ("TUE", 2),
    ("WED", 3),
    ("THU", 4),
    ("FRI", 5),
    ("SAT", 6),
];

/// A parsed schedule.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
    deadline: TimeDelta,
    excluded: Vec<Window>,
}

/// Hours in which nothing starts.
#[derive(Clone, Debug)]
struct Window {
    /// The weekdays on which it begins; none is every day.
    days: Vec<chrono::Weekday>,
    from: NaiveTime,
    to: NaiveTime,
}

impl Window {
    fn read(path: &str, window: &ExcludedWindow) -> Result<Self, Violation> {
        let clock = |field: &str, text: &str| {
            NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| {
                let message = format!("is {text:?}, which is no time of the day");
                Violation::new(
                    format!("{path}.{field}"),
                    message,
                    "write hour and minute, for example 09:00",
                )
            })
        };
        let days = window.days.iter().map(|day| match day {
            Weekday::Mon => Ok(chrono::Weekday::Mon),
            Weekday::Tue => Ok(chrono::Weekday::Tue),
            Weekday::Wed => Ok(chrono::Weekday::Wed),
            Weekday::Thu => Ok(chrono::Weekday::Thu),
            Weekday::Fri => Ok(chrono::Weekday::Fri),
            Weekday::Sat => Ok(chrono::Weekday::Sat),
            Weekday::Sun => Ok(chrono::Weekday::Sun),
            Weekday::Unknown => Err(Violation::new(
                format!("{path}.days"),
                "names a day that this operator does not know",
                "write Mon, Tue, Wed, Thu, Fri, Sat or Sun",
            )),
        });
        Ok(Self {
            days: days.collect::<Result<_, _>>()?,
            from: clock("from", &window.from)?,
            to: clock("to", &window.to)?,
        })
    }

    fn holds(&self, local: NaiveDateTime) -> bool {
        let begins_on = |day: chrono::Weekday| self.days.is_empty() || self.days.contains(&day);
        let (today, time) = (local.weekday(), local.time());
        if self.from < self.to {
            return begins_on(today) && self.from <= time && time < self.to;
        }
        // It goes on past midnight, so the day on which it began may be yesterday.
        (begins_on(today) && time >= self.from) || (begins_on(today.pred()) && time < self.to)
    }
}

/// The newest tick of a plan that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The scheduled time.
    pub at: DateTime<Utc>,
    /// Whether it is too old to start now.
    pub missed: bool,
}

impl Schedule {
    /// Reads the two texts.
    ///
    /// # Errors
    /// When the zone is unknown, the fields do not parse, or they never match.
    pub fn parse(schedule: &str, time_zone: Option<&str>) -> Result<Self, Violation> {
        let name = time_zone.unwrap_or("Etc/UTC");
        let zone: Tz = name.parse().map_err(|_| {
            let message = format!("is `{name}`, which is not an IANA time zone");
            Violation::new("spec.timeZone", message, "write one such as Europe/Berlin or Etc/UTC")
        })?;
        let invalid = |why: &str| {
            Violation::new(
                "spec.schedule",
                format!("is `{schedule}`, {why}"),
                "write five fields, minute hour day month weekday, such as `0 10 * * 1-5`",
            )
        };
        for field in schedule.split_ascii_whitespace() {
            read_by_name(field).map_err(|why| invalid(&why))?;
        }
        let cron = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build()
            .parse(schedule)
            .map_err(|error| invalid(&format!("which is not a schedule ({error})")))?;
        let parsed = Self {
            cron,
            zone,
            deadline: STARTING_DEADLINE,
            excluded: Vec::new(),
        };
        if parsed.after(DateTime::UNIX_EPOCH + TimeDelta::days(20_000)).is_none() {
            return Err(invalid("which never comes"));
        }
        Ok(parsed)
    }

    /// The same, with runs that may start so late and no later.
    #[must_use]
    pub fn starting_within(mut self, deadline: TimeDelta) -> Self {
        self.deadline = deadline;
        self
    }

    /// The same, without the ticks that lie in these windows.
    ///
    /// # Errors
    /// The field of a window that cannot be read.
    pub fn excluding(mut self, windows: &[ExcludedWindow]) -> Result<Self, Violation> {
        let read = |(index, window)| Window::read(&format!("spec.excludedWindows[{index}]"), window);
        self.excluded = windows.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// How late a run may start.
    pub fn deadline(&self) -> TimeDelta {
        self.deadline
    }

    /// Whether nothing may start at `time`.
    pub fn excludes(&self, time: DateTime<Utc>) -> bool {
        let local = time.with_timezone(&self.zone).naive_local();
        self.excluded.iter().any(|window| window.holds(local))
    }

    /// The first tick after `time`.
    pub fn after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = time.trunc_subsecs(0).with_timezone(&self.zone);
        let next = self.cron.find_next_occurrence(&local, false).ok()?;
        Some(next.with_timezone(&Utc))
    }

    /// The newest tick at or before `time`.
    pub fn newest(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // Where the clock changes, the search backward may end beside a tick or miss one: it is where to begin.
        let mut tick = self.before(time)?;
        while !self.is_tick(tick) {
            tick = self.before(tick - TimeDelta::seconds(1))?;
        }
        while let Some(next) = self.after(tick).filter(|next| *next <= time && *next > tick) {
            tick = next;
        }
        Some(tick)
    }

    fn before(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = time.trunc_subsecs(0).with_timezone(&self.zone);
        let previous = self.cron.find_previous_occurrence(&local, true).ok()?;
        Some(previous.with_timezone(&Utc))
    }

    /// Whether `time` is a tick of this schedule: a plan that was made for another schedule is not kept.
    pub fn is_tick(&self, time: DateTime<Utc>) -> bool {
        self.after(time - TimeDelta::seconds(1)) == Some(time)
    }

    /// The tick that is due, if the planned time has come: the newest one, however many were missed.
    pub fn due(&self, planned: DateTime<Utc>, now: DateTime<Utc>) -> Option<Tick> {
        if now < planned {
            return None;
        }
        let at = self.newest(now).filter(|newest| *newest >= planned).unwrap_or(planned);
        Some(Tick {
            at,
            missed: now - at > self.deadline,
        })
    }
}

/// The identity of a scheduled run: its time, so that a crash between two writes cannot fire it twice.
pub fn run_id(tick: DateTime<Utc>) -> String {
    tick.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Refuses by name what some cron dialects read and the five fields of this one do not.
fn read_by_name(field: &str) -> Result<(), String> {
    for part in field.split(',') {
        let range = part.split('/').next().unwrap_or_default();
        let ends: Vec<_> = range.split('-').map(|end| (end, value(end))).collect();
        if let Some((text, _)) = ends.iter().find(|(text, value)| *text != "*" && value.is_none()) {
            return Err(format!(
                "but `{text}` is neither a number, a name of a month or weekday, nor `*`"
            ));
        }
        if let [(from, Some(low)), (to, Some(high))] = ends[..]
            && low > high
        {
            return Err(format!(
                "but the range `{from}-{to}` runs backwards; write its two parts with a comma"
            ));
        }
    }
    Ok(())
}

fn value(text: &str) -> Option<u32> {
    let name = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    name.map(|(_, value)| *value).or_else(|| text.parse().ok())
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
    fn a_window_is_read_in_the_zone_and_may_go_on_past_midnight() {
        let windows: Vec<ExcludedWindow> = serde_json::from_value(serde_json::json!([
            {"days": ["Fri"], "from": "22:00", "to": "06:00"},
            {"days": ["Mon", "Tue"], "from": "09:00", "to": "17:00"},
            {"from": "12:00", "to": "12:30"},
        ]))
        .unwrap();
        let schedule = Schedule::parse("* * * * *", Some("Europe/Berlin")).unwrap();
        let schedule = schedule.excluding(&windows).unwrap();
        for (time, expected) in [
            // Friday, 27 November 2026; Berlin is an hour ahead.
            ("2026-11-27T20:59:00Z", false),
            ("2026-11-27T21:00:00Z", true),
            ("2026-11-28T04:59:00Z", true),
            ("2026-11-28T05:00:00Z", false),
            ("2026-11-27T04:00:00Z", false),
            ("2026-11-30T08:00:00Z", true),
            ("2026-11-30T16:00:00Z", false),
            ("2026-12-02T09:00:00Z", false),
            ("2026-12-02T11:29:00Z", true),
        ] {
            assert_eq!(schedule.excludes(time.parse().unwrap()), expected, "{time}");
        }
        let nonsense = [ExcludedWindow {
            from: "25:00".into(),
            ..windows[0].clone()
        }];
        let error = Schedule::parse("* * * * *", None)
            .unwrap()
            .excluding(&nonsense)
            .unwrap_err();
        assert_eq!(error.field, "spec.excludedWindows[0].from");
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

    fn parsed(text: &str, zone: &str) -> Schedule {
        Schedule::parse(text, Some(zone)).unwrap()
    }

    fn ticks(schedule: &Schedule, from: &str, to: &str) -> Vec<DateTime<Utc>> {
        let end = time(to);
        std::iter::successors(schedule.after(time(from)), |tick| schedule.after(*tick))
            .take_while(|tick| *tick < end)
            .collect()
    }

    /// 2026-03-29: 02:00 becomes 03:00. 2026-10-25: 03:00 becomes 02:00.
    #[test]
    fn an_hour_that_the_clock_skips_or_repeats_runs_once() {
        let schedule = berlin("30 2 * * *");
        let spring: Vec<_> = ticks(&schedule, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
        assert_eq!(spring, [time("2026-03-29T01:00:00Z"), time("2026-03-30T00:30:00Z")]);
        let autumn: Vec<_> = ticks(&schedule, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
        assert_eq!(autumn, [time("2026-10-25T00:30:00Z"), time("2026-10-26T01:30:00Z")]);
    }

    /// Both ways of looking agree at every tenth minute round every change of the clock, also where it is half an hour.
    #[test]
    fn the_two_directions_agree_round_every_change_of_the_clock() {
        let changes = [
            (
                "Europe/Berlin",
                [
                    "2026-03-29T01:00:00Z",
                    "2026-10-25T01:00:00Z",
                    "2027-03-28T01:00:00Z",
                    "2027-10-31T01:00:00Z",
                ],
            ),
            (
                "America/New_York",
                [
                    "2026-03-08T07:00:00Z",
                    "2026-11-01T06:00:00Z",
                    "2027-03-14T07:00:00Z",
                    "2027-11-07T06:00:00Z",
                ],
            ),
            (
                "America/Havana",
                [
                    "2026-03-08T05:00:00Z",
                    "2026-11-01T05:00:00Z",
                    "2027-03-14T05:00:00Z",
                    "2027-11-07T05:00:00Z",
                ],
            ),
            (
                "Australia/Lord_Howe",
                [
                    "2026-04-04T15:00:00Z",
                    "2026-10-03T15:30:00Z",
                    "2027-04-03T15:00:00Z",
                    "2027-10-02T15:30:00Z",
                ],
            ),
            (
                "Africa/Casablanca",
                [
                    "2026-02-15T02:00:00Z",
                    "2026-03-22T02:00:00Z",
                    "2027-02-07T02:00:00Z",
                    "2027-03-14T02:00:00Z",
                ],
            ),
        ];
        let schedules = [
            "*/30 * * * *",
            "15,45 1-2 * * *",
            "0 2 * * *",
            "30 0 * * *",
            "0 0 29 2 *",
            "0 3 * * 7",
            "0 3 * * SUN,MON,TUE",
        ];
        for (zone, changes) in changes {
            for (change, text) in changes
                .iter()
                .flat_map(|change| schedules.map(|text| (time(change), text)))
            {
                let schedule = parsed(text, zone);
                for ten in -18..=18 {
                    let at = change + TimeDelta::minutes(10 * ten) + TimeDelta::milliseconds(500);
                    let (next, last) = (schedule.after(at).unwrap(), schedule.newest(at).unwrap());
                    let context = format!("{text} in {zone} at {at}: after {next}, newest {last}");
                    assert!(next > at && last <= at, "{context}");
                    assert!(schedule.is_tick(next) && schedule.is_tick(last), "{context}");
                    assert_eq!(schedule.newest(next), Some(next), "{context}");
                    assert_eq!(schedule.after(last), Some(next), "{context}");
                }
            }
        }
    }

    #[test]
    fn a_wildcard_ticks_through_both_passes_and_a_fixed_time_once_a_day() {
        for (zone, from, to) in [
            ("Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            ("Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            ("America/Havana", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
        ] {
            let half_hours = ticks(&parsed("*/30 * * * *", zone), from, to);
            for pair in half_hours.windows(2) {
                assert_eq!(pair[1] - pair[0], TimeDelta::minutes(30), "{zone}");
            }
            let from = (time(from) - TimeDelta::seconds(1)).to_rfc3339();
            for text in ["0 2 * * *", "30 0 * * *", "0 3 * * *"] {
                assert_eq!(ticks(&parsed(text, zone), &from, to).len(), 1, "{text} in {zone}");
            }
        }
    }

    #[test]
    fn weekday_seven_is_sunday() {
        let schedule = parsed("0 3 * * 7", "Etc/UTC");
        assert_eq!(
            schedule.after(time("2026-11-27T00:00:00Z")),
            Some(time("2026-11-29T03:00:00Z"))
        );
    }

    #[test]
    fn what_other_dialects_read_is_refused_by_name() {
        for (text, word) in [
            ("0 10 L * *", "`L`"),
            ("0 10 15W * *", "`15W`"),
            ("0 10 * * 5#2", "`5#2`"),
            ("0 10 * * 5L", "`5L`"),
            ("0 10 ? * *", "`?`"),
            ("0 3 * * SUN-TUE,FRI-MON", "`FRI-MON`"),
            ("0 22-2 * * *", "`22-2`"),
            ("H 3 * * *", "`H`"),
        ] {
            let error = Schedule::parse(text, None).unwrap_err();
            assert_eq!(error.field, "spec.schedule", "{text}");
            assert!(
                error.message.contains(word) && error.remedy.contains("five fields"),
                "{error}"
            );
        }
        for text in ["0 3 * * SUN-TUE", "0 3 * * 5-7", "*/5 0-6/2 1,15 jan-Mar mon"] {
            Schedule::parse(text, None).unwrap();
        }
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
            assert!(error.to_string().contains(word), "{error}");
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
