//! How services prove to each other who they are: a short-lived token, made by the caller with a key that it shares with
//! the one that it calls. Nobody else is asked, so that a lost auth stops no order.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use http::HeaderValue;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode, get_current_timestamp};
use serde::{Deserialize, Serialize};

use super::{Caller, unauthenticated};
use crate::args::{IdentityArgs, Secret};
use crate::problem::Problem;

/// Seconds for which a token holds; as long as a call with all its repetitions may wait in a queue.
const LIFETIME: u64 = 60;
/// Seconds for which one token is sent with every call of a service: to make one costs more than a request does else.
const SENT_AGAIN: u64 = 10;
/// Seconds by which the clocks of two machines may differ.
pub(super) const LEEWAY: u64 = 5;
/// A key of fewer bytes could be guessed from one token.
const SHORTEST_KEY: usize = 32;

/// A key that this service shares with `service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallKey {
    /// The other service.
    pub service: String,
    /// The key.
    pub key: Secret,
}

/// Why `CALL_KEYS` or `CALLER_KEYS` can not be read. It shows no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCallKeys {
    /// An entry is not of the form `service=key`.
    #[error("failed to read entry {entry} of {variable}: it must be service=key")]
    NoPair {
        /// Which variable.
        variable: &'static str,
        /// Which of its entries, from 1.
        entry: usize,
    },
    /// A key is too short.
    #[error("failed to read entry {entry} of {variable}: its key must have at least {SHORTEST_KEY} bytes")]
    ShortKey {
        /// Which variable.
        variable: &'static str,
        /// Which of its entries, from 1.
        entry: usize,
    },
}

/// Reads `service=key[,service=key]`; what is empty has no entries. A service may come more than once: while its key is
/// being replaced both are good.
///
/// ```
/// use valerix_kit::identity::parse_call_keys;
///
/// let keys = parse_call_keys("CALL_KEYS", &format!("payment={}", "k".repeat(32)))?;
/// assert_eq!(keys[0].service, "payment");
/// # Ok::<_, valerix_kit::identity::InvalidCallKeys>(())
/// ```
///
/// # Errors
/// When an entry is no pair, or its key is shorter than 32 bytes.
pub fn parse_call_keys(variable: &'static str, text: &str) -> Result<Vec<CallKey>, InvalidCallKeys> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .zip(1..)
        .map(|(entry, number)| {
            let pair = entry.split_once('=').filter(|(service, _)| !service.is_empty());
            let (service, key) = pair.ok_or(InvalidCallKeys::NoPair {
                variable,
                entry: number,
            })?;
            if key.len() < SHORTEST_KEY {
                return Err(InvalidCallKeys::ShortKey {
                    variable,
                    entry: number,
                });
            }
            Ok(CallKey {
                service: service.to_owned(),
                key: Secret::from(key.to_owned()),
            })
        })
        .collect()
}

#[derive(Serialize, Deserialize)]
struct ServiceClaims {
    iss: String,
    aud: String,
    exp: u64,
}

/// The key to call a service, and the token that was made with it last, with the second in which that was.
struct Mine {
    key: EncodingKey,
    last: Mutex<Option<(u64, HeaderValue)>>,
}

/// Makes and verifies the tokens of services.
pub(super) struct ServiceTokens {
    service: String,
    mine: HashMap<String, Mine>,
    callers: Vec<(String, DecodingKey, Validation)>,
}

