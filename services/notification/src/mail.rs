//! E-mail by SMTP, or recorded where there is no mail server.

use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use uuid::Uuid;
use valerix_kit::args::Secret;

use crate::config::Config;

/// The way that e-mails go.
#[derive(Clone)]
pub enum Mail {
    /// There is no mail server: they are recorded.
    Recorded,
    /// To this server.
    Smtp {
        /// Its connections.
        server: AsyncSmtpTransport<Tokio1Executor>,
        /// From whom e-mails come.
        from: Mailbox,
        /// How long the server may take for one.
        timeout: Duration,
    },
    /// `SMTP_URL` can not be used: they wait until it is corrected.
    Misconfigured,
}

/// What became of an e-mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server has taken it.
    Sent,
    /// It is written down, nobody was told.
    Recorded,
    /// The server has not taken this message now; the same again may work.
    Later(String),
    /// Nothing was said about this message: the server is not reached, does not answer or does not accept us.
    Away(String),
    /// The server spoke with us, and what it did with the message is not known: it may have been taken.
    Unclear(String),
    /// It will never be taken.
    Never(String),
}

impl Mail {
    /// The way that the configuration names. A URL that can not be used is said here once: a service that records and
    /// counts must not fail to start for it.
    #[must_use]
    pub fn open(config: &Config) -> Self {
        let Some(url) = &config.smtp_url else {
            tracing::warn!("SMTP_URL is not set: e-mails are recorded and not sent");
            return Self::Recorded;
        };
        // The error may show the URL, and with it the password.
        let Ok(server) = AsyncSmtpTransport::<Tokio1Executor>::from_url(Secret::expose(url)) else {
            tracing::error!("SMTP_URL can not be used: e-mails wait until it is smtp://host or smtps://host");
            return Self::Misconfigured;
        };
        Self::Smtp {
            server: server.timeout(Some(config.smtp_timeout)).build(),
            from: config.smtp_from.clone(),
            timeout: config.smtp_timeout,
        }
    }

    /// Sends one e-mail about `event` to `address`. Its `Message-ID` follows from the event: what is sent again because
    /// nobody knows whether it was taken can be recognised.
    pub async fn send(&self, event: Uuid, address: &str, subject: &str, body: &str) -> Outcome {
        let (server, from, timeout) = match self {
            Self::Recorded => return Outcome::Recorded,
            Self::Misconfigured => return Outcome::Away("SMTP_URL can not be used".into()),
            Self::Smtp { server, from, timeout } => (server, from, *timeout),
        };
        let Ok(address) = address.parse() else {
            return Outcome::Never("the user's address is none".into());
        };
        let message = Message::builder()
            .from(from.clone())
            .to(Mailbox::new(None, address))
            .message_id(Some(format!("<{event}.email@{}>", from.email.domain())))
            .subject(subject)
            .header(ContentType::TEXT_PLAIN)
            .body(body.to_owned());
        let message = match message {
            Ok(message) => message,
            Err(error) => return Outcome::Never(format!("the e-mail can not be written: {error}")),
        };
        let silent = || format!("the mail server did not answer within {} ms", timeout.as_millis());
        // A failure of this says that the server knows nothing of the message; one of the next line does not.
        match tokio::time::timeout(timeout, server.test_connection()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return failed(&error, Outcome::Away),
            Err(_) => return Outcome::Away(silent()),
        }
        match tokio::time::timeout(timeout, server.send(message)).await {
            Ok(Ok(_)) => Outcome::Sent,
            Ok(Err(error)) => failed(&error, Outcome::Unclear),
            Err(_) => Outcome::Unclear(silent()),
        }
    }
}

/// What a failure means, `without` an answer of the server too. What it says is not repeated: it likes to name the address.
fn failed(error: &lettre::transport::smtp::Error, without: fn(String) -> Outcome) -> Outcome {
    let Some(code) = error.status().map(|code| code.to_string()) else {
        let what = if error.is_tls() {
            "TLS with the mail server failed"
        } else {
            "the mail server is not reached"
        };
        return without(what.into());
    };
    let reason = format!("the mail server refused it with {code}");
    // It closes, does not know us, or wants TLS: the same for every message.
    let general = ["421", "454", "530", "534", "535", "538"].contains(&code.as_str());
    if general {
        Outcome::Away(reason)
    } else if error.is_permanent() {
        Outcome::Never(reason)
    } else {
        Outcome::Later(reason)
    }
}
