//! Who may ask a route. Pure.

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::{Caller, unauthenticated};
use crate::problem::Problem;

/// Who may ask a route.
///
/// ```
/// use valerix_kit::identity::{Access, Caller};
///
/// let inventory = Access::Service(&["order"]);
/// assert!(inventory.check(&Caller::Service { name: "order".into() }).is_ok());
/// assert_eq!(inventory.check(&Caller::Anonymous).unwrap_err().status(), 401);
/// assert_eq!(Access::Admin.check(&Caller::Service { name: "order".into() }).unwrap_err().status(), 403);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone, and nobody is asked who they are: tokens are not looked at. For what is asked by those whose token has
    /// expired, such as to log in.
    Open,
    /// Anyone, also without a token; a token that is sent must be valid all the same.
    Public,
    /// A user who is signed in.
    User,
    /// A user with the role `admin`.
    Admin,
    /// These services and nobody else, by the names that they call themselves.
    Service(&'static [&'static str]),
}

impl Access {
    /// Whether `caller` may ask.
    ///
    /// # Errors
    /// 401 for somebody who has not said who they are, 403 for others; both name what is needed.
    pub fn check(self, caller: &Caller) -> Result<(), Problem> {
        let allowed = match (self, caller) {
            (Self::Open | Self::Public, _)
            | (Self::User, Caller::User { .. })
            | (Self::Admin, Caller::User { admin: true, .. }) => true,
            (Self::Service(names), Caller::Service { name }) => names.contains(&name.as_str()),
            _ => false,
        };
        if allowed {
            return Ok(());
        }
        let detail = format!("this needs {}", self.needs());
        Err(match (self, caller) {
            (Self::Service(_), Caller::Anonymous) => {
                unauthenticated("unauthenticated", &detail, r#"Valerix-Service-Token realm="valerix""#)
            }
            (_, Caller::Anonymous) => unauthenticated("unauthenticated", &detail, r#"Bearer realm="valerix""#),
            _ => Problem::new(StatusCode::FORBIDDEN, "forbidden", detail).with_header(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Bearer realm="valerix", error="insufficient_scope""#),
            ),
        })
    }

    /// Whom it needs, in words.
    fn needs(self) -> String {
        match self {
            Self::Open | Self::Public => "nothing".to_owned(),
            Self::User => "a user who is signed in: send Authorization: Bearer with an access token".to_owned(),
            Self::Admin => "the role admin".to_owned(),
            Self::Service(names) => format!("the header Valerix-Service-Token of {}", names.join(" or ")),
        }
    }

    /// How it stands in an OpenAPI document, as `x-valerix-access`.
    pub(crate) fn describe(self) -> Value {
        match self {
            Self::Open => json!("open"),
            Self::Public => json!("public"),
            Self::User => json!("user"),
            Self::Admin => json!("admin"),
            Self::Service(names) => json!({"services": names}),
        }
    }

    /// How it stands in an OpenAPI document, as `security`.
    pub(crate) fn security(self) -> Value {
        match self {
            Self::Open => json!([]),
            Self::Public => json!([{}, {"user": []}]),
            Self::User => json!([{"user": []}]),
            Self::Admin => json!([{"user": ["admin"]}]),
            Self::Service(_) => json!([{"service": []}]),
        }
    }
}