impl ServiceTokens {
    pub(super) fn new(service: &str, args: &IdentityArgs) -> Result<Self, InvalidCallKeys> {
        let read = |variable, keys: &Option<Secret>| match keys {
            Some(keys) => parse_call_keys(variable, keys.expose()),
            None => Ok(Vec::new()),
        };
        let mine = read("CALL_KEYS", &args.call_keys)?.into_iter();
        let callers = read("CALLER_KEYS", &args.caller_keys)?.into_iter();
        Ok(Self {
            service: service.to_owned(),
            // Of two keys for one service the first is used.
            mine: mine
                .rev()
                .map(|entry| {
                    let key = EncodingKey::from_secret(entry.key.expose().as_bytes());
                    let last = Mutex::default();
                    (entry.service, Mine { key, last })
                })
                .collect(),
            callers: callers
                .map(|entry| {
                    let mut validation = Validation::new(Algorithm::HS256);
                    validation.leeway = LEEWAY;
                    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
                    validation.set_issuer(&[&entry.service]);
                    validation.set_audience(&[service]);
                    let key = DecodingKey::from_secret(entry.key.expose().as_bytes());
                    (entry.service, key, validation)
                })
                .collect(),
        })
    }

    /// A token for a call of `target`; nothing where no key is shared with it.
    pub(super) fn mint(&self, target: &str) -> Option<HeaderValue> {
        self.mint_at(target, get_current_timestamp)
    }

    fn mint_at(&self, target: &str, now: impl FnOnce() -> u64) -> Option<HeaderValue> {
        let mine = self.mine.get(target)?;
        let now = now();
        let mut last = mine.last.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back says nothing about how old it is.
        if let Some((_, token)) = last
            .as_ref()
            .filter(|(made, _)| (*made..*made + SENT_AGAIN).contains(&now))
        {
            return Some(token.clone());
        }
        let claims = ServiceClaims {
            iss: self.service.clone(),
            aud: target.to_owned(),
            exp: now + SENT_AGAIN + LIFETIME,
        };
        let token = encode(&Header::new(Algorithm::HS256), &claims, &mine.key);
        let Some(mut token) = token.ok().and_then(|token| HeaderValue::try_from(token).ok()) else {
            tracing::error!(target, "a service token could not be made");
            return None;
        };
        token.set_sensitive(true);
        *last = Some((now, token.clone()));
        Some(token)
    }

    /// Whether `service` has a key to call this one.
    pub(super) fn knows(&self, service: &str) -> bool {
        self.callers.iter().any(|(caller, ..)| caller == service)
    }

    /// Whose token it is.
    pub(super) fn verify(&self, token: &HeaderValue) -> Result<Caller, Problem> {
        let mut reason = "its signature fits no key of CALLER_KEYS";
        for (caller, key, validation) in &self.callers {
            match decode::<ServiceClaims>(token.as_bytes(), key, validation) {
                Ok(_) => return Ok(Caller::Service { name: caller.clone() }),
                Err(error) => match error.kind() {
                    ErrorKind::InvalidSignature => {}
                    ErrorKind::ExpiredSignature => reason = "it has expired, or the clocks differ",
                    ErrorKind::InvalidAudience => reason = "it is for another service",
                    ErrorKind::InvalidIssuer => reason = "its iss is not the service whose key signed it",
                    _ => reason = "it is no token of the expected form",
                },
            }
        }
        Err(unauthenticated(
            "invalid-service-token",
            &format!("the header Valerix-Service-Token is not accepted: {reason}"),
            r#"Valerix-Service-Token realm="valerix", error="invalid_token""#,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(letter: &str) -> String {
        letter.repeat(SHORTEST_KEY)
    }

    fn tokens(service: &str, call_keys: &str, caller_keys: &str) -> ServiceTokens {
        let args = IdentityArgs {
            auth_url: None,
            call_keys: Some(Secret::from(call_keys.to_owned())),
            caller_keys: Some(Secret::from(caller_keys.to_owned())),
        };
        ServiceTokens::new(service, &args).unwrap()
    }

    fn refusal(tokens: &ServiceTokens, token: &HeaderValue) -> String {
        let problem = tokens.verify(token).unwrap_err();
        assert_eq!(problem.status(), 401);
        assert!(problem.headers().contains_key("www-authenticate"));
        problem.detail().to_owned()
    }

    #[test]
    fn a_token_is_good_for_the_service_that_shares_the_key() {
        let order = tokens("order", &format!("payment={}", key("a")), "");
        let payment = tokens("payment", "", &format!("order={},order={}", key("b"), key("a")));
        let caller = payment.verify(&order.mint("payment").unwrap()).unwrap();
        assert_eq!(caller, Caller::Service { name: "order".into() });
        assert!(order.mint("inventory").is_none(), "no key is shared with inventory");
    }

    #[test]
    fn one_token_is_sent_for_a_while_and_holds_long_enough_then() {
        let order = tokens("order", &format!("payment={},stock={}", key("a"), key("b")), "");
        let mint = |target: &str, now: u64| order.mint_at(target, || now).unwrap();
        let first = mint("payment", 1_000);
        assert_ne!(mint("stock", 1_000), first, "each service has its own");
        for now in [1_000, 1_001, 1_000 + SENT_AGAIN - 1] {
            assert_eq!(mint("payment", now), first, "at {now}");
            assert!(mint("payment", now).is_sensitive());
        }
        let second = mint("payment", 1_000 + SENT_AGAIN);
        assert_ne!(second, first);
        assert_ne!(mint("payment", 900), second, "the clock was set back");
        let claims = second.to_str().unwrap().split('.').nth(1).unwrap();
        let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims).unwrap();
        let claims: ServiceClaims = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims.exp, 1_000 + 2 * SENT_AGAIN + LIFETIME);
        // As long as it is sent it holds for as long as a fresh one.
        let payment = tokens("payment", "", &format!("order={}", key("a")));
        let old = get_current_timestamp() - SENT_AGAIN + 1;
        assert!(payment.verify(&order.mint_at("payment", || old).unwrap()).is_ok());
    }

