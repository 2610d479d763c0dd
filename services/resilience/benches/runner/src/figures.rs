//! The values of rounds become medians, ratios, tables and JSON lines. Pure.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The name under which our own programs answer.
const OURS: &str = "valerix";

/// Who is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contender {
    /// The library.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What our median is held to.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// Shown for comparison only.
    None,
    /// In the row's unit.
    AtMost(f64),
    /// In the row's unit.
    AtLeast(f64),
    /// At most the median of this peer in the same run.
    Peer(&'static str),
}

impl Bound {
    /// Reads `<= 15 ns` and `>= 20 x`.
    fn parse(text: &str) -> Self {
        let number = |rest: &str| rest.split_whitespace().next()?.parse().ok();
        if let Some(most) = text.strip_prefix("<=").and_then(number) {
            Self::AtMost(most)
        } else {
            text.strip_prefix(">=")
                .and_then(number)
                .map_or(Self::None, Self::AtLeast)
        }
    }
}

/// The values of one contender.
#[derive(Debug, Clone)]
struct Series {
    contender: Contender,
    values: Vec<f64>,
    trouble: Option<String>,
}

/// Least, median and most.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Summary {
    min: f64,
    median: f64,
    max: f64,
}

impl Series {
    fn summary(&self) -> Option<Summary> {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            *values.get(middle)?
        } else {
            f64::midpoint(*values.get(middle.checked_sub(1)?)?, *values.get(middle)?)
        };
        Some(Summary {
            min: *values.first()?,
            median,
            max: *values.last()?,
        })
    }

    fn json(&self) -> Value {
        let mut value = json!({"name": self.contender.name, "version": self.contender.version});
        let Some(object) = value.as_object_mut() else {
            return value;
        };
        if let Some(summary) = self.summary() {
            object.insert("min".to_owned(), json!(summary.min));
            object.insert("median".to_owned(), json!(summary.median));
            object.insert("max".to_owned(), json!(summary.max));
        }
        if let Some(trouble) = &self.trouble {
            object.insert("missing".to_owned(), json!(trouble));
        }
        value
    }
}

/// One comparison.
#[derive(Debug, Clone)]
pub struct Row {
    name: String,
    unit: String,
    bound: Bound,
    series: Vec<Series>,
}

impl Row {
    /// A row without values.
    pub fn new(name: impl Into<String>, unit: impl Into<String>, bound: Bound) -> Self {
        Self {
            name: name.into(),
            unit: unit.into(),
            bound,
            series: Vec::new(),
        }
    }

    /// Its name within the suite.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether nobody was measured.
    pub fn is_empty(&self) -> bool {
        self.series.iter().all(|series| series.values.is_empty())
    }

    fn change(&mut self, contender: &Contender, change: impl FnOnce(&mut Series)) {
        if let Some(series) = self.series.iter_mut().find(|series| series.contender == *contender) {
            return change(series);
        }
        let mut series = Series {
            contender: contender.clone(),
            values: Vec::new(),
            trouble: None,
        };
        change(&mut series);
        self.series.push(series);
    }

    /// Adds the value of one round.
    pub fn add(&mut self, contender: &Contender, value: f64) {
        self.change(contender, |series| series.values.push(value));
    }

    /// Notes why there is no value.
    pub fn note_trouble(&mut self, contender: &Contender, reason: &str) {
        self.change(contender, |series| series.trouble = Some(reason.to_owned()));
    }

    /// Notes a peer that could not be built, so that nobody takes its absence for a result.
    pub fn note_missing(&mut self, name: &str, reason: &str) {
        let contender = Contender {
            name: name.to_owned(),
            version: String::new(),
        };
        self.note_trouble(&contender, reason);
    }

    fn of(&self, name: &str) -> Option<Summary> {
        let series = self.series.iter().find(|series| series.contender.name == name)?;
        series.summary()
    }

