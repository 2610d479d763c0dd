//! Times, zones, and what the CronJob controller makes of them.

mod campaigns;

use super::*;
use campaigns::Wall;
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
        (
            "02:15",
            "Australia/Lord_Howe",
            "02:15 does not exist on 2026-10-04 in Australia/Lord_Howe, whose clocks go forward then: no backup would run that day",
        ),
        // From 01:59 it counts to 02:30, which has the minute that it looks for.
        (
            "01:30",
            "Australia/Lord_Howe",
            "01:30 is run again on 2026-10-04 in Australia/Lord_Howe by the CronJob controller, which counts minutes where the clocks go forward by half an hour: two backups would run that day",
        ),
        // The clocks go from 02:45 to 03:45, in the middle of an hour that the CronJob controller counts minutes in.
        (
            "02:45",
            "Pacific/Chatham",
            "02:45 does not exist on 2026-09-27 in Pacific/Chatham, whose clocks go forward then: the backup of that day would run at 03:45; write 02:30",
        ),
        (
            "03:00",
            "Pacific/Chatham",
            "03:00 does not exist on 2026-09-27 in Pacific/Chatham, whose clocks go forward then: no backup would run that day; write 02:30",
        ),
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

/// The clocks go back from 03:45 to 02:45: the hour of the second 02:45 is not the one that the CronJob controller looks for.
#[test]
fn a_time_that_comes_twice_is_not_always_run_twice() {
    let autumn = at("2027-04-01T12:00:00Z");
    for (time, runs) in [
        ("02:45", "a backup would run at one of the two only"),
        ("03:00", "two backups would run that day"),
        ("03:30", "two backups would run that day"),
    ] {
        let error = Schedule::new(&schedule(time, "Pacific/Chatham"), autumn).unwrap_err();
        let text = format!("{time} comes twice on 2027-04-04 in Pacific/Chatham, whose clocks go back then: {runs}");
        assert_eq!(error.message, text);
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
        let runs = days().all(|day| shown(zone, day, time) == 1) && !Wall::of(zone, now).misses_a_day(time, first);
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
