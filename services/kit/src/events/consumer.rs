//! Reads a group's events and hands them to a [`Handler`], several at once.
//!
//! What a handler refuses is tried again after a pause while the others go on; after five errors, counted in Redis
//! across consumers, the event is moved to the dead-letter stream. Deliveries are not counted for that: a consumer that
//! is killed would raise them. An event with 20 deliveries is suspected of killing: it is run alone, before the others.
//! What is in the way (a database that is away) is not counted at all.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use valerix_resilience::Backoff;

use super::{BusError, Delivery, EventBus, EventSource, Handler, HandlerError, LastFailure, Subscription};
use crate::metrics::Metrics;
use crate::telemetry::{conventions, traced};

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

/// A delivery, and the pauses after it was in vain on this consumer.
struct Work {
    delivery: Delivery,
    pauses: Backoff,
}

type Key = (String, String);

impl Work {
    fn key(&self) -> Key {
        (self.delivery.topic.clone(), self.delivery.entry.clone())
    }
}

/// What becomes of a delivery after an attempt.
enum Next {
    Settled,
    Again,
}

/// What is known about every delivery that is not settled.
#[derive(Default)]
struct Backlog {
    /// Suspects, run alone.
    alone: VecDeque<Work>,
    ready: VecDeque<Work>,
    /// Waiting for their next attempt; the number makes equal moments distinct.
    waiting: BTreeMap<(Instant, u64), Work>,
    known: HashSet<Key>,
    sequence: u64,
}

impl Backlog {
    fn add(&mut self, deliveries: Vec<Delivery>, options: &ConsumerOptions) {
        for delivery in deliveries {
            let pauses = Backoff::new(options.retry_base, options.retry_max);
            let work = Work { delivery, pauses };
            // Own entries come back by a re-read or a claim while they are being worked on.
            if self.known.insert(work.key()) {
                if work.delivery.deliveries >= options.alone_from {
                    self.alone.push_back(work);
                } else {
                    self.ready.push_back(work);
                }
            }
        }
    }

    fn wait(&mut self, work: Work, until: Instant) {
        self.sequence += 1;
        self.waiting.insert((until, self.sequence), work);
    }

    fn wake(&mut self, now: Instant, alone_from: u64) {
        while let Some(entry) = self.waiting.first_entry()
            && entry.key().0 <= now
        {
            let work = entry.remove();
            if work.delivery.deliveries >= alone_from {
                self.alone.push_back(work);
            } else {
                self.ready.push_back(work);
            }
        }
    }
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

    /// Says again and again that this consumer lives, for as long as it handles events.
    async fn hold(self: Arc<Self>) {
        loop {
            self.hold_once().await;
            tokio::time::sleep(self.options.lease_interval).await;
        }
    }

    /// A Redis that is full takes no lease and is read from all the same: a peer that handles an event, too, finds it in the
    /// inbox.
    async fn hold_once(&self) {
        if let Err(error) = self.bus.hold(&self.subscription).await {
            tracing::debug!(%error, "the consumer's lease was not renewed");
        }
    }

    /// Reads into the channel. A task of its own, because a read that is dropped would leave its events unseen.
    async fn read(self: Arc<Self>, sender: mpsc::Sender<Vec<Delivery>>, stop: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut last = LastFailure::default();
        while !stop.is_cancelled() && !sender.is_closed() {
            if let Err(error) = self.read_connection(&sender, &stop, &mut backoff, &mut last).await {
                let delay = backoff.next_delay();
                if last.is_new(&error) {
                    tracing::warn!(%error, "the event bus was lost, connecting again until it answers");
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(delay) => {}
                }
            }
        }
    }

