//! Frames of HTTP/2 that cost who sends them nothing and who reads them an answer or a look: a connection on which there
//! are too many of them breaks. What hyper bounds itself is left to it: requests that are taken back, heads in many parts.
//! Pure, but for the clock that it is given.

use tokio::time::Instant;

/// What a client of HTTP/2 begins with.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame before its payload.
const HEAD: usize = 9;
/// What may be spent at once, and what comes back within a second. A client of gRPC measures its connection by one ping for
/// each answer; nobody does so ten thousand times a second.
const BURST: u32 = 10_000;
const PER_SECOND: u32 = 10_000;
/// What one frame of settings costs: there are a few of them in the life of a connection.
const SETTINGS_PRICE: u32 = 50;

/// The frames that a client sends, as the bytes of its connection come.
pub(crate) struct Frames {
    place: Place,
    left: u32,
    refilled: Option<Instant>,
}

enum Place {
    /// In the preface, of which so many bytes have come.
    Preface(usize),
    /// In the head of a frame, of which so many bytes have come.
    Head([u8; HEAD], usize),
    /// In a payload, of which so many bytes are missing.
    Payload(usize),
    /// It is no connection of HTTP/2.
    Other,
}

/// Too many frames that ask for nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client sent too many frames that ask for nothing")]
pub(crate) struct Flood;

impl Frames {
    pub(crate) const fn new() -> Self {
        Self {
            place: Place::Preface(0),
            left: BURST,
            refilled: None,
        }
    }

    /// Takes note of the next bytes. `now` is asked only where there is something to pay.
    pub(crate) fn read(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) -> Result<(), Flood> {
        while !bytes.is_empty() {
            let (place, taken) = match &mut self.place {
                Place::Other => return Ok(()),
                Place::Preface(come) => {
                    let wanted = PREFACE.get(*come..).unwrap_or_default();
                    let taken = wanted.len().min(bytes.len());
                    if bytes.get(..taken) != wanted.get(..taken) {
                        self.place = Place::Other;
                        return Ok(());
                    }
                    let place = if taken == wanted.len() {
                        Place::Head([0; HEAD], 0)
                    } else {
                        Place::Preface(*come + taken)
                    };
                    (place, taken)
                }
                Place::Head(head, come) => {
                    let wanted = head.get_mut(*come..).unwrap_or_default();
                    let taken = wanted.len().min(bytes.len());
                    for (place, byte) in wanted.iter_mut().zip(bytes) {
                        *place = *byte;
                    }
                    let (head, come) = (*head, *come + taken);
                    if come < HEAD {
                        (Place::Head(head, come), taken)
                    } else {
                        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                        self.pay(price(head[3], head[4], length), &now)?;
                        (Place::Payload(length), taken)
                    }
                }
                Place::Payload(missing) => {
                    let taken = (*missing).min(bytes.len());
                    let place = match *missing - taken {
                        0 => Place::Head([0; HEAD], 0),
                        missing => Place::Payload(missing),
                    };
                    (place, taken)
                }
            };
            self.place = place;
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    fn pay(&mut self, price: u32, now: impl Fn() -> Instant) -> Result<(), Flood> {
        if price == 0 {
            return Ok(());
        }
        let now = now();
        let passed = now - *self.refilled.get_or_insert(now);
        let millis = u32::try_from(passed.as_millis()).unwrap_or(u32::MAX);
        let back = millis.saturating_mul(PER_SECOND / 1_000);
        // Parts of a millisecond are not forgotten: what came back nothing yet counts on.
        if back > 0 {
            self.refilled = Some(now);
            self.left = self.left.saturating_add(back).min(BURST);
        }
        self.left = self.left.checked_sub(price).ok_or(Flood)?;
        Ok(())
    }
}

/// What a frame costs, by its type and flags.
const fn price(kind: u8, flags: u8, length: usize) -> u32 {
    const END_OF_STREAM: u8 = 1;
    match kind {
        // A piece of a body that has no bytes and does not end it.
        0 if length == 0 && flags & END_OF_STREAM == 0 => 1,
        // Pieces of bodies, heads and their parts, requests taken back, room for answers.
        0 | 1 | 3 | 8 | 9 => 0,
        4 => SETTINGS_PRICE,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, length: u8) -> Vec<u8> {
        let head = [0, 0, length, kind, 0, 0, 0, 0, 0];
        head.into_iter().chain(std::iter::repeat_n(4, length.into())).collect()
    }

    /// How many of a frame pass at once, given in pieces of so many bytes.
    fn passing(frame: &[u8], piece: usize) -> u32 {
        let (mut frames, now) = (Frames::new(), Instant::now());
        let mut passed = 0;
        assert_eq!(frames.read(PREFACE, || now), Ok(()));
        while passed < 2 * BURST {
            if frame.chunks(piece).any(|bytes| frames.read(bytes, || now).is_err()) {
                break;
            }
            passed += 1;
        }
        passed
    }

    #[test]
    fn frames_that_ask_for_nothing_are_counted_however_they_are_cut() {
        for piece in [1, 4, 9, 10, 64] {
            assert_eq!(passing(&frame(4, 6), piece), BURST / SETTINGS_PRICE, "settings");
            assert_eq!(passing(&frame(6, 8), piece), BURST, "pings");
            assert_eq!(passing(&frame(2, 5), piece), BURST, "priorities");
            assert_eq!(passing(&frame(0, 0), piece), BURST, "empty pieces of bodies");
            assert_eq!(passing(&frame(99, 1), piece), BURST, "frames that nobody knows");
            // Whose payload looks like settings.
            assert_eq!(passing(&frame(0, 9), piece), 2 * BURST, "bodies");
            assert_eq!(passing(&frame(8, 4), piece), 2 * BURST, "room for answers");
        }
    }

    #[test]
    fn what_was_spent_comes_back() {
        let (mut frames, begin) = (Frames::new(), Instant::now());
        frames.read(PREFACE, || begin).unwrap();
        let ping = frame(6, 8);
        for number in 0..5 * BURST {
            let now = begin + Duration::from_micros(110) * number;
            assert_eq!(frames.read(&ping, || now), Ok(()), "{number}");
        }
        let now = begin + Duration::from_micros(110) * 5 * BURST;
        let burst = (0..=BURST).find(|_| frames.read(&ping, || now).is_err());
        assert!(burst.is_some(), "there is no more than a burst");
    }

    #[test]
    fn what_is_no_http2_is_not_looked_at() {
        let (mut frames, now) = (Frames::new(), Instant::now());
        frames.read(b"PRI * HTTP/1.1\r\n", || now).unwrap();
        for _ in 0..2 * BURST {
            assert_eq!(frames.read(&frame(4, 0), || now), Ok(()));
        }
    }
}
