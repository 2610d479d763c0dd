//! Who may read the metrics, where that is asked: the API server says whose a token is (TokenReview) and whether that one
//! may get the path (SubjectAccessReview). What goes in: the head of a request. What comes out: leave, or a refusal.
//!
//! An answer holds for a while, so that a scraper costs the API server two requests a minute. Tokens that nobody knows
//! are asked about a few at a time: whoever sends many of them waits behind himself.

use super::{Clients, failure::sentence};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, StatusCode, header};
use k8s_openapi::{
    ClusterResourceScope,
    api::{
        authentication::v1::{TokenReview, TokenReviewSpec},
        authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    },
};
use kube::{Api, Client, Resource, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

/// What is protected. Health and readiness answer everybody: the kubelet has no token.
pub const PATH: &str = "/metrics";
/// How long somebody may go on reading after his right or his token was taken away.
const ADMITTED_FOR: Duration = Duration::from_secs(60);
/// How long somebody waits who was given the right a moment ago.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// Questions about tokens at a time.
const QUESTIONS: usize = 4;
/// How long a request waits for its question to be asked.
const PATIENCE: Duration = Duration::from_secs(5);
/// Answers that are remembered; more different tokens than this within a minute are no scrapers.
const REMEMBERED: usize = 256;

/// The digest of a token; the token itself is not kept.
type Key = [u8; 32];

/// Asks the API server who may read the metrics, and remembers what it said.
pub struct Scrapers {
    client: Client,
    questions: Semaphore,
    remembered: Mutex<HashMap<Key, Remembered>>,
}

struct Remembered {
    until: Instant,
    answer: Result<(), Refusal>,
}

/// Why somebody may not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no token.
    #[error("failed to read {PATH}: no token; send a ServiceAccount's in the header `Authorization: Bearer <token>`")]
    NoToken,
    /// The API server does not know the token.
    #[error("failed to read {PATH}: the API server does not know this token, or it is over; send a new one")]
    Unknown,
    /// Whose token it is may not read.
    #[error(
        "failed to read {PATH}: {user} has no right to; bind it to a ClusterRole with nonResourceURLs [{PATH}] and verbs [get], such as the chart's <release>-metrics-reader"
    )]
    Forbidden {
        /// The name that RBAC knows it by.
        user: String,
    },
    /// Nobody could say.
    #[error("failed to ask the API server who reads {PATH}: {reason}")]
    Unanswered {
        /// Why.
        reason: String,
    },
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let challenge: (HeaderName, &str) = (header::WWW_AUTHENTICATE, "Bearer");
        let text = format!("{self}\n");
        match self {
            Self::NoToken | Self::Unknown => (StatusCode::UNAUTHORIZED, [challenge], text).into_response(),
            Self::Forbidden { .. } => (StatusCode::FORBIDDEN, text).into_response(),
            Self::Unanswered { .. } => (StatusCode::SERVICE_UNAVAILABLE, text).into_response(),
        }
    }
}

impl Scrapers {
    /// Nobody is known yet.
    pub fn new(clients: &Clients) -> Self {
        Self {
            // Answered within seconds or not at all: a scrape does not wait for retries.
            client: clients.write.clone(),
            questions: Semaphore::new(QUESTIONS),
            remembered: Mutex::default(),
        }
    }