    fn peers(&self) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(|series| series.contender.name != OURS)
    }

    /// What must hold, in words. A peer's figure is known only once it was measured.
    fn bound_text(&self) -> String {
        let unit = self.unit.strip_prefix("CPU ").unwrap_or(&self.unit);
        let unit = unit.strip_suffix("/op").or(unit.strip_suffix("/call")).unwrap_or(unit);
        match &self.bound {
            Bound::None => String::new(),
            Bound::AtMost(most) => format!("<= {most} {unit}"),
            Bound::AtLeast(least) => format!(">= {least} {unit}"),
            Bound::Peer(name) => format!("<= {name}"),
        }
    }

    /// Whether our median keeps the bound; none when there is no bound.
    fn holds(&self) -> Option<bool> {
        let within = |compare: &dyn Fn(f64) -> bool| Some(self.of(OURS).is_some_and(|ours| compare(ours.median)));
        match &self.bound {
            Bound::None => None,
            Bound::AtMost(most) => within(&|median| median <= *most),
            Bound::AtLeast(least) => within(&|median| median >= *least),
            Bound::Peer(name) => {
                let peer = self.of(name);
                within(&|median| peer.is_some_and(|peer| median <= peer.median))
            }
        }
    }

    /// One line of `target/bench/<suite>.json`.
    pub fn json(&self, suite: &str) -> Value {
        let summary = |summary: Summary| json!({"min": summary.min, "median": summary.median, "max": summary.max});
        json!({
            "suite": suite,
            "row": self.name,
            "unit": self.unit,
            "ours": self.of(OURS).map(summary),
            "peers": self.peers().map(Series::json).collect::<Vec<_>>(),
            "bound": self.bound_text(),
            "holds": self.holds().unwrap_or(true),
        })
    }
}

