//! One attempt at one delivery: the handler, and what the bus is told of how that went.

use std::sync::Arc;

use super::backlog::Work;
use super::{Consumer, Next};
use crate::events::{BusError, Delivery, HandlerError, conventions};
use crate::telemetry::traced;

impl Consumer {
    /// Handles one delivery once and tells the bus.
    pub(super) async fn attempt(self: Arc<Self>, work: Work) -> (Work, Next) {
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
}
