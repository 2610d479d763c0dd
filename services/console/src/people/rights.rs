//! What a person may see: the API server is asked, kind by kind, first about the whole cluster and then about each
//! namespace. Its answers count for a short while.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Mutex;

use crate::board::Board;
use crate::kinds::Kind;

/// How long an answer counts.
const FRESH: Duration = Duration::from_secs(30);
/// Questions at a time.
const AT_ONCE: usize = 8;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most answers that are kept of one person. What is beyond them is asked anew each time.
const MOST_ANSWERS: usize = 2_000;
/// How long what a person was allowed to see counts while the API server does not answer.
const KEPT: Duration = Duration::from_secs(120);

/// Why it is not known what a person may see.
#[derive(Debug)]
pub enum RightsError {
    /// The API server does not accept the token any more.
    SignedOut,
    /// The API server does not answer.
    Unknown,
}

/// Where objects of a kind may be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In every namespace.
    Everywhere,
    /// In these.
    In(BTreeSet<String>),
}

/// Where objects of each kind may be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scopes(BTreeMap<Kind, Scope>);

impl Scopes {
    /// Everything, for whom the console is open.
    pub fn everything() -> Self {
        Self(Kind::ALL.map(|kind| (kind, Scope::Everywhere)).into())
    }

    /// Whether objects of `kind` in `namespace` may be seen.
    pub fn allow(&self, kind: Kind, namespace: &str) -> bool {
        match self.0.get(&kind) {
            Some(Scope::Everywhere) => true,
            Some(Scope::In(namespaces)) => namespaces.contains(namespace),
            None => false,
        }
    }

    /// Whether objects of `kind` may be seen anywhere.
    pub fn allow_some(&self, kind: Kind) -> bool {
        match self.0.get(&kind) {
            Some(Scope::Everywhere) => true,
            Some(Scope::In(namespaces)) => !namespaces.is_empty(),
            None => false,
        }
    }
}

type Question = (Kind, Option<String>);

/// The answers of the API server about one person.
pub struct Rights {
    client: Client,
    answers: Mutex<HashMap<Question, (bool, Instant)>>,
    /// What they came to when all of them were last given.
    last: std::sync::Mutex<Option<(Scopes, Instant)>>,
}

impl Rights {
    /// Nothing is known yet; `client` speaks in the person's name.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            answers: Mutex::default(),
            last: std::sync::Mutex::default(),
        }
    }

    /// Where the person may see objects of each kind, as far as `board` has some.
    ///
    /// # Errors
    /// When the API server does not answer or does not know the person any more.
    pub async fn scopes(&self, board: &Board) -> Result<Scopes, RightsError> {
        let scopes = self.ask(board).await?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((scopes.clone(), Instant::now()));
        Ok(scopes)
    }

    /// What the person was last allowed to see, on whichever page; none where that is too long ago to be believed.
    pub fn kept(&self) -> Option<Scopes> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let believed = last.as_ref().filter(|(_, at)| at.elapsed() < KEPT);
        believed.map(|(scopes, _)| scopes.clone())
    }

    async fn ask(&self, board: &Board) -> Result<Scopes, RightsError> {
        // Those of every kind: a kind of which there is nothing yet is not one that may not be seen.
        let known = board.namespaces();
        let mut scopes = BTreeMap::new();
        for kind in Kind::ALL {
            if self.may_list((kind, None)).await? {
                scopes.insert(kind, Scope::Everywhere);
                continue;
            }
            let asked = known.iter().cloned().map(|namespace| async move {
                let may = self.may_list((kind, Some(namespace.clone()))).await?;
                Ok::<_, RightsError>(may.then_some(namespace))
            });
            let allowed: Vec<Option<String>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
            scopes.insert(kind, Scope::In(allowed.into_iter().flatten().collect()));
        }
        Ok(Scopes(scopes))
    }

    async fn may_list(&self, question: Question) -> Result<bool, RightsError> {
        let known = self.answers.lock().await.get(&question).copied();
        if let Some((answer, at)) = known
            && at.elapsed() < FRESH
        {
            return Ok(answer);
        }
        let (kind, namespace) = &question;
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(kind.group().to_owned()),
                    resource: Some(kind.plural().to_owned()),
                    verb: Some("list".to_owned()),
                    namespace: namespace.clone(),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let answer = tokio::time::timeout(PATIENCE, reviews.create(&PostParams::default(), &review))
            .await
            .map_err(|_| RightsError::Unknown)?
            .map_err(|error| match error {
                kube::Error::Api(status) if status.code == 401 => RightsError::SignedOut,
                error => {
                    tracing::warn!(%error, "failed to ask what a person may see");
                    RightsError::Unknown
                }
            })?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        let mut answers = self.answers.lock().await;
        if answers.len() >= MOST_ANSWERS {
            answers.retain(|_, (_, at)| at.elapsed() < FRESH);
        }
        // Not in the place of one that counts: where there are more questions than places, each would push out the next
        // that is asked, and all of them would be asked every time.
        if answers.len() < MOST_ANSWERS {
            answers.insert(question, (allowed, Instant::now()));
        }
        Ok(allowed)
    }
}
