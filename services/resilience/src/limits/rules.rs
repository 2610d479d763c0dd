//! The rules of the policy that a request meets. In: its route, key sources and the rules. Out: pass, or the strictest
//! refusal; and the header fields of the draft either way.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use valerix_policy::{LimitKeyType, LimitKind, LimitReport, LimitScope, Mode, RateLimitRule, Route};

use super::level::{Decision, Quota};
use super::limiter::RateLimiter;
use crate::metrics::{Counter, Metrics};
use crate::problem::{Problem, whole_seconds};

/// A rule with its state.
#[derive(Debug)]
struct Rule {
    settings: RateLimitRule,
    routes: Vec<Route>,
    limiter: Limiter,
    /// Where it is counted that it lets a request pass.
    allowed: OnceLock<Counter>,
}

/// Who counts.
#[derive(Clone, Debug)]
enum Limiter {
    Own(Arc<RateLimiter>),
    Shared(Arc<dyn SharedLimit>),
}

/// Where replicas count together.
pub(crate) trait SharedLimits: Debug + Send + Sync {
    /// A limit of `owner` that `replicas` share. `rule` tells its limits apart.
    fn limit(&self, owner: &str, rule: &str, quota: Quota, replicas: u32) -> Arc<dyn SharedLimit>;
}

/// A limit that all replicas draw from.
pub(crate) trait SharedLimit: Debug + Send + Sync {
    /// Takes one for `key`, if it may pass.
    fn take<'a>(&'a self, key: &'a str) -> Pin<Box<dyn Future<Output = Taking> + Send + 'a>>;
    /// Gives back one that was taken for a request that another limit refused.
    fn give_back(&self, key: &str, locally: bool);
    /// Takes new numbers, of the limit or of replicas.
    fn reconfigure(&self, quota: Quota, replicas: u32);
    /// Prepares for the first request.
    fn begin(&self);
    /// Whether the replica's share decides, because nobody counts for all.
    fn is_degraded(&self) -> bool;
    /// The limit of all replicas together, and the share of this one.
    fn quotas(&self) -> (Quota, Quota);
    fn live_keys(&self) -> usize;
    /// Requests let pass and refused since the start.
    fn totals(&self) -> (u64, u64);
}

/// What a shared limit said, and who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taking {
    pub(crate) decision: Decision,
    /// By the local share, because Redis did not answer.
    pub(crate) locally: bool,
}

/// What a rule let pass, so that it can be given back.
#[derive(Debug)]
enum Taken {
    Own(u64),
    Shared { key: String, locally: bool },
}

/// A rule that means a request, and what it counts the request under.
#[derive(Debug)]
struct Asked {
    rule: usize,
    key: String,
}

/// The rules in force. A new set takes the limiters of the former over, by name.
#[derive(Debug, Default)]
pub(crate) struct RuleSet {
    rules: Vec<Rule>,
    mode: Mode,
}

/// The rules that a request meets, those first that answer without Redis.
#[derive(Debug)]
pub(crate) struct Meeting {
    rules: Arc<RuleSet>,
    asked: Vec<Asked>,
}

/// What the rules say to a request.
#[derive(Debug)]
pub(crate) enum Ruling {
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
        (Problem::quota_exceeded(&self.rule, self.wait), self.headers)
    }
}

/// Whom the limits of a rule set belong to, and how many share them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    pub(crate) name: &'a str,
    pub(crate) replicas: u32,
    pub(crate) shared: Option<&'a dyn SharedLimits>,
}

impl RuleSet {
    /// The rules of a document; limiters of the same name and key keep what they know.
    pub(crate) fn new(rules: &[RateLimitRule], mode: Mode, owner: Owner<'_>, former: &Self) -> Self {
        let kept: BTreeMap<&str, &Rule> = former
            .rules
            .iter()
            .map(|rule| (rule.settings.name.as_str(), rule))
            .collect();
        let build = |settings: &RateLimitRule| {
            let kept = kept.get(settings.name.as_str());
            let kept = kept
                .filter(|rule| rule.settings.key == settings.key)
                .map(|rule| &rule.limiter);
            Rule {
                settings: settings.clone(),
                // Validated with the document.
                routes: settings.routes.iter().filter_map(|route| route.parse().ok()).collect(),
                limiter: Limiter::new(settings, owner, kept),
                allowed: OnceLock::new(),
            }
        };
        Self {
            rules: rules.iter().map(build).collect(),
            mode,
        }
    }

    /// Whether a rule counts with other replicas.
    #[cfg(feature = "redis")]
    pub(crate) fn is_shared(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.limiter, Limiter::Shared(_)))
    }

    /// The rules that mean a request; none where limits are switched off.
    pub(crate) fn meet(
        self: Arc<Self>,
        method: &str,
        path: &str,
        mut key: impl FnMut(LimitKeyType, Option<&str>) -> String,
    ) -> Option<Meeting> {
        if self.rules.is_empty() || self.mode == Mode::Disabled {
            return None;
        }
        let means = |rule: &Rule| rule.routes.is_empty() || rule.routes.iter().any(|route| route.matches(method, path));
        let mut asked: Vec<Asked> = Vec::new();
        for (index, rule) in self.rules.iter().enumerate().filter(|(_, rule)| means(rule)) {
            let wanted = rule.settings.key.as_ref();
            asked.push(Asked {
                rule: index,
                key: wanted.map_or_else(String::new, |wanted| key(wanted.key_type, wanted.name.as_deref())),
            });
        }
        asked.sort_by_key(|asked| matches!(self.rules[asked.rule].limiter, Limiter::Shared(_)));
        (!asked.is_empty()).then_some(Meeting { rules: self, asked })
    }

    pub(crate) fn report(&self) -> impl Iterator<Item = LimitReport> {
        self.rules.iter().map(|rule| {
            let (limit, in_use, (allowed, refused), degraded) = match &rule.limiter {
                Limiter::Own(limiter) => (
                    limiter.quota(),
                    limiter.live_keys(),
                    limiter.totals(),
                    rule.settings.scope == LimitScope::Distributed,
                ),
                Limiter::Shared(limiter) => {
                    let degraded = limiter.is_degraded();
                    let (whole, share) = limiter.quotas();
                    let limit = if degraded { share } else { whole };
                    (limit, limiter.live_keys(), limiter.totals(), degraded)
                }
            };
            LimitReport {
                name: rule.settings.name.clone(),
                kind: LimitKind::RateLimit,
                limit: u64::from(limit.requests),
                in_use: in_use as u64,
                allowed,
                refused,
                degraded,
            }
        })
    }
}

