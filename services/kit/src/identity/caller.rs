//! Who sent a request, as handlers see it.

use std::borrow::Cow;

use axum::extract::{Extension, FromRequestParts};
use http::request::Parts;
use uuid::Uuid;

use super::Identity;
use crate::problem::Problem;

/// Who sent a request; an extractor. In an open service everybody is anonymous.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Nobody who said who they are.
    Anonymous,
    /// A user who is signed in.
    User {
        /// The user's id at auth.
        id: Uuid,
        /// Whether they have the role `admin`.
        admin: bool,
    },
    /// Another service of the shop.
    Service {
        /// What it calls itself.
        name: String,
    },
}

impl Caller {
    /// As text, for the scope of idempotency keys and the keys of rate limits: `anonymous`, `user:<uuid>` or
    /// `service:<name>`.
    pub fn principal(&self) -> Cow<'static, str> {
        match self {
            Self::Anonymous => "anonymous".into(),
            Self::User { id, .. } => format!("user:{id}").into(),
            Self::Service { name } => format!("service:{name}").into(),
        }
    }

    /// The user's id, if it is one.
    pub const fn user_id(&self) -> Option<Uuid> {
        match self {
            Self::User { id, .. } => Some(*id),
            Self::Anonymous | Self::Service { .. } => None,
        }
    }

    /// Whether it is a user with the role `admin`.
    pub const fn is_admin(&self) -> bool {
        matches!(self, Self::User { admin: true, .. })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // The guard has left it there; routes that are nobody's API have no guard.
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        match Extension::<Identity>::from_request_parts(parts, state).await {
            Ok(Extension(identity)) => identity.identify(&parts.headers).await,
            Err(missing) => Err(Problem::internal(&missing)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_of_different_callers_differ() {
        let id = Uuid::nil();
        let user = |admin| Caller::User { id, admin };
        assert_eq!(Caller::Anonymous.principal(), "anonymous");
        assert_eq!(user(true).principal(), format!("user:{id}"));
        assert_eq!(user(true).principal(), user(false).principal());
        let service = Caller::Service { name: "order".into() };
        assert_eq!(service.principal(), "service:order");
        assert_eq!(service.user_id(), None);
    }
}
