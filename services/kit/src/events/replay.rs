//! `POST /api/admin/dead-letters/replay`: what the service gave up goes back on its stream, once its cause is mended. Every
//! service that consumes events has it.
//!
//! Other groups get the event again and find it in their inboxes; so nothing is replayed that an inbox may have forgotten.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use chrono::{TimeDelta, Utc};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{BusError, EventBus, Subscription, outbox};
use crate::api::{Api, Operation};
use crate::extract::Json;
use crate::identity::Access;
use crate::problem::{FieldError, Problem};

const DEFAULT_LIMIT: usize = 100;
const LARGEST_LIMIT: usize = 1000;

/// What a service consumes, and so may replay. Cheap to clone, all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Replays(Arc<Mutex<Vec<Consumed>>>);

#[derive(Clone)]
struct Consumed {
    bus: Arc<dyn EventBus>,
    topic: String,
    group: String,
}

impl Replays {
    /// The dead letters of this subscription can be replayed.
    pub(crate) fn add(&self, bus: &Arc<dyn EventBus>, subscription: &Subscription) {
        let consumed = subscription.topics.iter().map(|topic| Consumed {
            bus: Arc::clone(bus),
            topic: topic.clone(),
            group: subscription.group.clone(),
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(consumed);
    }

    fn all(&self) -> Vec<Consumed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The API of a service with the route, where it consumes something.
    pub(crate) fn add_routes(&self, api: Api) -> Api {
        let Some(first) = self.all().into_iter().next() else {
            return api;
        };
        let operation = Operation::new("Puts dead letters of this service back on their stream", Access::Admin)
            .body::<Replay>(json!({"topic": first.topic, "limit": 100}))
            .answer::<Replayed>(200, "What was replayed and what was not")
            .problem(
                422,
                "The service does not consume such a topic, or the limit is out of bounds",
            )
            .problem(503, "Redis does not answer; what was replayed until then is");
        let own = Api::new("", "").post("/api/admin/dead-letters/replay", replay, operation);
        api.merge(own.with_state(self.clone()))
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Replay {
    /// A stream that the service consumes, e.g. `inventory.commands`.
    topic: String,
    /// How many at most, oldest first; 100 if absent.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    /// The `last` of an answer before, to go on behind it.
    #[schemars(regex(pattern = "^[0-9]{1,20}-[0-9]{1,20}$"))]
    after: Option<String>,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
struct Replayed {
    /// How many are back on their stream.
    replayed: usize,
    /// Those that stay dead letters.
    refused: Vec<Refused>,
    /// The last entry that was looked at; null when there was none.
    last: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Refused {
    /// The entry among the dead letters.
    entry: String,
    reason: String,
}

async fn replay(State(replays): State<Replays>, Json(request): Json<Replay>) -> Result<Json<Replayed>, Problem> {
    let consumed = replays.all();
    let limit = request.limit.unwrap_or(DEFAULT_LIMIT);
    let mut errors = vec![];
    let found = consumed.iter().find(|one| one.topic == request.topic);
    if found.is_none() {
        let topics: Vec<&str> = consumed.iter().map(|one| one.topic.as_str()).collect();
        errors.push(FieldError::new(
            "/topic",
            format!("must be one of {}", topics.join(", ")),
        ));
    }
    if !(1..=LARGEST_LIMIT).contains(&limit) {
        errors.push(FieldError::new("/limit", "must be 1 to 1000"));
    }
    if request.after.as_deref().is_some_and(|after| !is_entry(after)) {
        errors.push(FieldError::new(
            "/after",
            "must be the last of an answer before, e.g. 1700000000000-0",
        ));
    }
    let Some(Consumed { bus, topic, group }) = found.filter(|_| errors.is_empty()) else {
        return Err(Problem::invalid(StatusCode::UNPROCESSABLE_ENTITY, errors));
    };
    let letters = bus
        .dead_letters(topic, group, request.after.as_deref(), limit)
        .await
        .map_err(|error| problem(&error))?;
    let oldest = Utc::now() - TimeDelta::from_std(outbox::RETENTION).unwrap_or(TimeDelta::MAX);
    let mut answer = Replayed::default();
    for letter in letters {
        answer.last = Some(letter.entry.clone());
        let reason = match &letter.event {
            Err(malformed) => malformed.reason.clone(),
            Ok(event) if event.occurred_at < oldest => {
                "it is older than 14 days: others may have forgotten that they handled it".to_owned()
            }
            Ok(_) => {
                if bus.revive(&letter).await.map_err(|error| problem(&error))? {
                    answer.replayed += 1;
                }
                continue;
            }
        };
        answer.refused.push(Refused {
            entry: letter.entry,
            reason,
        });
    }
    tracing::info!(
        topic,
        group,
        replayed = answer.replayed,
        refused = answer.refused.len(),
        "dead letters were replayed"
    );
    Ok(Json(answer))
}

/// Milliseconds, a dash, a sequence: what Redis takes for an entry.
fn is_entry(text: &str) -> bool {
    text.split_once('-')
        .is_some_and(|(milliseconds, sequence)| milliseconds.parse::<u64>().is_ok() && sequence.parse::<u64>().is_ok())
}

fn problem(error: &BusError) -> Problem {
    if error.unavailable {
        tracing::warn!(%error, "the event bus did not answer");
        Problem::unavailable("the event bus does not answer at the moment")
    } else {
        Problem::internal(error)
    }
}
