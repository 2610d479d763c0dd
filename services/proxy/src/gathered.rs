//! A body that does not tell its length, read as far as it may be kept: what ends by then can be sent again.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;

use crate::body::REPLAYED_BYTES;

/// What was read of a body.
pub(crate) enum Gathered<B> {
    /// All of it.
    Whole(Bytes, Option<HeaderMap>),
    /// More than is kept.
    Begun(Begun<B>),
}

/// A body whose beginning was read: it is given once more, then the rest.
pub(crate) struct Begun<B> {
    read: VecDeque<Frame<Bytes>>,
    rest: B,
}

/// Reads until the end, or until it is too much.
pub(crate) async fn gather<B: Body<Data = Bytes> + Unpin>(mut body: B) -> Result<Gathered<B>, B::Error> {
    let (mut read, mut bytes) = (VecDeque::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        read.push_back(frame);
        if bytes > REPLAYED_BYTES {
            return Ok(Gathered::Begun(Begun { read, rest: body }));
        }
    }
    let (mut whole, mut trailers) = (BytesMut::new(), None);
    for frame in read {
        match frame.into_data() {
            Ok(data) => whole.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(Gathered::Whole(whole.freeze(), trailers))
}

impl<B: Body<Data = Bytes> + Unpin> Body for Begun<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.read.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// A body of pieces of these lengths.
    struct Pieces(&'static [usize]);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let Some((first, rest)) = self.0.split_first() else {
                return Poll::Ready(None);
            };
            self.0 = rest;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![7; *first])))))
        }
    }

    #[tokio::test]
    async fn what_ends_in_time_is_kept_and_of_the_rest_nothing_is_lost() {
        let Ok(Gathered::Whole(whole, None)) = gather(Pieces(&[1, 16_383])).await else {
            panic!("a body of 16 KiB is kept");
        };
        assert_eq!(whole.len(), 16_384);
        let Ok(Gathered::Begun(begun)) = gather(Pieces(&[1, 16_384, 5])).await else {
            panic!("a body of more is not");
        };
        assert_eq!(begun.collect().await.unwrap().to_bytes().len(), 16_390);
    }
}