    async fn read_connection(
        &self,
        sender: &mpsc::Sender<Vec<Delivery>>,
        stop: &CancellationToken,
        backoff: &mut Backoff,
        last: &mut LastFailure,
    ) -> Result<(), BusError> {
        let mut source: Box<dyn EventSource> = self.bus.subscribe(&self.subscription).await?;
        // Before anything is read that would be taken from a consumer without a lease.
        self.hold_once().await;
        // What this consumer got and did not finish comes before anything new.
        let pending = source.pending().await?;
        backoff.reset();
        if !pending.is_empty() && sender.send(pending).await.is_err() {
            return Ok(());
        }
        let (mut claimed, mut looked): (Option<Instant>, Option<Instant>) = (None, None);
        while !stop.is_cancelled() {
            if looked.is_none_or(|last| last.elapsed() >= self.options.lease_interval) {
                looked = Some(Instant::now());
                let left = source.claim_gone(self.options.remembered, MAX_WAITING).await?;
                if !left.is_empty() && sender.send(left).await.is_err() {
                    return Ok(());
                }
            }
            if claimed.is_none_or(|last| last.elapsed() >= self.options.claim_interval) {
                claimed = Some(Instant::now());
                let stale = source.claim_stale(self.options.claim_idle, MAX_WAITING).await?;
                if !stale.is_empty() && sender.send(stale).await.is_err() {
                    return Ok(());
                }
            }
            // Room first: what is read belongs to this consumer, and nobody else takes it for a while.
            let Ok(permit) = sender.reserve().await else {
                return Ok(());
            };
            if stop.is_cancelled() {
                break;
            }
            let wait = self.options.read_wait.min(self.options.lease_interval);
            let deliveries = source.next(self.options.concurrency * 4, wait).await?;
            last.clear();
            if !deliveries.is_empty() {
                permit.send(deliveries);
            }
        }
        Ok(())
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

    /// Handles one delivery once and tells the bus.
    async fn attempt(self: Arc<Self>, work: Work) -> (Work, Next) {
        let delivery = &work.delivery;
        let (label, told) = match self.handle(delivery).await {
            Ok(()) => ("handled", self.bus.acknowledge(delivery).await.map(|()| Next::Settled)),
            Err(HandlerError::Unavailable(reason)) => {
                tracing::warn!(
                    topic = delivery.topic,
                    entry = delivery.entry,
                    reason,
                    "an event has to wait"
                );
                ("unavailable", Ok(Next::Again))
            }
            Err(HandlerError::Failed(reason)) => ("failed", self.count(delivery, &reason).await),
        };
        self.metrics
            .events_handled
            .with_label_values(&[delivery.topic.as_str(), delivery.group.as_str(), label])
            .inc();
        let next = told.unwrap_or_else(|error| {
            // Handled but not acknowledged: it is handled again and found in the inbox.
            tracing::warn!(%error, topic = delivery.topic, entry = delivery.entry, "an event could not be settled");
            Next::Again
        });
        (work, next)
    }

    /// Runs the handler in a task of its own, so that neither a panic nor a timeout takes more than this event along.
    async fn handle(&self, delivery: &Delivery) -> Result<(), HandlerError> {
        let event = match &delivery.event {
            Ok(event) => event.clone(),
            Err(malformed) => return Err(HandlerError::failed(malformed.reason.clone())),
        };
        let span = conventions::event(&event, &delivery.topic, &delivery.group);
        let (handler, traceparent) = (Arc::clone(&self.handler), event.traceparent.clone());
        let task = {
            let span = span.clone();
            traced(span.clone(), &traceparent, async move {
                let outcome = handler.handle(&event).await;
                conventions::handled(&span, outcome.as_ref().err().map(HandlerError::label));
                outcome
            })
        };
        let task = tokio::spawn(task);
        match tokio::time::timeout(self.options.handler_timeout, task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panicked)) => Err(HandlerError::failed(format!("the handler panicked: {panicked}"))),
            Err(_) => Err(HandlerError::failed(format!(
                "the handler did not finish within {} ms",
                self.options.handler_timeout.as_millis()
            ))),
        }
    }

    async fn count(&self, delivery: &Delivery, reason: &str) -> Result<Next, BusError> {
        let (errors, hopeless) = match &delivery.event {
            Ok(_) => (self.bus.count_error(delivery).await?, false),
            // It will not become readable.
            Err(_) => (1, true),
        };
        tracing::warn!(
            topic = delivery.topic,
            entry = delivery.entry,
            errors,
            reason,
            "an event was not handled"
        );
        if errors < self.options.max_errors && !hopeless {
            return Ok(Next::Again);
        }
        self.bus.dead_letter(delivery, errors, reason).await?;
        tracing::error!(
            topic = delivery.topic,
            entry = delivery.entry,
            reason,
            "an event became a dead letter"
        );
        self.metrics
            .events_handled
            .with_label_values(&[delivery.topic.as_str(), delivery.group.as_str(), "dead"])
            .inc();
        Ok(Next::Settled)
    }

    /// Cuts the streams to what some group has still to handle, and measures them.
    async fn keep_up(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.measure().await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.options.claim_interval) => {}
            }
        }
    }

    async fn measure(&self) {
        let Subscription { topics, group, .. } = &self.subscription;
        let lags = self.bus.lag(&self.subscription).await;
        self.metrics.event_bus_up.set(lags.is_ok().into());
        match lags {
            Ok(lags) => {
                for (topic, lag) in lags {
                    self.metrics.consumer_lag.with_label_values(&[&topic, group]).set(lag);
                }
            }
            // An old number would look best exactly when it is worst.
            Err(_) => {
                for topic in topics {
                    let _ = self.metrics.consumer_lag.remove_label_values(&[topic, group]);
                }
            }
        }
        match self.bus.tidy(topics).await {
            Ok(held) => {
                for held in held {
                    let number = |entries| i64::try_from(entries).unwrap_or(i64::MAX);
                    let topic = [held.topic.as_str()];
                    self.metrics
                        .stream_entries
                        .with_label_values(&topic)
                        .set(number(held.events));
                    self.metrics
                        .dead_letters
                        .with_label_values(&topic)
                        .set(number(held.dead_letters));
                }
            }
            Err(error) => tracing::debug!(%error, "the streams were not trimmed"),
        }
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
