//! What test programs said. In: their output. Out: how many tests passed, and why others did not.

use anyhow::{Result, ensure};

use crate::steps::Log;

/// Lines of a failed test's output that are shown.
const SHOWN_LINES: usize = 20;

/// Tests that ran.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
}

/// Adds up the tests of a run, says why those that failed did, and refuses a run without any.
///
/// # Errors
/// That of `outcome`, or when no test ran.
pub fn judge(outcome: Result<()>, count: &mut Count, log: &Log) -> Result<()> {
    let text = log.text()?;
    let counted = count_rust(&text);
    count.add(counted);
    log.say(&format!(
        "{} passed, {} failed, {} ignored",
        counted.passed, counted.failed, counted.ignored
    ));
    for name in failed_tests(&text) {
        log.say(&format!("failed: {name}"));
        for line in said_by(&text, name) {
            log.say(&format!("  | {line}"));
        }
    }
    outcome?;
    ensure!(counted.passed > 0, "no test ran");
    Ok(())
}

impl Count {
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// Adds up lines such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
fn count_rust(text: &str) -> Count {
    let mut count = Count::default();
    for line in text.lines().filter(|line| line.starts_with("test result: ")) {
        let number = |what: &str| {
            let words: Vec<&str> = line.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
            words
                .windows(2)
                .find(|pair| pair[1] == what)
                .and_then(|pair| pair[0].parse().ok())
                .unwrap_or(0)
        };
        count.add(Count {
            passed: number("passed"),
            failed: number("failed"),
            ignored: number("ignored"),
        });
    }
    count
}

fn failed_tests(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .collect()
}

/// What a failed test printed, without the stack: the harness repeats it under a title of its own. Its beginning, which
/// is where the reason stands. A panic's stack and an error's begin with the same words, spelled differently.
fn said_by<'text>(text: &'text str, name: &str) -> Vec<&'text str> {
    let (_, said) = text
        .split_once(&format!("\n---- {name} stdout ----\n"))
        .unwrap_or_default();
    said.lines()
        .take_while(|line| {
            !line.starts_with("---- ") && *line != "failures:" && !line.eq_ignore_ascii_case("stack backtrace:")
        })
        .filter(|line| !line.is_empty())
        .take(SHOWN_LINES)
        .collect()
}

/// Counts the top-level results of `go test -v`.
pub fn count_go(text: &str) -> Count {
    let starting = |with: &str| u64::try_from(text.lines().filter(|line| line.starts_with(with)).count()).unwrap_or(0);
    Count {
        passed: starting("--- PASS:"),
        failed: starting("--- FAIL:"),
        ignored: starting("--- SKIP:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_results_are_added_up() {
        let text = "running 4 tests\ntest a ... ok\ntest b::c ... FAILED\n\
                    test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
                    test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
        assert_eq!(
            count_rust(text),
            Count {
                passed: 7,
                failed: 1,
                ignored: 1
            }
        );
        assert_eq!(failed_tests(text), ["b::c"]);
    }

    #[test]
    fn the_reason_of_a_failure_is_shown_without_its_stack() {
        let text = "test a ... FAILED\ntest b ... FAILED\n\nfailures:\n\n---- a stdout ----\n\n\
                    thread 'a' panicked at src/a.rs:1:1:\n3 retries, 2 allowed\nstack backtrace:\n   0: main\n\n\
                    ---- b stdout ----\nError: another\n\nStack backtrace:\n   0: main\n\n\nfailures:\n    a\n    b\n";
        assert_eq!(
            said_by(text, "a"),
            ["thread 'a' panicked at src/a.rs:1:1:", "3 retries, 2 allowed"]
        );
        assert_eq!(said_by(text, "b"), ["Error: another"]);
        assert!(said_by(text, "c").is_empty());
    }

    #[test]
    fn go_results_are_counted_without_subtests() {
        let text = "--- PASS: TestA (0.00s)\n    --- PASS: TestA/sub (0.00s)\n--- SKIP: TestB (0.00s)\n";
        assert_eq!(
            count_go(text),
            Count {
                passed: 1,
                failed: 0,
                ignored: 1
            }
        );
    }

    #[test]
    fn a_run_without_tests_fails() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = Log::create(folder.path().join("log")).expect("a log");
        let error = judge(Ok(()), &mut Count::default(), &log).expect_err("it fails");
        assert_eq!(error.to_string(), "no test ran");
    }
}