    #[test]
    fn a_token_of_another_key_name_or_audience_is_refused() {
        let order = tokens("order", &format!("payment={}", key("a")), "");
        let token = order.mint("payment").unwrap();
        let other_key = tokens("payment", "", &format!("order={}", key("b")));
        assert!(refusal(&other_key, &token).contains("fits no key"));
        let other_name = tokens("payment", "", &format!("gateway={}", key("a")));
        assert!(refusal(&other_name, &token).contains("iss"));
        let other_audience = tokens("inventory", "", &format!("order={}", key("a")));
        assert!(refusal(&other_audience, &token).contains("another service"));
        let unsigned = HeaderValue::from_static("eyJhbGciOiJub25lIn0.eyJpc3MiOiJvcmRlciJ9.");
        refusal(&other_audience, &unsigned);
    }

    #[test]
    fn an_expired_token_is_refused() {
        let payment = tokens("payment", "", &format!("order={}", key("a")));
        let sign = |exp| {
            let claims = ServiceClaims {
                iss: "order".into(),
                aud: "payment".into(),
                exp,
            };
            let key = EncodingKey::from_secret(key("a").as_bytes());
            HeaderValue::try_from(encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()).unwrap()
        };
        let now = get_current_timestamp();
        assert!(payment.verify(&sign(now + 1)).is_ok());
        assert!(refusal(&payment, &sign(now - LEEWAY - 2)).contains("expired"));
    }

    #[test]
    fn a_list_that_can_not_be_read_is_refused_without_its_keys() {
        let variable = "CALL_KEYS";
        let entries = |text: &str| parse_call_keys(variable, text).map(|keys| keys.len());
        let good = key("secret-");
        assert_eq!(entries(""), Ok(0));
        assert_eq!(entries(&format!("a={good}, b={good},")), Ok(2));
        assert_eq!(
            entries(&format!("a={good},={good}")),
            Err(InvalidCallKeys::NoPair { variable, entry: 2 })
        );
        assert_eq!(
            entries("a=secret-"),
            Err(InvalidCallKeys::ShortKey { variable, entry: 1 })
        );
        let shown = format!("{:?}", parse_call_keys(variable, &format!("a={good}")).unwrap());
        assert!(!shown.contains("secret-"), "{shown}");
    }
}
