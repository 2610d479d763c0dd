//! Reads a group's events and hands them to a [`Handler`], several at once.
//!
//! What a handler refuses is tried again after a pause while the others go on; after five errors, counted in Redis
//! across consumers, the event is moved to the dead-letter stream. Deliveries are not counted for that: a consumer that
//! is killed would raise them. An event with 20 deliveries is suspected of killing: it is run alone, before the others.
//! What is in the way (a database that is away) is not counted at all.

mod attempt;
mod backlog;
mod reading;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::backlog::{Backlog, Work};
use super::{Delivery, EventBus, Handler, Subscription};
use crate::metrics::Metrics;

/// How a consumer behaves.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// Events handled at once.
    pub concurrency: usize,
    /// Errors after which an event becomes a dead letter.
    pub max_errors: u32,
    /// Deliveries from which on an event is run alone.
    pub alone_from: u64,
    /// How long a consumer that lives may leave an event lying before this one takes it over. More than `handler_timeout`.
    pub claim_idle: Duration,
    /// How often this consumer looks for such events, and trims and measures its streams.
    pub claim_interval: Duration,
    /// How often this consumer says that it lives, and looks for what consumers have left that do not.
    pub lease_interval: Duration,
    /// How long a consumer that is gone and has left nothing is remembered.
    pub remembered: Duration,
    /// How long a handler may take; after that it counts as an error.
    pub handler_timeout: Duration,
    /// The pause after the first error; it doubles.
    pub retry_base: Duration,
    /// The longest pause.
    pub retry_max: Duration,
    /// How long one read waits for new events.
    pub read_wait: Duration,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            concurrency: 8,
            max_errors: 5,
            alone_from: 20,
            claim_idle: Duration::from_secs(30),
            claim_interval: Duration::from_secs(5),
            lease_interval: Duration::from_secs(1),
            remembered: Duration::from_secs(60),
            handler_timeout: Duration::from_secs(20),
            retry_base: Duration::from_millis(200),
            retry_max: Duration::from_secs(5),
            read_wait: Duration::from_secs(2),
        }
    }
}

/// More events than this waiting for another attempt: nothing new is read.
const MAX_WAITING: usize = 256;
/// How long handlers may finish when the consumer is told to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// One consumer of one group.
#[derive(Clone)]
pub struct Consumer {
    bus: Arc<dyn EventBus>,
    subscription: Subscription,
    handler: Arc<dyn Handler>,
    options: ConsumerOptions,
    metrics: Metrics,
}

impl Consumer {
    /// A consumer that hands the events of `subscription` to `handler`.
    pub fn new(
        bus: Arc<dyn EventBus>,
        subscription: Subscription,
        handler: Arc<dyn Handler>,
        metrics: Metrics,
    ) -> Self {
        Self {
            bus,
            subscription,
            handler,
            options: ConsumerOptions::default(),
            metrics,
        }
    }

    /// Behaves by `options` instead of the defaults.
    #[must_use]
    pub fn with_options(mut self, options: ConsumerOptions) -> Self {
        self.options = options;
        self
    }

    /// Consumes until `stop`, connecting again whenever the bus is lost; then handles what has been read.
    ///
    /// # Panics
    /// When the reader does: a consumer that never reads again must not look alive.
    pub async fn run(self, stop: CancellationToken) {
        let consumer = Arc::new(self);
        let (sender, receiver) = mpsc::channel(1);
        let reader = tokio::spawn(Arc::clone(&consumer).read(sender, stop.clone()));
        let upkeep = tokio::spawn(Arc::clone(&consumer).keep_up(stop.clone()));
        // Ends with this consumer however that ends.
        let lease = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&consumer).hold()));
        consumer.work(receiver, stop).await;
        upkeep.abort();
        reader.abort();
        drop(lease);
        // What was not finished in time is another's now.
        if let Err(error) = consumer.bus.release(&consumer.subscription).await {
            tracing::debug!(%error, "the consumer's lease ends by itself");
        }
        if let Err(error) = reader.await
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }

    async fn work(self: &Arc<Self>, mut receiver: mpsc::Receiver<Vec<Delivery>>, stop: CancellationToken) {
        let mut backlog = Backlog::default();
        let mut running: JoinSet<(Work, Next)> = JoinSet::new();
        let (mut alone, mut reading) = (false, true);
        let mut deadline: Option<Instant> = None;
        loop {
            if deadline.is_none() && (stop.is_cancelled() || !reading) {
                deadline = Some(Instant::now() + STOP_TIMEOUT);
            }
            if deadline.is_none() {
                backlog.wake(Instant::now(), self.options.alone_from);
            }
            self.start(&mut backlog, &mut running, &mut alone);
            // What has been read is handled still: left pending, it would wait for `claim_idle`. So the reader ends by
            // itself, and what its last read brings is waited for.
            if deadline.is_some_and(|deadline| (!reading && running.is_empty()) || Instant::now() >= deadline) {
                return;
            }
            let next_retry = backlog.waiting.first_key_value().map(|((until, _), _)| *until);
            let room = backlog.ready.is_empty() && backlog.waiting.len() < MAX_WAITING;
            let hungry = reading && (room || deadline.is_some());
            tokio::select! {
                Some(done) = running.join_next() => {
                    if running.is_empty() { alone = false; }
                    self.settle(done, &mut backlog);
                }
                read = receiver.recv(), if hungry => match read {
                    Some(deliveries) => backlog.add(deliveries, &self.options),
                    None => reading = false,
                },
                () = sleep_until(deadline.or(next_retry)) => {}
                () = stop.cancelled(), if deadline.is_none() => {}
            }
        }
    }

    fn start(self: &Arc<Self>, backlog: &mut Backlog, running: &mut JoinSet<(Work, Next)>, alone: &mut bool) {
        if *alone {
            return;
        }
        if !backlog.alone.is_empty() {
            if running.is_empty()
                && let Some(work) = backlog.alone.pop_front()
            {
                *alone = true;
                running.spawn(Arc::clone(self).attempt(work));
            }
            return;
        }
        while running.len() < self.options.concurrency
            && let Some(work) = backlog.ready.pop_front()
        {
            running.spawn(Arc::clone(self).attempt(work));
        }
    }

    fn settle(&self, done: Result<(Work, Next), JoinError>, backlog: &mut Backlog) {
        match done {
            Ok((work, Next::Settled)) => {
                backlog.known.remove(&work.key());
            }
            Ok((mut work, Next::Again)) => {
                let pause = work.pauses.next_delay();
                backlog.wait(work, Instant::now() + pause);
            }
            // Handlers panic in a task of their own; this would be a mistake in this file. The event stays pending and
            // is claimed later.
            Err(error) => tracing::error!(%error, "the consumer failed"),
        }
    }
}

/// What becomes of a delivery after an attempt.
enum Next {
    Settled,
    Again,
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
