//! How much of the bodies of all requests together a service keeps in memory. Each may have [`MAX_BODY`], and there may be
//! thousands of connections: without a bound those who send large ones slowly would end the process for everybody.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use futures::future::poll_fn;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::leftover_body::MAX_BODY;

/// The most that is kept. Unit: bytes.
const MOST: usize = 64 * MAX_BODY;
/// What is counted at once. Unit: bytes.
const UNIT: usize = 1024;
/// So much of each body needs no room: whoever sends little is served however much others send. Unit: bytes.
const FREE: usize = 4096;

/// The room of one service, an extension of its requests; cheap to clone, all clones are one.
#[derive(Clone)]
pub(crate) struct BodyRoom(Arc<Semaphore>);

/// Why a body was not read.
#[derive(Debug)]
pub(crate) enum Unread {
    TooLarge,
    /// The others have all the room.
    NoRoom,
    Broken(axum::Error),
}

/// A body in memory, and the room that it takes as long as it is there.
struct Kept {
    bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Default for BodyRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST / UNIT)))
    }
}

impl BodyRoom {
    /// The whole body. Nobody waits for room: those who have it might wait for each other.
    pub(crate) async fn read(&self, mut body: Body) -> Result<Bytes, Unread> {
        let (mut bytes, mut room) = (BytesMut::new(), None::<OwnedSemaphorePermit>);
        while let Some(frame) = poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await {
            let Ok(data) = frame.map_err(Unread::Broken)?.into_data() else {
                continue;
            };
            if bytes.len() + data.len() > MAX_BODY {
                return Err(Unread::TooLarge);
            }
            let wanted = (bytes.len() + data.len()).saturating_sub(FREE).div_ceil(UNIT);
            let missing = wanted - room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            if let (1.., Ok(missing)) = (missing, u32::try_from(missing)) {
                let more = Arc::clone(&self.0).try_acquire_many_owned(missing);
                let more = more.map_err(|_| Unread::NoRoom)?;
                match &mut room {
                    Some(room) => room.merge(more),
                    None => room = Some(more),
                }
            }
            bytes.extend_from_slice(&data);
        }
        let bytes = bytes.freeze();
        Ok(Bytes::from_owner(Kept { bytes, _room: room }))
    }
}

impl Unread {
    /// Whether the client is to blame that the body stood still.
    pub(crate) fn is<E: std::error::Error + 'static>(&self) -> bool {
        let Self::Broken(error) = self else { return false };
        let first: &(dyn std::error::Error + 'static) = error;
        std::iter::successors(Some(first), |error| error.source()).any(<dyn std::error::Error + 'static>::is::<E>)
    }
}
