//! One figure of one row, asked for by `make bench`: CPU nanoseconds per operation, and the protocol to ask for it.
//!
//! A bench program says first what it can measure, as one JSON line on standard output, and then answers one question
//! a line: `{"contender": "valerix", "row": "breaker/closed", "millis": 200}` with `{"value": 12.5}`. So whoever asks
//! can take turns between programs in any language, each of which stays warm.

use std::io::{BufRead, Write};
use std::time::Duration;

/// Who is measured, and in what.
pub struct Contender {
    pub name: &'static str,
    pub version: String,
    pub rows: Vec<Row>,
}

/// One figure that can be taken.
pub struct Row {
    pub name: &'static str,
    pub measure: Box<dyn FnMut(Duration) -> f64>,
}

impl Row {
    /// A figure of any kind, taken in about the time that is given.
    pub fn figure(name: &'static str, measure: impl FnMut(Duration) -> f64 + 'static) -> Self {
        Self {
            name,
            measure: Box::new(measure),
        }
    }

    /// CPU nanoseconds of one of the `count` operations that `run` does.
    #[allow(dead_code, reason = "not every bench has one")]
    pub fn operations(name: &'static str, mut run: impl FnMut(u64) + 'static) -> Self {
        Self::figure(name, move |time| per_operation(time, &mut run))
    }
}

/// CPU nanoseconds per operation, over about `time` of CPU; finding the right count also warms up.
pub fn per_operation(time: Duration, mut run: impl FnMut(u64)) -> f64 {
    let mut taken = |count: u64| {
        let before = process_cpu();
        run(count);
        (process_cpu() - before).as_secs_f64()
    };
    let mut count = 64;
    let once = loop {
        let seconds = taken(count);
        if seconds >= time.as_secs_f64() / 4.0 {
            break seconds / count as f64;
        }
        count *= 2;
    };
    let count = (time.as_secs_f64() / once).max(1.0) as u64;
    taken(count) * 1e9 / count as f64
}

/// CPU time of all threads of this process.
pub fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Answers questions until standard input ends; run by a person (without `--serve`), shows every figure once.
pub fn serve(mut contenders: Vec<Contender>) {
    let mut output = std::io::stdout().lock();
    if !std::env::args().any(|argument| argument == "--serve") {
        for contender in &mut contenders {
            for row in &mut contender.rows {
                let value = (row.measure)(Duration::from_millis(200));
                writeln!(output, "{:16} {:40} {value:12.1}", contender.name, row.name).unwrap();
            }
        }
        return;
    }
    let said = contenders.iter().map(|contender| {
        let rows: Vec<_> = contender.rows.iter().map(|row| row.name).collect();
        serde_json::json!({"name": contender.name, "version": contender.version, "rows": rows})
    });
    writeln!(
        output,
        "{}",
        serde_json::json!({"contenders": said.collect::<Vec<_>>()})
    )
    .unwrap();
    output.flush().unwrap();
    for line in std::io::stdin().lock().lines() {
        let question: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        let row = contenders
            .iter_mut()
            .filter(|contender| question["contender"] == contender.name)
            .flat_map(|contender| &mut contender.rows)
            .find(|row| question["row"] == row.name)
            .expect("a row of the list");
        let millis = question["millis"].as_u64().expect("milliseconds");
        let value = (row.measure)(Duration::from_millis(millis));
        writeln!(output, "{}", serde_json::json!({"value": value})).unwrap();
        output.flush().unwrap();
    }
}
