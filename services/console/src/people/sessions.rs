//! Who has signed in. Nothing of it is written anywhere: a restart signs everyone out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, header};
use kube::Client;
use uuid::Uuid;
use valerix_kit::problem::Problem;

use super::rights::Rights;

/// The cookie of a session.
pub const COOKIE: &str = "valerix-console";
/// The most sessions at a time.
const MOST_SESSIONS: usize = 500;
/// The most sessions of one person: any pod has a token to sign in with, and nobody is to take every place.
const MOST_OF_ONE: usize = 20;

/// Somebody who signed in; clones are one.
#[derive(Clone)]
pub struct Session(Arc<Person>);

struct Person {
    id: String,
    csrf: String,
    name: String,
    client: Client,
    until: Instant,
    rights: Rights,
}

impl Session {
    /// Who it is, as the API server says.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What a command has to repeat.
    pub fn csrf(&self) -> &str {
        &self.0.csrf
    }

    /// The client that speaks in this person's name.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// What this person may see.
    pub fn rights(&self) -> &Rights {
        &self.0.rights
    }

    /// Whether the time of the session is over.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.0.until
    }
}

/// Everyone who signed in.
#[derive(Clone)]
pub struct Sessions {
    people: Arc<Mutex<HashMap<String, Session>>>,
    lifetime: Duration,
    secure: bool,
}

impl Sessions {
    /// Nobody yet; a session lasts for `lifetime`, and its cookie goes by TLS alone where `secure`.
    pub fn new(lifetime: Duration, secure: bool) -> Self {
        Self {
            people: Arc::default(),
            lifetime,
            secure,
        }
    }

    /// Begins a session; it ends the oldest one of a person who has too many.
    ///
    /// # Errors
    /// 503 when there are too many.
    pub fn begin(&self, name: String, client: Client) -> Result<Session, Problem> {
        let session = Session(Arc::new(Person {
            id: secret(),
            csrf: secret(),
            name,
            rights: Rights::new(client.clone()),
            client,
            until: Instant::now() + self.lifetime,
        }));
        let mut people = self.lock();
        people.retain(|_, session| !session.is_over());
        let own = people.values().filter(|other| other.0.name == session.0.name);
        let mut own: Vec<_> = own.map(|other| (other.0.until, other.0.id.clone())).collect();
        own.sort();
        for (_, oldest) in own.iter().take((own.len() + 1).saturating_sub(MOST_OF_ONE)) {
            people.remove(oldest);
        }
        if people.len() >= MOST_SESSIONS {
            return Err(Problem::overloaded("too many people are signed in: try again later"));
        }
        people.insert(session.0.id.clone(), session.clone());
        Ok(session)
    }

    /// The session of a request.
    pub fn find(&self, headers: &HeaderMap) -> Option<Session> {
        let cookies = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let ids = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| {
            let (name, value) = cookie.trim().split_once('=')?;
            (name == COOKIE).then_some(value)
        });
        let people = self.lock();
        ids.filter_map(|id| people.get(id))
            .find(|session| !session.is_over())
            .cloned()
    }

    /// Whether `session` still goes on.
    pub fn knows(&self, session: &Session) -> bool {
        !session.is_over() && self.lock().contains_key(&session.0.id)
    }

    /// Ends a session.
    pub fn end(&self, session: &Session) {
        self.lock().remove(&session.0.id);
    }

    /// The header that gives a browser the cookie of `session`, or takes it away.
    pub fn cookie(&self, session: Option<&Session>) -> Option<HeaderValue> {
        let (id, age) = session.map_or(("", 0), |session| (session.0.id.as_str(), self.lifetime.as_secs()));
        let secure = if self.secure { "; Secure" } else { "" };
        let text = format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}{secure}");
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 244 random bits.
fn secret() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}
