//! What the store does with an archive that it is sent.

use super::{Inner, Object, RENEWED_KEY, Store, is_archive, refusal};
use axum::{
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};

/// What the store does with the first archive that it is sent, or that it is to complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// It does as it is asked.
    Good,
    /// It stores, or does not, and the connection breaks before the answer.
    Cut { stores: bool },
    /// It stores, or does not, and never answers.
    Hang { stores: bool },
    /// It stores, or does not, and answers this.
    Answer {
        stores: bool,
        status: u16,
        code: &'static str,
    },
    /// It stores half of it and says that all is well.
    Truncate,
}

/// What credentials expire with that were good until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A listing.
    List,
    /// A part of an archive.
    Part,
    /// What makes an archive one: a PUT, or a completion.
    Archive,
}

/// What becomes of the next piece of an archive that is read and is not its first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextPiece {
    /// It ends too early.
    Cut,
    /// It is of another archive, which has taken the place of the first.
    Another,
    /// The credentials that were good until then have expired.
    Expired,
}

impl Store {
    pub fn take_habit(&self, habit: Habit) {
        self.0.lock().unwrap().habit = habit;
    }

    pub fn next_piece(&self, habit: NextPiece) {
        self.0.lock().unwrap().next_piece = Some(habit);
    }

    /// The credentials that were good until now have expired; those of [`RENEWED_KEY`] are good.
    pub fn expire(&self) {
        self.0.lock().unwrap().access_key = RENEWED_KEY;
    }

    /// The same from the moment on at which it is asked for this.
    pub fn expire_with(&self, step: Step) {
        self.0.lock().unwrap().expires_with = Some(step);
    }

    /// What it is asked for.
    pub(super) fn asked_for(&self, step: Step) {
        if self.0.lock().unwrap().expires_with == Some(step) {
            self.expire();
        }
    }

    /// How many requests came with credentials that have expired.
    pub fn expired(&self) -> usize {
        self.0.lock().unwrap().expired
    }

    pub fn ignore_conditions(&self) {
        self.0.lock().unwrap().ignores_conditions = true;
    }

    /// As behind a proxy whose store starts again.
    pub fn be_away(&self, away: bool) {
        self.0.lock().unwrap().away = away;
    }

    /// The same for the next so many requests.
    pub fn be_away_for(&self, requests: usize) {
        self.0.lock().unwrap().absent = requests;
    }

    /// It is away from the moment on at which it is sent an archive.
    pub fn go_away_with_an_archive(&self) {
        self.0.lock().unwrap().goes_away = true;
    }

    /// A listing knows nothing of what was stored since the server began.
    pub fn list_late(&self) {
        self.0.lock().unwrap().lists_late = true;
    }
}

impl Inner {
    /// Whether the condition lets something be stored, and what the store makes of it.
    #[allow(clippy::result_large_err, reason = "the answer is sent as it is")]
    pub(super) fn taken(&mut self, key: &str, headers: &HeaderMap) -> Result<Habit, Response> {
        let conditional = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == "*");
        self.unconditional += usize::from(!conditional && is_archive(key));
        if conditional && !self.ignores_conditions && self.objects.contains_key(key) {
            return Err(refusal(412, "PreconditionFailed"));
        }
        if !is_archive(key) {
            return Ok(Habit::Good);
        }
        self.away |= std::mem::take(&mut self.goes_away);
        Ok(std::mem::replace(&mut self.habit, Habit::Good))
    }
}

impl Habit {
    pub(super) fn stores(self) -> bool {
        match self {
            Self::Good | Self::Truncate => true,
            Self::Cut { stores } | Self::Hang { stores } | Self::Answer { stores, .. } => stores,
        }
    }
}

/// Stores, or does not, and answers by its habit.
pub(super) async fn kept(store: &Store, key: String, habit: Habit, mut object: Object, done: String) -> Response {
    if habit == Habit::Truncate {
        object.bytes = object.bytes.slice(..object.bytes.len() / 2);
    }
    if habit.stores() {
        store.put_back(&key, object);
    }
    match habit {
        Habit::Good | Habit::Truncate => ([(header::CONTENT_TYPE, "application/xml")], done).into_response(),
        Habit::Cut { .. } => cut(),
        Habit::Hang { .. } => std::future::pending().await,
        Habit::Answer { status, code, .. } => refusal(status, code),
    }
}

/// Ends the connection without an answer, and without a word on the test's output.
fn cut() -> Response {
    std::panic::resume_unwind(Box::new(()))
}
