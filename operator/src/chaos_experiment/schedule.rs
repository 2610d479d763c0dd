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
pub const STARTING_DEADLINE: TimeDelta = TimeDelta::minutes(5);

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
        let begin = DateTime::UNIX_EPOCH.naive_utc();
        let mut minutes = (0..7 * 24 * 60).map(|minute| begin + TimeDelta::minutes(minute));
        if minutes.all(|local| self.excluded.iter().any(|window| window.holds(local))) {
            return Err(Violation::new(
                "spec.excludedWindows",
                "leave no minute of the week in which a run could start",
                "shorten one, or set spec.suspend: true to start no run for a while",
            ));
        }
        Ok(self)
    }

    /// How late a run may start.
    pub fn deadline(&self) -> TimeDelta {
        self.deadline
    }

    /// Whether a run of the scheduled time `tick` may not start `now`: neither may lie in a window.
    pub fn excludes(&self, tick: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        [tick, now].into_iter().any(|time| {
            let local = time.with_timezone(&self.zone).naive_local();
            self.excluded.iter().any(|window| window.holds(local))
        })
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
mod tests;