/// Takes one run of a bench that takes its own rounds: each row's median is the value of this round.
///
/// # Errors
/// When a line is not of the form that [`Row::json`] writes.
pub fn add_lines(rows: &mut Vec<Row>, lines: &str) -> Result<()> {
    for line in lines.lines().filter(|line| line.starts_with('{')) {
        let value: Value = serde_json::from_str(line).with_context(|| format!("failed to read a figure: {line}"))?;
        let text = |name: &str| value[name].as_str().unwrap_or_default();
        let place = rows.iter().position(|row| row.name == text("row")).unwrap_or_else(|| {
            rows.push(Row::new(text("row"), text("unit"), Bound::parse(text("bound"))));
            rows.len() - 1
        });
        let row = &mut rows[place];
        let ours = Contender {
            name: OURS.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        if let Some(median) = value["ours"]["median"].as_f64() {
            row.add(&ours, median);
        }
        for peer in value["peers"].as_array().into_iter().flatten() {
            let contender = Contender {
                name: peer["name"].as_str().unwrap_or_default().to_owned(),
                version: peer["version"].as_str().unwrap_or_default().to_owned(),
            };
            if let Some(median) = peer["median"].as_f64() {
                row.add(&contender, median);
            } else if let Some(reason) = peer["missing"].as_str() {
                row.note_trouble(&contender, reason);
            }
        }
    }
    Ok(())
}

/// Moves what the peers' programs measured for `from` into our bench's rows `to`, if there are any.
pub fn give_peers(rows: &mut Vec<Row>, from: &str, own: &mut [Row], to: &[&str]) {
    let mut targets = own.iter_mut().filter(|row| to.contains(&row.name())).peekable();
    if targets.peek().is_some()
        && let Some(place) = rows.iter().position(|row| row.name == from)
    {
        let peers = rows.remove(place).series;
        targets.for_each(|target| target.series.extend_from_slice(&peers));
    }
}

/// Peers read a clock as fine as `Instant`, so their figures belong beside ours on that clock too.
pub fn show_peers_on_instant(rows: &mut [Row]) {
    for place in 0..rows.len() {
        let Some(coarse) = rows[place].name.strip_suffix(", on Instant") else {
            continue;
        };
        let peers: Vec<Series> = rows
            .iter()
            .filter(|row| row.name == coarse)
            .flat_map(Row::peers)
            .cloned()
            .collect();
        rows[place].series.extend(peers);
    }
}

/// A suite for a person: ours first, then each peer with how many times ours it is.
pub fn table(suite: &str, rows: &[Row]) -> String {
    let mut table = String::new();
    for row in rows {
        let verdict = match row.holds() {
            None => String::new(),
            Some(true) => format!(", {}: held", row.bound_text()),
            Some(false) => format!(", {}: NOT HELD", row.bound_text()),
        };
        let _ = writeln!(table, "\n{suite}: {} [{}]{verdict}", row.name, row.unit);
        let _ = writeln!(
            table,
            "  {:32} {:>11} {:>11} {:>11} {:>9}",
            "", "min", "median", "max", "x ours"
        );
        let ours = row.of(OURS);
        for series in &row.series {
            let name = format!("{} {}", series.contender.name, series.contender.version);
            let Some(Summary { min, median, max }) = series.summary() else {
                let _ = writeln!(
                    table,
                    "  {name:32} {}",
                    series.trouble.as_deref().unwrap_or("no figure")
                );
                continue;
            };
            let _ = write!(
                table,
                "  {name:32} {:>11} {:>11} {:>11}",
                number(min),
                number(median),
                number(max)
            );
            let ratio = ours.filter(|ours| series.contender.name != OURS && ours.median > 0.0);
            if let Some(ours) = ratio {
                let _ = write!(table, " {:>9}", number(median / ours.median));
            }
            table.push('\n');
        }
    }
    table
}

/// A suite for `docs/benchmarks.md`: a line a row, each peer with its median and how many times ours that is.
pub fn markdown(suite: &str, rows: &[Row]) -> String {
    let mut table =
        format!("| {suite} | ours: median (least to most) | bound | peers: median (times ours) |\n|---|---|---|---|\n");
    for row in rows {
        let ours = row.of(OURS);
        let own = ours.map_or_else(String::new, |ours| {
            format!(
                "**{}** ({} to {})",
                number(ours.median),
                number(ours.min),
                number(ours.max)
            )
        });
        let bound = match row.holds() {
            None => String::new(),
            Some(held) => format!("{}: {}", row.bound_text(), if held { "held" } else { "**not held**" }),
        };
        let peers = row.peers().filter_map(|series| {
            let median = series.summary()?.median;
            let ratio = ours
                .filter(|ours| ours.median > 0.0)
                .map(|ours| number(median / ours.median));
            let ratio = ratio.map_or_else(String::new, |ratio| format!(" ({ratio}x)"));
            let Contender { name, version } = &series.contender;
            Some(format!("{name} {version} {}{ratio}", number(median)))
        });
        let peers = peers.collect::<Vec<_>>().join(", ");
        let _ = writeln!(table, "| {}, {} | {own} | {bound} | {peers} |", row.name, row.unit);
    }
    table
}

/// Three digits that count, and no exponent.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 1_000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_stand_beside_ours_on_their_own_clock_too() {
        let who = |name: &str| Contender {
            name: name.to_owned(),
            version: "1".to_owned(),
        };
        let mut rows = ["closed", "closed, on Instant", "open"]
            .map(|name| Row::new(name, "ns", Bound::None))
            .to_vec();
        for (row, ours) in rows.iter_mut().zip([10.0, 50.0, 4.0]) {
            row.add(&who(OURS), ours);
        }
        rows[0].add(&who("peer"), 75.0);
        rows[2].add(&who("peer"), 30.0);
        show_peers_on_instant(&mut rows);
        assert_eq!(rows[1].of("peer").unwrap().median, 75.0);
        assert_eq!(rows[1].of(OURS).unwrap().median, 50.0);
        assert_eq!(rows[2].series.len(), 2);
    }

    fn contender(name: &str) -> Contender {
        Contender {
            name: name.to_owned(),
            version: "1".to_owned(),
        }
    }

    fn row(bound: Bound, ours: &[f64], peer: &[f64]) -> Row {
        let mut row = Row::new("closed", "CPU ns/op", bound);
        for (name, values) in [(OURS, ours), ("governor", peer)] {
            for value in values {
                row.add(&contender(name), *value);
            }
        }
        row
    }

    #[test]
    fn the_median_decides_and_a_bound_without_a_figure_does_not_hold() {
        let holds = |bound, ours: &[f64], peer: &[f64]| row(bound, ours, peer).holds();
        assert_eq!(holds(Bound::AtMost(15.0), &[14.0, 99.0, 15.0], &[]), Some(true));
        assert_eq!(holds(Bound::AtMost(15.0), &[14.0, 15.2], &[]), Some(true));
        assert_eq!(holds(Bound::AtMost(15.0), &[15.2, 14.0, 15.1], &[]), Some(false));
        assert_eq!(holds(Bound::AtLeast(20.0), &[19.9], &[]), Some(false));
        assert_eq!(holds(Bound::Peer("governor"), &[20.0], &[21.0]), Some(true));
        assert_eq!(holds(Bound::Peer("governor"), &[22.0], &[21.0]), Some(false));
        assert_eq!(holds(Bound::Peer("governor"), &[20.0], &[]), Some(false));
        assert_eq!(holds(Bound::AtMost(15.0), &[], &[]), Some(false));
        assert_eq!(holds(Bound::None, &[1.0], &[]), None);
    }

    #[test]
    fn a_line_has_the_form_that_programs_read() {
        let mut row = row(Bound::AtMost(15.0), &[3.0, 1.0, 2.0], &[8.0]);
        row.note_missing("gobreaker", "go was not found");
        assert_eq!(
            row.json("breaker"),
            json!({
                "suite": "breaker", "row": "closed", "unit": "CPU ns/op",
                "ours": {"min": 1.0, "median": 2.0, "max": 3.0},
                "peers": [
                    {"name": "governor", "version": "1", "min": 8.0, "median": 8.0, "max": 8.0},
                    {"name": "gobreaker", "version": "", "missing": "go was not found"},
                ],
                "bound": "<= 15 ns", "holds": true,
            })
        );
    }

    #[test]
    fn runs_of_a_bench_with_rounds_of_its_own_become_rounds() {
        let line = |median: f64| {
            format!(
                r#"{{"suite":"outbound","row":"stack","unit":"CPU ns","ours":{{"min":1,"median":{median},"max":9}},"peers":[{{"name":"plain","version":"2","min":1,"median":7.5,"max":8}}],"bound":"<= 1000 ns","holds":true}}"#
            )
        };
        let mut own = Vec::new();
        add_lines(&mut own, &format!("a title\n{}\n", line(1_500.0))).unwrap();
        add_lines(&mut own, &line(900.0)).unwrap();
        add_lines(&mut own, &line(800.0)).unwrap();
        let mut rows = vec![row(Bound::None, &[], &[4.0])];
        give_peers(&mut rows, "closed", &mut own, &["stack"]);
        assert!(rows.is_empty());
        assert_eq!(own.len(), 1);
        assert_eq!((own[0].holds(), own[0].of(OURS).unwrap().max), (Some(true), 1_500.0));
        assert_eq!(own[0].of("plain").unwrap().median, 7.5);
        assert_eq!(own[0].of("governor").unwrap().median, 4.0);
        assert!(add_lines(&mut own, "{broken").is_err());
    }

    #[test]
    fn the_table_names_versions_ratios_and_what_is_not_held() {
        let mut row = row(Bound::AtMost(15.0), &[16.0], &[80.0]);
        row.note_missing("gobreaker", "go was not found");
        let table = table("breaker", std::slice::from_ref(&row));
        assert!(
            table.contains("breaker: closed [CPU ns/op], <= 15 ns: NOT HELD"),
            "{table}"
        );
        assert!(table.contains("governor 1") && table.contains("5.00"), "{table}");
        assert!(
            table.contains("gobreaker  ") && table.contains("go was not found"),
            "{table}"
        );
    }
}
