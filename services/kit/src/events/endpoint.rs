//! A service's end of the bus, put together once for all services: what is published, what is read, and the tasks that
//! do it once the database is there.

use std::sync::Arc;

use tokio::sync::OnceCell;

use super::consumer::Consumer;
use super::refill::Refiller;
use super::relay::Relay;
use super::replay::Replays;
use super::republish::Republisher;
use super::restored::Watch;
use super::transactional::{Beginning, InTransaction};
use super::{EventBus, Subscription, TransactionalHandler};
use crate::args::ServiceArgs;
use crate::metrics::Metrics;
use crate::postgres::Database;
use crate::tasks::Tasks;

/// A service's end of the bus: its outbox is published, and its handlers get what others publish.
pub struct Endpoint {
    bus: Arc<dyn EventBus>,
    relay: Relay,
    database: Database,
    tasks: Tasks,
    metrics: Metrics,
    consumer: String,
    replays: Replays,
}

impl Endpoint {
    /// Publishes the outbox of `database` from now on, as the service and the pod that `args` name. What is consumed can be
    /// replayed by `replays`.
    pub(crate) fn start(
        bus: Arc<dyn EventBus>,
        database: &Database,
        tasks: &Tasks,
        metrics: &Metrics,
        args: &ServiceArgs,
        replays: &Replays,
    ) -> Self {
        let relay = Relay::new(database.pool().clone(), Arc::clone(&bus), metrics.clone());
        let (publisher, keeper) = (relay.clone(), relay.clone());
        tasks.spawn_when_ready("relay", database, move |stop| publisher.clone().run(stop));
        tasks.spawn_when_ready("outbox", database, move |stop| keeper.clone().keep_up(stop));
        let again = Republisher::new(
            database.pool().clone(),
            Arc::clone(&bus),
            &args.service,
            metrics.clone(),
        );
        tasks.spawn_when_ready("republish", database, move |stop| again.clone().run(stop));
        let refiller = Refiller::new(
            database.pool().clone(),
            Arc::clone(&bus),
            &args.service,
            metrics.clone(),
        );
        tasks.spawn_when_ready("refill", database, move |stop| refiller.clone().run(stop));
        Self {
            bus,
            relay,
            database: database.clone(),
            tasks: tasks.clone(),
            metrics: metrics.clone(),
            consumer: args.pod_name.clone(),
            replays: replays.clone(),
        }
    }

    /// Publishes the outbox; wake it after a commit that appended to it.
    pub fn relay(&self) -> Relay {
        self.relay.clone()
    }

    /// Hands the events of `topics` to `handler`, each event once for the whole `group`: those since the service is there.
    pub fn consume(&self, group: &'static str, topics: &[&str], handler: impl TransactionalHandler) {
        self.consume_from(Beginning::Birth, group, topics, handler);
    }

    /// As [`consume`](Self::consume), and a new group gets all that outboxes keep from before there was this service.
    pub fn consume_everything(&self, group: &'static str, topics: &[&str], handler: impl TransactionalHandler) {
        self.consume_from(Beginning::Everything, group, topics, handler);
    }

    fn consume_from(
        &self,
        beginning: Beginning,
        group: &'static str,
        topics: &[&str],
        handler: impl TransactionalHandler,
    ) {
        let subscription = Subscription {
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            group: group.to_owned(),
            consumer: self.consumer.clone(),
        };
        self.replays.add(&self.bus, &subscription);
        let watch = Watch::new(
            self.database.pool().clone(),
            Arc::clone(&self.bus),
            subscription.clone(),
        );
        self.tasks
            .spawn_when_ready("restored", &self.database, move |stop| watch.clone().run(stop));
        let handler = Arc::new(InTransaction {
            pool: self.database.pool().clone(),
            relay: self.relay.clone(),
            group,
            beginning,
            birth: OnceCell::new(),
            handler,
        });
        let consumer = Consumer::new(Arc::clone(&self.bus), subscription, handler, self.metrics.clone());
        self.tasks
            .spawn_when_ready("consumer", &self.database, move |stop| consumer.clone().run(stop));
    }
}