    /// Leave to read, for whoever sent a request with this head.
    ///
    /// # Errors
    /// Why not.
    pub async fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let token = bearer(headers).ok_or(Refusal::NoToken)?;
        let key: Key = Sha256::digest(token).into();
        if let Some(answer) = self.recall(&key) {
            return answer;
        }
        let Ok(Ok(_question)) = timeout(PATIENCE, self.questions.acquire()).await else {
            return Err(Refusal::Unanswered {
                reason: "too many tokens are asked about at once".to_owned(),
            });
        };
        // Another request with this token may have been answered meanwhile.
        if let Some(answer) = self.recall(&key) {
            return answer;
        }
        let answer = self.ask(token).await;
        self.remember(key, &answer);
        answer
    }

    async fn ask(&self, token: &str) -> Result<(), Refusal> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: None,
            },
            ..Default::default()
        };
        let status = self.review(&review).await?.status.unwrap_or_default();
        if status.authenticated != Some(true) {
            return Err(Refusal::Unknown);
        }
        let user = status.user.unwrap_or_default();
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username.clone(),
                groups: user.groups,
                uid: user.uid,
                extra: user.extra,
                non_resource_attributes: Some(NonResourceAttributes {
                    path: Some(PATH.to_owned()),
                    verb: Some("get".to_owned()),
                }),
                resource_attributes: None,
            },
            ..Default::default()
        };
        let status = self.review(&review).await?.status.unwrap_or_default();
        if status.allowed && status.denied != Some(true) {
            return Ok(());
        }
        Err(Refusal::Forbidden {
            user: user.username.unwrap_or_default(),
        })
    }

    async fn review<K>(&self, review: &K) -> Result<K, Refusal>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let reviews: Api<K> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), review).await;
        answer.map_err(|error| Refusal::Unanswered {
            reason: sentence(&error),
        })
    }

    fn recall(&self, key: &Key) -> Option<Result<(), Refusal>> {
        let remembered = self.lock();
        let known = remembered.get(key).filter(|known| known.until > Instant::now())?;
        Some(known.answer.clone())
    }

    /// What nobody answered is asked again.
    fn remember(&self, key: Key, answer: &Result<(), Refusal>) {
        let holds = match answer {
            Ok(()) => ADMITTED_FOR,
            Err(Refusal::Unanswered { .. }) => return,
            Err(_) => REFUSED_FOR,
        };
        let now = Instant::now();
        let mut remembered = self.lock();
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, known| known.until > now && known.answer.is_ok());
        }
        if remembered.len() < REMEMBERED {
            remembered.insert(
                key,
                Remembered {
                    until: now + holds,
                    answer: answer.clone(),
                },
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Remembered>> {
        // Nothing is left half written.
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The token of `Authorization: Bearer <token>`, the word in any case.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_api::{Recorded, answering};
    use serde_json::{Value, json};
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    const PROMETHEUS: &str = "system:serviceaccount:monitoring:prometheus";

    /// Knows the tokens `prometheus` and `guest`, of whom the first may read.
    fn api_server(request: &Recorded) -> (u16, Value) {
        let mut answer = request.body.clone();
        answer["status"] = match request.path.as_str() {
            "/apis/authentication.k8s.io/v1/tokenreviews" => match request.body["spec"]["token"].as_str() {
                Some("prometheus") => {
                    json!({"authenticated": true, "user": {"username": PROMETHEUS, "groups": ["scrapers"], "extra": {"node": ["a"]}}})
                }
                Some("guest") => json!({"authenticated": true, "user": {"username": "guest"}}),
                _ => json!({"authenticated": false, "error": "invalid bearer token"}),
            },
            "/apis/authorization.k8s.io/v1/subjectaccessreviews" => {
                let asked = &request.body["spec"];
                assert_eq!(
                    asked["nonResourceAttributes"],
                    json!({"path": "/metrics", "verb": "get"})
                );
                let is_theirs = asked["groups"] == json!(["scrapers"]) && asked["extra"] == json!({"node": ["a"]});
                json!({"allowed": asked["user"] == PROMETHEUS && is_theirs})
            }
            other => panic!("{other} is no review"),
        };
        (201, answer)
    }

    fn scrapers(answer: impl Fn(&Recorded) -> (u16, Value) + Send + Sync + 'static) -> Scrapers {
        Scrapers::new(&Clients::single(answering(answer)))
    }

    fn with(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, authorization.parse().unwrap())])
    }

    #[tokio::test]
    async fn whoever_the_api_server_knows_and_lets_reads_and_everybody_else_is_told_what_to_do() {
        let scrapers = scrapers(api_server);
        for head in ["Bearer prometheus", "bearer  prometheus"] {
            assert_eq!(scrapers.admit(&with(head)).await, Ok(()), "{head}");
        }
        let forbidden = scrapers.admit(&with("Bearer guest")).await.unwrap_err();
        assert!(
            forbidden.to_string().contains("guest has no right to; bind it"),
            "{forbidden}"
        );
        for (headers, refusal, status) in [
            (HeaderMap::new(), Refusal::NoToken, 401),
            (with("Basic cHJvbWV0aGV1cw=="), Refusal::NoToken, 401),
            (with("Bearer "), Refusal::NoToken, 401),
            (with("prometheus"), Refusal::NoToken, 401),
            (with("Bearer stale"), Refusal::Unknown, 401),
            (with("Bearer guest"), forbidden, 403),
        ] {
            assert_eq!(scrapers.admit(&headers).await, Err(refusal.clone()));
            let response = refusal.into_response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers().contains_key(header::WWW_AUTHENTICATE), status == 401);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_for_a_minute_and_none_is_asked_for_again() {
        let (asked, is_gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, gone) = (asked.clone(), is_gone.clone());
        let scrapers = scrapers(move |request| {
            counted.fetch_add(1, Ordering::SeqCst);
            if gone.load(Ordering::SeqCst) {
                return (
                    503,
                    json!({"kind": "Status", "status": "Failure", "code": 503, "message": "etcd is gone"}),
                );
            }
            api_server(request)
        });
        let token = with("Bearer prometheus");
        let both = futures::join!(scrapers.admit(&token), scrapers.admit(&token));
        assert_eq!(both, (Ok(()), Ok(())));
        let first = asked.load(Ordering::SeqCst);
        assert!((2..=4).contains(&first), "{first}");
        is_gone.store(true, Ordering::SeqCst);
        tokio::time::advance(ADMITTED_FOR - Duration::from_secs(1)).await;
        assert_eq!(scrapers.admit(&token).await, Ok(()));
        assert_eq!(asked.load(Ordering::SeqCst), first);
        tokio::time::advance(Duration::from_secs(2)).await;
        for _ in 0..2 {
            let refusal = scrapers.admit(&token).await.unwrap_err();
            assert!(refusal.to_string().contains("etcd is gone"), "{refusal}");
            assert_eq!(refusal.into_response().status(), StatusCode::SERVICE_UNAVAILABLE);
        }
        is_gone.store(false, Ordering::SeqCst);
        assert_eq!(scrapers.admit(&token).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_nobody_knows_push_no_scraper_out_and_are_forgotten() {
        let scrapers = scrapers(api_server);
        assert_eq!(scrapers.admit(&with("Bearer prometheus")).await, Ok(()));
        for number in 0..2 * REMEMBERED {
            let refused = scrapers.admit(&with(&format!("Bearer guess-{number}"))).await;
            assert_eq!(refused, Err(Refusal::Unknown));
        }
        let remembered = scrapers.lock();
        assert!(remembered.len() <= REMEMBERED, "{}", remembered.len());
        assert_eq!(remembered.values().filter(|known| known.answer.is_ok()).count(), 1);
    }
}
