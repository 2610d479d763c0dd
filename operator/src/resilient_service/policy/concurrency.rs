//! `inbound.concurrency` of the policy from the specification. Pure.

use super::duration::duration;
use valerix_crds as api;
use valerix_policy::{Concurrency, ConcurrencyType, Priorities, Priority, PriorityHeader, RoutePriority};

/// The limit with its defaults, which keep to the bounds that the user set.
pub(super) fn concurrency(given: &api::Concurrency) -> Concurrency {
    let defaults = Concurrency::default();
    let max = given.max.unwrap_or(defaults.max);
    let min = given.min.unwrap_or(defaults.min.min(max));
    Concurrency {
        concurrency_type: match given.kind.unwrap_or_default() {
            api::ConcurrencyType::Fixed | api::ConcurrencyType::Unknown => ConcurrencyType::Fixed,
            api::ConcurrencyType::Adaptive => ConcurrencyType::Adaptive,
        },
        max,
        min,
        initial: given.initial.unwrap_or_else(|| defaults.initial.min(max).max(min)),
        max_queue: given.max_queue.unwrap_or(defaults.max_queue),
        queue_timeout: duration(given.queue_timeout.as_ref(), defaults.queue_timeout),
        priorities: given.priorities.as_ref().map(priorities),
    }
}

fn priorities(given: &api::Priorities) -> Priorities {
    let defaults = Priorities::default();
    Priorities {
        header: match given.header.unwrap_or_default() {
            api::PriorityHeader::Ignore | api::PriorityHeader::Unknown => PriorityHeader::Ignore,
            api::PriorityHeader::Lower => PriorityHeader::Lower,
            api::PriorityHeader::Trust => PriorityHeader::Trust,
        },
        routes: given.routes.iter().map(route).collect(),
        default_percent: given.default_percent.unwrap_or(defaults.default_percent),
        sheddable_percent: given.sheddable_percent.unwrap_or(defaults.sheddable_percent),
        best_effort_percent: given.best_effort_percent.unwrap_or(defaults.best_effort_percent),
    }
}

fn route(given: &api::RoutePriority) -> RoutePriority {
    RoutePriority {
        route: given.route.clone(),
        priority: match given.priority {
            api::Priority::Critical => Priority::Critical,
            api::Priority::Default | api::Priority::Unknown => Priority::Default,
            api::Priority::Sheddable => Priority::Sheddable,
            api::Priority::BestEffort => Priority::BestEffort,
        },
    }
}
