//! For tests of who may do what: an auth that signs any token, keys of services, and a matrix of route and caller that is
//! made of a service's own OpenAPI document.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answer, TestServer, service_args};
use crate::args::{IdentityArgs, Secret, ServiceArgs};
use crate::extract::Json;
use crate::identity::{AUDIENCE, Claims, FORWARDED_BY, ISSUER, Identity, SERVICE_TOKEN};
use crate::service::Service;

/// What stands before the 32 bytes of an Ed25519 key in PKCS#8.
const PKCS8: [u8; 16] = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];
/// A service that no route names.
const STRANGER: &str = "stranger";
/// Services whose calls a [`closed`](TestAuth::close) service knows.
const CALLERS: [&str; 9] = [
    "analytics",
    "auth",
    "gateway",
    "inventory",
    "notification",
    "order",
    "payment",
    "processor",
    STRANGER,
];

/// An auth that signs whatever a test wants, and serves the key to it.
pub struct TestAuth {
    server: TestServer,
    key: EncodingKey,
    jwk: Jwk,
}

impl TestAuth {
    /// Makes a key and serves it.
    ///
    /// # Panics
    /// When that is not possible.
    pub async fn start() -> Self {
        let seed = [Uuid::new_v4(), Uuid::new_v4()];
        let seed = seed.iter().flat_map(|half| *half.as_bytes());
        let key = EncodingKey::from_ed_der(&PKCS8.into_iter().chain(seed).collect::<Vec<u8>>());
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::EdDSA).expect("an Ed25519 key has a public half");
        jwk.common.key_id = Some("test".to_owned());
        let set = json!({"keys": [jwk]});
        let routes = axum::Router::new().route(
            "/.well-known/jwks.json",
            axum::routing::get(move || std::future::ready(Json(set.clone()))),
        );
        let service = Service::new(&service_args("auth")).await.expect("a service");
        let server = TestServer::start(service.bind(routes).await.expect("free ports")).await;
        Self { server, key, jwk }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.server.base
    }

    /// Its public key.
    pub const fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// Closes the service that is started with `args`: it believes this auth, and the services that [`proof`] speaks for.
    pub fn close(&self, args: &mut ServiceArgs) {
        args.identity.auth_url = Some(self.url().to_owned());
        args.identity.caller_keys = Some(caller_keys());
    }

    /// What a good token of the user says.
    #[must_use]
    pub fn claims(user: Uuid, roles: &[&str]) -> Claims {
        let now = get_current_timestamp();
        Claims {
            sub: user,
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            sid: Uuid::new_v4(),
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            iat: now,
            exp: now + 300,
        }
    }

    /// A token that says `claims`.
    ///
    /// # Panics
    /// Never.
    pub fn sign(&self, claims: &impl serde::Serialize) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid.clone_from(&self.jwk.common.key_id);
        encode(&header, claims, &self.key).expect("claims are JSON")
    }

    /// The header `Authorization` of a user.
    pub fn bearer(&self, user: Uuid, roles: &[&str]) -> String {
        format!("Bearer {}", self.sign(&Self::claims(user, roles)))
    }
}

/// Keys of all services that may call a [closed](TestAuth::close) service.
fn caller_keys() -> Secret {
    let keys = CALLERS.map(|name| format!("{name}={}", shared_key(name)));
    Secret::from(keys.join(","))
}

fn shared_key(caller: &str) -> String {
    format!("{caller}-and-whom-it-calls-share-this-key")
}

/// The header [`SERVICE_TOKEN`] of a call that the service `caller` makes to `callee`.
///
/// # Panics
/// Never.
#[must_use]
pub fn proof(caller: &str, callee: &str) -> HeaderValue {
    let mut headers = HeaderMap::new();
    speaking_for(caller, callee).prove(callee, &mut headers);
    headers.remove(SERVICE_TOKEN).expect("a key for the callee")
}

