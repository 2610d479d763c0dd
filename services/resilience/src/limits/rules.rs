//! The rules of the policy that a request meets. In: its route, key sources and the rules. Out: pass, or the strictest
//! refusal; and the header fields of the draft either way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use valerix_policy::{LimitKeyType, LimitKind, LimitReport, LimitScope, Mode, RateLimitRule, Route};

use super::level::{Decision, Quota};
use super::limiter::RateLimiter;
use crate::metrics::Metrics;
use crate::problem::{Problem, whole_seconds};

/// A rule with its state.
#[derive(Debug)]
struct Rule {
    settings: RateLimitRule,
    routes: Vec<Route>,
    limiter: Arc<RateLimiter>,
}

/// The rules in force. A new set takes the limiters of the former over, by name.
#[derive(Debug, Default)]
pub(crate) struct RuleSet {
    rules: Vec<Rule>,
    mode: Mode,
}

/// What the rules say to a request.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// No rule means it.
    Unlimited,
    /// It passes; these fields go on its answer.
    Pass(HeaderMap),
    Refused(Refused),
}

/// The strictest refusal.
#[derive(Debug)]
pub(crate) struct Refused {
    rule: String,
    wait: Duration,
    headers: HeaderMap,
}

impl Refused {
    /// The 429.
    pub(crate) fn into_problem(self) -> (Problem, HeaderMap) {
        let detail = format!(
            "limit {} is used up; come back in {} s",
            self.rule,
            whole_seconds(self.wait)
        );
        let problem = Problem::new(
            "quota-exceeded",
            StatusCode::TOO_MANY_REQUESTS,
            "Quota exceeded",
            detail,
        )
        .with_type("https://iana.org/assignments/http-problem-types#quota-exceeded")
        .extension("violated-policies", vec![self.rule])
        .retry_after(self.wait);
        (problem, self.headers)
    }
}

impl RuleSet {
    /// The rules of a document; limiters of the same name and key keep what they know.
    pub(crate) fn new(rules: &[RateLimitRule], mode: Mode, replicas: u32, former: &Self) -> Self {
        let kept: BTreeMap<&str, &Rule> = former
            .rules
            .iter()
            .map(|rule| (rule.settings.name.as_str(), rule))
            .collect();
        let build = |settings: &RateLimitRule| {
            let shared = settings.scope != LimitScope::Replica;
            let quota = Quota::share(settings, if shared { replicas } else { 1 });
            let limiter = match kept.get(settings.name.as_str()) {
                Some(rule) if rule.settings.key == settings.key => {
                    rule.limiter.reconfigure(quota);
                    Arc::clone(&rule.limiter)
                }
                _ => Arc::new(RateLimiter::new(quota)),
            };
            // Validated with the document.
            let routes = settings.routes.iter().filter_map(|route| route.parse().ok()).collect();
            Rule {
                settings: settings.clone(),
                routes,
                limiter,
            }
        };
        Self {
            rules: rules.iter().map(build).collect(),
            mode,
        }
    }

    /// Asks every rule that means the request; all must let it pass, else none is used up by it.
    pub(crate) fn check(
        &self,
        method: &str,
        path: &str,
        mut key: impl FnMut(LimitKeyType, Option<&str>) -> String,
        metrics: &Metrics,
    ) -> Verdict {
        if self.rules.is_empty() || self.mode == Mode::Disabled {
            return Verdict::Unlimited;
        }
        let mut taken: Vec<(&Rule, u64, Decision)> = Vec::new();
        let mut refusal: Option<(&Rule, Decision)> = None;
        let means =
            |rule: &&Rule| rule.routes.is_empty() || rule.routes.iter().any(|route| route.matches(method, path));
        for rule in self.rules.iter().filter(means) {
            let number = rule.settings.key.as_ref().map_or(0, |wanted| {
                rule.limiter.number(&key(wanted.key_type, wanted.name.as_deref()))
            });
            let decision = rule.limiter.take_number(number);
            let name = rule.settings.name.as_str();
            if decision.allowed {
                metrics.limit(name, "allowed");
                taken.push((rule, number, decision));
            } else if self.mode == Mode::Shadow {
                metrics.limit(name, "shadow_limited");
            } else {
                metrics.limit(name, "limited");
                if refusal.is_none_or(|(_, known)| decision.reset > known.reset) {
                    refusal = Some((rule, decision));
                }
            }
        }
        if let Some((rule, decision)) = refusal {
            for (rule, number, _) in taken {
                rule.limiter.give_back(number);
            }
            let wait = decision.reset;
            return Verdict::Refused(Refused {
                rule: rule.settings.name.clone(),
                wait,
                headers: fields(rule, decision),
            });
        }
        let strictest = taken.iter().min_by_key(|(_, _, decision)| decision.remaining);
        match strictest {
            Some((rule, _, decision)) if self.mode == Mode::Enforce => Verdict::Pass(fields(rule, *decision)),
            _ => Verdict::Unlimited,
        }
    }

    pub(crate) fn report(&self) -> impl Iterator<Item = LimitReport> {
        self.rules.iter().map(|rule| {
            let (allowed, refused) = rule.limiter.totals();
            LimitReport {
                name: rule.settings.name.clone(),
                kind: LimitKind::RateLimit,
                limit: u64::from(rule.limiter.quota().requests),
                in_use: rule.limiter.live_keys() as u64,
                allowed,
                refused,
                degraded: rule.settings.scope == LimitScope::Distributed,
            }
        })
    }
}

/// `RateLimit-Policy` and `RateLimit` of the IETF draft; `t` and `Retry-After` are the same moment.
fn fields(rule: &Rule, decision: Decision) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let quota = rule.limiter.quota();
    let name = &rule.settings.name;
    let policy = format!("\"{name}\";q={};w={}", quota.requests, whole_seconds(quota.window));
    let left = format!(
        "\"{name}\";r={};t={}",
        decision.remaining,
        whole_seconds(decision.reset)
    );
    for (field, value) in [("ratelimit-policy", policy), ("ratelimit", left)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(header::HeaderName::from_static(field), value);
        }
    }
    headers
}
