//! What an answer of the object store says about what happened: the words of the decision table. Pure.

use super::Error;
use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
};

/// The longest text of a store that is passed on. Unit: characters.
const MAX_TEXT: usize = 300;
/// What stores say of temporary credentials whose time is over.
const EXPIRED: [&str; 3] = ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"];

/// What a call came to that did not end well.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing lies there.
    Absent,
    /// The condition not to overwrite was not met: something lies there.
    Exists,
    /// The store understood the request and has not done it.
    Refused { why: String },
    /// The store does not know the condition.
    NoConditions { why: String },
    /// The credentials were temporary, and are over: the store has done nothing.
    Expired { why: String },
    /// It may have been done, or not.
    Unclear { why: String },
    /// The store's certificate is not trusted: nothing was sent.
    Untrusted { why: String },
}

/// Reads an error of the client.
pub(super) fn read<E>(error: &SdkError<E, HttpResponse>) -> Answer
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let Some(response) = error.raw_response() else {
        let why = shortened(&DisplayErrorContext(error).to_string());
        return if why.contains("invalid peer certificate") {
            Answer::Untrusted { why }
        } else {
            match error {
                SdkError::ConstructionFailure(_) => Answer::Refused { why },
                _ => Answer::Unclear { why },
            }
        };
    };
    let (code, message) = match error {
        SdkError::ServiceError(service) => (service.err().code(), service.err().message()),
        _ => (None, None),
    };
    of_status(response.status().as_u16(), code, message)
}

fn of_status(status: u16, code: Option<&str>, message: Option<&str>) -> Answer {
    let said: Vec<_> = [code, message].into_iter().flatten().collect();
    let why = if said.is_empty() {
        format!("it answered {status}")
    } else {
        shortened(&format!("it answered {status}: {}", said.join(": ")))
    };
    match (status, code) {
        (400..=403, Some(code)) if EXPIRED.contains(&code) => Answer::Expired { why },
        (404, Some("NoSuchBucket")) => Answer::Refused { why },
        (404, _) => Answer::Absent,
        (412, _) => Answer::Exists,
        (501, _) | (400, Some("NotImplemented")) => Answer::NoConditions { why },
        // A conflicting request may be one that has stored, a throttled one may have been passed on.
        (408 | 409 | 429, _) => Answer::Unclear { why },
        (300..=499, _) => Answer::Refused { why },
        _ => Answer::Unclear { why },
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

impl Answer {
    /// As an error of something that was read.
    pub(super) fn of_reading(self, action: &'static str, place: &str) -> Error {
        let place = place.to_owned();
        match self {
            Self::Refused { why } | Self::NoConditions { why } => Error::Refused { action, place, why },
            Self::Expired { why } => Error::Expired { action, place, why },
            Self::Untrusted { why } => Error::Untrusted { place, why },
            Self::Unclear { why } => Error::Call { action, place, why },
            Self::Absent => Error::Refused {
                action,
                place,
                why: "nothing lies there".into(),
            },
            Self::Exists => Error::Refused {
                action,
                place,
                why: "it answered 412".into(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_certainly_not_done_is_a_refusal() {
        let word = |status, code| match of_status(status, code, None) {
            Answer::Absent => "absent",
            Answer::Exists => "exists",
            Answer::Refused { .. } => "refused",
            Answer::NoConditions { .. } => "no conditions",
            Answer::Expired { .. } => "expired",
            Answer::Unclear { .. } => "unclear",
            Answer::Untrusted { .. } => "untrusted",
        };
        for (status, code, expected) in [
            (404, None, "absent"),
            (404, Some("NoSuchKey"), "absent"),
            (404, Some("NoSuchBucket"), "refused"),
            (412, Some("PreconditionFailed"), "exists"),
            (409, Some("ConditionalRequestConflict"), "unclear"),
            (408, None, "unclear"),
            (429, None, "unclear"),
            (500, Some("InternalError"), "unclear"),
            (503, Some("SlowDown"), "unclear"),
            (501, Some("NotImplemented"), "no conditions"),
            (400, Some("BadDigest"), "refused"),
            (301, Some("PermanentRedirect"), "refused"),
            (403, Some("AccessDenied"), "refused"),
            (400, Some("ExpiredToken"), "expired"),
            (403, Some("ExpiredTokenException"), "expired"),
            (503, Some("ExpiredToken"), "unclear"),
            (413, Some("EntityTooLarge"), "refused"),
        ] {
            assert_eq!(word(status, code), expected, "{status} {code:?}");
        }
    }
}