/// The header [`FORWARDED_BY`] of a request that the service `forwarder` passes on to `callee`.
///
/// # Panics
/// Never.
#[must_use]
pub fn forwarded(forwarder: &str, callee: &str) -> (HeaderName, HeaderValue) {
    let mut headers = HeaderMap::new();
    speaking_for(forwarder, callee).vouch(callee, &mut headers);
    (
        FORWARDED_BY,
        headers.remove(FORWARDED_BY).expect("a key for the callee"),
    )
}

fn speaking_for(caller: &str, callee: &str) -> Identity {
    let args = IdentityArgs {
        call_keys: Some(Secret::from(format!("{callee}={}", shared_key(caller)))),
        ..IdentityArgs::default()
    };
    Identity::open(caller, &args).expect("a key of 32 bytes or more")
}

/// Asks every route of `server`, the service `name`, as everybody who might: without a token, with a forged one, as a user,
/// as an admin, as a service that no route names and as each one that the route names. Who is not declared must be refused
/// with 401 or 403, who is must not. `sign_in` gives the header `Authorization` of a user with roles, such as
/// [`TestAuth::bearer`]. Gives each route with its declared access, sorted, for
/// the test to compare.
///
/// # Panics
/// When an answer does not follow the declared access.
pub async fn every_route(
    server: &TestServer,
    name: &str,
    sign_in: impl Fn(Uuid, &[&str]) -> String,
) -> Vec<(String, Value)> {
    let document = server.get("/openapi.json").await.body();
    let forger = TestAuth::start().await;
    let bearer = |token: String| {
        Some((
            http::header::AUTHORIZATION,
            HeaderValue::try_from(token).expect("a token"),
        ))
    };
    let service = |caller: &str| Some((SERVICE_TOKEN, proof(caller, name)));
    let mut routes = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let Some(access) = operation.get("x-valerix-access") else {
                assert!(
                    matches!(path.as_str(), "/health" | "/ready"),
                    "{path} has no declared access"
                );
                continue;
            };
            let user = Uuid::new_v4();
            let mut callers = vec![
                ("nobody".to_owned(), None),
                ("forger".to_owned(), bearer(forger.bearer(user, &["admin"]))),
                ("user".to_owned(), bearer(sign_in(user, &["user"]))),
                ("admin".to_owned(), bearer(sign_in(user, &["user", "admin"]))),
                (STRANGER.to_owned(), service(STRANGER)),
            ];
            let named = access["services"].as_array().into_iter().flatten();
            callers.extend(
                named
                    .filter_map(Value::as_str)
                    .map(|named| (named.to_owned(), service(named))),
            );
            for (caller, proof) in callers {
                let answer = ask(server, method, path, proof).await;
                let refused = matches!(answer.status, 401 | 403).then_some(answer.status);
                assert_eq!(
                    refused,
                    expected(access, &caller),
                    "{method} {path} as {caller}: {answer:?}"
                );
                if refused == Some(401) {
                    assert!(answer.headers.contains_key("www-authenticate"), "{answer:?}");
                }
            }
            routes.push((format!("{} {path}", method.to_uppercase()), access.clone()));
        }
    }
    routes.sort_by(|(left, _), (right, _)| left.cmp(right));
    routes
}

/// With which status `caller` is refused where `access` is declared, if they are.
fn expected(access: &Value, caller: &str) -> Option<u16> {
    let services = access["services"].as_array();
    let named = services.is_some_and(|services| services.iter().any(|name| name == caller));
    match (access.as_str(), caller) {
        (Some("open"), _) => None,
        (_, "forger") => Some(401),
        (Some("public"), _) | (Some("user"), "user" | "admin") | (Some("admin"), "admin") => None,
        (None, _) if named => None,
        (_, "nobody") => Some(401),
        _ => Some(403),
    }
}

async fn ask(server: &TestServer, method: &str, path: &str, proof: Option<(HeaderName, HeaderValue)>) -> Answer {
    let method = Method::try_from(method.to_uppercase().as_str()).expect("a method");
    // A parameter in braces is as good a value as any: what is behind the guard may refuse it.
    let request = server.call(method, &path.replace(['{', '}'], "-"));
    Answer::of(match proof {
        Some((name, value)) => request.header(name, value),
        None => request,
    })
    .await
}
