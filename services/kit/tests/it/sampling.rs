//! Which traces are exported is what `OTEL_TRACES_SAMPLER` says, and whoever is called hears of it. The export belongs to
//! a process, so each case is this test binary started again.

use std::process::Command;

use tracing::info_span;
use valerix_kit::telemetry::{self, outbound_headers, traced};
use valerix_kit::testing::collector::Collector;
use valerix_kit::testing::service_args;

/// Set where the binary is one that makes spans.
const CHILD: &str = "VALERIX_TEST_SAMPLED";
const KEPT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const DROPPED: &str = "00-7bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// Not a test when the whole suite runs: makes a span without a caller and one below each of two, and writes down what whoever
/// it called would be told.
#[test]
fn sampled_process() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let export = telemetry::start(&service_args("sampled"), &runtime);
    for caller in ["", KEPT, DROPPED] {
        let span = info_span!(target: "valerix_kit::sampling", parent: None, "work", trace_id = tracing::field::Empty);
        runtime.block_on(traced(span, caller, async {
            println!("told {}", outbound_headers()["traceparent"].to_str().unwrap());
        }));
    }
    export.unwrap().end();
}

/// Which of the three were exported, and of which a callee was told so.
async fn kept(sampler: &[(&str, &str)]) -> ([bool; 3], [bool; 3]) {
    let collector = Collector::start().await;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["sampling::sampled_process", "--exact", "--nocapture"])
        .env_remove("OTEL_TRACES_SAMPLER")
        .env_remove("OTEL_TRACES_SAMPLER_ARG")
        .env(CHILD, "1")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        .envs(sampler.iter().copied());
    let ended = tokio::task::spawn_blocking(move || child.output())
        .await
        .unwrap()
        .unwrap();
    let output = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(
        ended.status.success(),
        "{output}{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    let told: Vec<Vec<&str>> = output
        .lines()
        // The first may stand behind what the harness writes.
        .filter_map(|line| Some(line.split_once("told ")?.1.split('-').collect()))
        .collect();
    let told: [Vec<&str>; 3] = told.try_into().unwrap_or_else(|_| panic!("{output}"));
    // It ends with its last spans sent, or not at all.
    let exported = told.each_ref().map(|told| collector.trace(told[1]).len() == 1);
    (exported, told.map(|told| told[3] == "01"))
}

#[tokio::test]
async fn what_the_sampler_leaves_out_is_not_exported_and_callees_are_told() {
    let name = |name| ("OTEL_TRACES_SAMPLER", name);
    let share = |share| ("OTEL_TRACES_SAMPLER_ARG", share);
    // Without a caller, below one whose trace is kept, below one whose trace is not.
    for (sampler, expected) in [
        (vec![], [true, true, false]),
        (vec![name("always_on")], [true, true, true]),
        (vec![name("always_off")], [false, false, false]),
        (vec![name("traceidratio"), share("0")], [false, false, false]),
        (vec![name("traceidratio"), share("1")], [true, true, true]),
        (vec![name("parentbased_traceidratio"), share("0")], [false, true, false]),
        (vec![name("parentbased_traceidratio"), share("1")], [true, true, false]),
        (vec![name("parentbased_always_off")], [false, true, false]),
    ] {
        let (exported, told) = kept(&sampler).await;
        assert_eq!(exported, expected, "exported with {sampler:?}");
        assert_eq!(told, expected, "told with {sampler:?}");
    }
}
