use super::*;

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn berlin(text: &str) -> Schedule {
    Schedule::parse(text, Some("Europe/Berlin")).unwrap()
}

#[test]
fn windows_that_leave_no_minute_of_the_week_are_refused() {
    let excluding = |windows: serde_json::Value| {
        let windows: Vec<ExcludedWindow> = serde_json::from_value(windows).unwrap();
        Schedule::parse("0 10 * * *", None).unwrap().excluding(&windows)
    };
    let half = |from: &str, to: &str| serde_json::json!({"from": from, "to": to});
    for all in [
        serde_json::json!([half("08:00", "08:00")]),
        serde_json::json!([half("22:00", "06:00"), half("06:00", "22:00")]),
        serde_json::json!([
            {"days": ["Mon", "Tue", "Wed", "Thu", "Fri"], "from": "00:00", "to": "00:00"},
            {"days": ["Sat", "Sun"], "from": "00:00", "to": "00:00"},
        ]),
    ] {
        let error = excluding(all).unwrap_err().to_string();
        assert!(error.starts_with("spec.excludedWindows: leave no minute"), "{error}");
    }
    assert!(excluding(serde_json::json!([half("22:00", "06:00"), half("06:00", "21:59")])).is_ok());
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
        let time = time.parse().unwrap();
        assert_eq!(schedule.excludes(time, time), expected, "{time}");
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
