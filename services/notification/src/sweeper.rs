//! Delivers every message that is due. Several replicas may sweep at once; each takes other messages, and one whose
//! replica dies is taken again when its lease has run out.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use valerix_resilience::Backoff;

use crate::contacts::{ContactError, Contacts, PATIENCE};
use crate::mail::{Mail, Outcome};
use crate::message::Channel;
use crate::metrics::Metrics;
use crate::store::{self, Taken};

/// Messages that are delivered side by side.
const PLACES: usize = 8;
/// How much longer than asking and sending a message is nobody else's.
const MARGIN: Duration = Duration::from_secs(30);
/// The longest pause, as a power of two of the first.
const LARGEST_DOUBLING: i32 = 9;
/// The pauses between attempts to write down what became of a message.
const FIRST_REWRITE: Duration = Duration::from_millis(100);
const LONGEST_REWRITE: Duration = Duration::from_secs(2);
const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);

/// The sweeper of one replica.
#[derive(Clone)]
pub struct Sweeper {
    /// The database.
    pub pool: PgPool,
    /// Finds out where messages go.
    pub contacts: Contacts,
    /// Takes e-mails.
    pub mail: Mail,
    /// Counts outcomes.
    pub metrics: Metrics,
    /// Rung when there is something to deliver at once.
    pub wake: Arc<Notify>,
    /// Pause between two looks when nobody rings.
    pub pause: Duration,
    /// How long the mail server may take for an answer.
    pub send_timeout: Duration,
    /// How often the mail server may put a message off, or not say what it did with it.
    pub attempts: i32,
    /// The pause after the first failure.
    pub first_pause: Duration,
    /// After that a message is given up.
    pub expiry: Duration,
}

/// What is written down after an attempt.
enum Verdict {
    End(&'static str, Option<String>),
    Again { counted: bool, reason: String },
}

impl Sweeper {
    /// Sweeps until `stop`, and finishes what is under way.
    pub async fn run(self, stop: CancellationToken) {
        let sweeper = Arc::new(self);
        let mut running = JoinSet::new();
        while !stop.is_cancelled() {
            while let Some(ended) = running.try_join_next() {
                report(ended);
            }
            let full = sweeper.take_up(&mut running).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "a look for due messages failed");
                false
            });
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = running.join_next(), if full => report(ended),
                () = sweeper.wake.notified(), if !full => {}
                () = tokio::time::sleep(sweeper.pause) => {}
            }
        }
        // Cut short, an e-mail may have been taken without anybody knowing.
        while let Some(ended) = running.join_next().await {
            report(ended);
        }
    }

    /// Takes up as many messages as there are places. Says whether all places are taken.
    async fn take_up(self: &Arc<Self>, running: &mut JoinSet<()>) -> Result<bool, sqlx::Error> {
        let free = PLACES - running.len().min(PLACES);
        if free == 0 {
            return Ok(true);
        }
        // Once to see whether the server is there, once to send.
        let lease = self.send_timeout * 2 + PATIENCE + MARGIN;
        // Before the lease is written down, so that it is over here before it is there.
        let until = Instant::now() + lease;
        let limit = i64::try_from(free).unwrap_or(1);
        let taken = store::take(&self.pool, limit, lease, self.expiry).await?;
        let full = taken.len() == free;
        for taken in taken {
            let sweeper = Arc::clone(self);
            running.spawn(async move { sweeper.settle(&taken, until).await });
        }
        Ok(full)
    }

    /// Delivers one message and writes down what became of it, again and again until its lease ends: a message that was
    /// sent and is not known to be is sent twice.
    async fn settle(&self, taken: &Taken, until: Instant) {
        let verdict = self.judge(taken, self.deliver(taken).await);
        let status = match &verdict {
            Verdict::End(status, _) => status.to_ascii_lowercase(),
            Verdict::Again { reason, .. } => {
                tracing::info!(notification = %taken.id, reason, "a message has to wait");
                "postponed".to_owned()
            }
        };
        self.metrics.ended(taken.channel(), &status);
        let mut backoff = Backoff::new(FIRST_REWRITE, LONGEST_REWRITE);
        while let Err(error) = self.write_down(taken, &verdict).await {
            let next = Instant::now() + backoff.next_delay();
            if next >= until {
                tracing::warn!(notification = %taken.id, %error, "what became of a message was not written down");
                return;
            }
            tokio::time::sleep_until(next).await;
        }
    }

    async fn write_down(&self, taken: &Taken, verdict: &Verdict) -> Result<(), sqlx::Error> {
        match verdict {
            Verdict::End(status, reason) => store::finish(&self.pool, taken, status, reason.as_deref()).await,
            Verdict::Again { counted, reason } => {
                let doublings = (taken.taken - 1).clamp(0, LARGEST_DOUBLING);
                let pause = self.first_pause * 2_u32.pow(doublings.unsigned_abs());
                store::postpone(&self.pool, taken, pause, *counted, reason).await
            }
        }
    }

    /// A message that was put off too often, or waited too long, is given up.
    fn judge(&self, taken: &Taken, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Again { counted, reason } if counted && taken.failures + 1 >= self.attempts => {
                Verdict::End("FAILED", Some(reason))
            }
            Verdict::Again { reason, .. } if taken.expired => Verdict::End("FAILED", Some(reason)),
            other => other,
        }
    }

    async fn deliver(&self, taken: &Taken) -> Verdict {
        let skipped = |reason: &str| Verdict::End("SKIPPED", Some(reason.to_owned()));
        let Some(user) = taken.user_id else {
            return skipped("GUEST");
        };
        let contact = match self.contacts.of(user).await {
            Ok(contact) => contact,
            Err(ContactError::Gone) => return skipped("USER_GONE"),
            Err(ContactError::NobodyToAsk) => return skipped("NO_AUTH"),
            Err(error @ (ContactError::Unknown(_) | ContactError::Store(_))) => {
                return Verdict::Again {
                    counted: false,
                    reason: error.to_string(),
                };
            }
        };
        match taken.channel() {
            // There is no provider of SMS.
            Channel::Sms if contact.phone.is_some() => Verdict::End("RECORDED", None),
            Channel::Sms => skipped("NO_PHONE"),
            Channel::Email => {
                let Some(address) = contact.email else {
                    return skipped("NO_EMAIL");
                };
                match self
                    .mail
                    .send(taken.event_id, &address, &taken.subject, &taken.body)
                    .await
                {
                    Outcome::Sent => Verdict::End("SENT", None),
                    Outcome::Recorded => Verdict::End("RECORDED", None),
                    Outcome::Never(reason) => Verdict::End("FAILED", Some(reason)),
                    // Counted, or a server that takes messages and never says so would get one for ever.
                    Outcome::Later(reason) | Outcome::Unclear(reason) => Verdict::Again { counted: true, reason },
                    Outcome::Away(reason) => Verdict::Again { counted: false, reason },
                }
            }
        }
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a delivery panicked, its message falls due again");
    }
}

/// Forgets what is too old, until `stop`.
pub async fn forget(pool: PgPool, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match store::prune(&pool, store::RETENTION).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "old notifications were not deleted, trying again in an hour"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(PRUNE_INTERVAL) => {}
        }
    }
}