impl Limiter {
    /// Where the kept one counts in another way, what it knows is lost: nobody is owed what another counted.
    fn new(settings: &RateLimitRule, owner: Owner<'_>, kept: Option<&Self>) -> Self {
        if let (LimitScope::Distributed, Some(shared)) = (settings.scope, owner.shared) {
            let quota = Quota::share(settings, 1);
            let limiter = match kept {
                Some(Self::Shared(limiter)) => {
                    limiter.reconfigure(quota, owner.replicas);
                    Arc::clone(limiter)
                }
                _ => shared.limit(owner.name, &settings.name, quota, owner.replicas),
            };
            limiter.begin();
            return Self::Shared(limiter);
        }
        let sharing = settings.scope != LimitScope::Replica;
        let quota = Quota::share(settings, if sharing { owner.replicas } else { 1 });
        match kept {
            Some(Self::Own(limiter)) => {
                limiter.reconfigure(quota);
                Self::Own(Arc::clone(limiter))
            }
            _ => Self::Own(Arc::new(RateLimiter::new(quota))),
        }
    }

    async fn take(&self, key: String) -> (Decision, Taken) {
        match self {
            Self::Own(limiter) => {
                // Without a key all requests are one.
                let number = if key.is_empty() { 0 } else { limiter.number(&key) };
                (limiter.take_number(number), Taken::Own(number))
            }
            Self::Shared(limiter) => {
                let Taking { decision, locally } = limiter.take(&key).await;
                (decision, Taken::Shared { key, locally })
            }
        }
    }

    fn give_back(&self, taken: &Taken) {
        match (self, taken) {
            (Self::Own(limiter), Taken::Own(number)) => limiter.give_back(*number),
            (Self::Shared(limiter), Taken::Shared { key, locally }) => limiter.give_back(key, *locally),
            _ => {}
        }
    }

    /// What `RateLimit-Policy` says: the limit of all replicas where they share it.
    fn announced(&self) -> Quota {
        match self {
            Self::Own(limiter) => limiter.quota(),
            Self::Shared(limiter) => limiter.quotas().0,
        }
    }
}

impl Meeting {
    /// Asks the rules; all must let the request pass, else none is used up by it. Those that need Redis wait for it a
    /// moment at most, and are not asked where another refused already.
    pub(crate) async fn ruling(self, metrics: &Metrics) -> Ruling {
        let Self { rules, asked } = self;
        let mut taken: Vec<(&Rule, Taken, Decision)> = Vec::with_capacity(asked.len());
        let mut refusal: Option<(&Rule, Decision)> = None;
        for Asked { rule, key } in asked {
            let rule = &rules.rules[rule];
            if refusal.is_some() && matches!(rule.limiter, Limiter::Shared(_)) {
                break;
            }
            let name = rule.settings.name.as_str();
            let (decision, token) = rule.limiter.take(key).await;
            if matches!(token, Taken::Shared { locally: true, .. }) {
                metrics.limit_locally(name);
            }
            if decision.allowed {
                let counted = || metrics.limit_of(name, "allowed");
                rule.allowed.get_or_init(counted).inc();
                taken.push((rule, token, decision));
            } else if rules.mode == Mode::Shadow {
                metrics.limit(name, "shadow_limited");
            } else {
                metrics.limit(name, "limited");
                if refusal.is_none_or(|(_, known)| decision.reset > known.reset) {
                    refusal = Some((rule, decision));
                }
            }
        }
        if let Some((rule, decision)) = refusal {
            for (rule, token, _) in taken {
                rule.limiter.give_back(&token);
            }
            return Ruling::Refused(Refused {
                rule: rule.settings.name.clone(),
                wait: decision.reset,
                headers: fields(rule, decision),
            });
        }
        let strictest = taken.iter().min_by_key(|(_, _, decision)| decision.remaining);
        match strictest {
            Some((rule, _, decision)) if rules.mode == Mode::Enforce => Ruling::Pass(fields(rule, *decision)),
            _ => Ruling::Unlimited,
        }
    }
}

/// `RateLimit-Policy` and `RateLimit` of the IETF draft; `t` and `Retry-After` are the same moment.
fn fields(rule: &Rule, decision: Decision) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let quota = rule.limiter.announced();
    let name = &rule.settings.name;
    let policy = format!("\"{name}\";q={};w={}", quota.requests, whole_seconds(quota.window));
    let left = format!(
        "\"{name}\";r={};t={}",
        decision.remaining,
        whole_seconds(decision.reset)
    );
    for (field, value) in [("ratelimit-policy", policy), ("ratelimit", left)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(field), value);
        }
    }
    headers
}
