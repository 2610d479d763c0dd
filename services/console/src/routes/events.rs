//! `GET /api/events`: the stream of a page, as server-sent events.

use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use valerix_kit::api::{Api, Operation};
use valerix_kit::identity::Access;
use valerix_kit::problem::Problem;

use crate::state::AppState;
use crate::stream::{self, Message};
use crate::viewer::Viewer;

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let operation = Operation::new(
        "Follow everything that one may see: each server-sent event is one message",
        Access::Open,
    )
    .answer::<Message>(200, "Messages, the first of them a snapshot")
    .problem(503, "Too many pages follow");
    api.get("/api/events", follow, operation)
}

async fn follow(State(state): State<AppState>, viewer: Viewer) -> Result<Response, Problem> {
    if state.is_draining() {
        return Err(Problem::draining());
    }
    let place = state.places.take(viewer.name());
    let place = place.ok_or_else(|| Problem::overloaded("too many pages follow: close some"))?;
    let (sender, messages) = mpsc::channel(stream::WAITING);
    tokio::spawn(stream::tell(state, viewer, sender, place));
    let events = ReceiverStream::new(messages).map(|message| Event::default().json_data(&message));
    let mut answer = Sse::new(events).into_response();
    // Some proxies gather what they pass on.
    let unbuffered = (
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    answer.headers_mut().extend([unbuffered]);
    Ok(answer)
}
