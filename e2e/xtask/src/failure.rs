//! What a person is told when something fails: the reason (an error chain) and, where one is known, the remedy.

use std::fmt;
use std::process::ExitCode;

/// An error together with what to do about it.
#[derive(Debug)]
pub struct Failure {
    source: anyhow::Error,
    remedy: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#}", self.source)
    }
}

impl std::error::Error for Failure {}

/// Marks an error that has already been shown with its reason, remedy and log.
#[derive(Debug)]
pub struct Shown;

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a step failed; its reason is above")
    }
}

impl std::error::Error for Shown {}

/// Adds a remedy to the error of a result.
pub trait WithRemedy<T> {
    /// Wraps the error so that [`remedy_of`] finds `remedy` again.
    fn remedy(self, remedy: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithRemedy<T> for Result<T, E> {
    fn remedy(self, remedy: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| {
            anyhow::Error::new(Failure {
                source: error.into(),
                remedy: remedy.into(),
            })
        })
    }
}

/// The remedy that was attached nearest to the top of the error, if any.
pub fn remedy_of(error: &anyhow::Error) -> Option<&str> {
    error.downcast_ref::<Failure>().map(|failure| failure.remedy.as_str())
}

/// How a command ends: tells what was not shown yet.
pub fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    if !error.is::<Shown>() {
        eprintln!("error: {error:#}");
        if let Some(remedy) = remedy_of(&error) {
            eprintln!("remedy: {remedy}");
        }
    }
    ExitCode::FAILURE
}

/// At most `limit` characters of `text`, with a mark where it was cut.
pub fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars()
        .take(limit.saturating_sub(1))
        .chain(std::iter::once('…'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn a_remedy_survives_further_context() {
        let error = Err::<(), _>(anyhow!("no route"))
            .remedy("plug the cable in")
            .context("failed to call the API server")
            .expect_err("it is an error");
        assert_eq!(remedy_of(&error), Some("plug the cable in"));
        assert_eq!(format!("{error:#}"), "failed to call the API server: no route");
    }

    #[test]
    fn long_text_is_cut_by_characters() {
        assert_eq!(shorten("äöü", 3), "äöü");
        assert_eq!(shorten("äöüß", 3), "äö…");
    }
}
