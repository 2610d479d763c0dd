//! Hexadecimal digits of a known number, which need no memory beside.

use std::fmt;

/// So many digits, in lower case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Hex<const DIGITS: usize>([u8; DIGITS]);

impl<const DIGITS: usize> Hex<DIGITS> {
    /// Two digits for each of the bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' - 10 + half };
        let mut digits = [b'0'; DIGITS];
        for (two, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            two.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        Self(digits)
    }

    /// The digits that a text consists of.
    pub(super) fn read(text: &str) -> Option<Self> {
        let digits = <[u8; DIGITS]>::try_from(text.as_bytes()).ok()?;
        let are_digits = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        are_digits.then_some(Self(digits))
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|digit| *digit == b'0')
    }
}

impl<const DIGITS: usize> fmt::Debug for Hex<DIGITS> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let bytes = [0x00, 0x09, 0x0a, 0x9f, 0xa0, 0xff, 0x10, 0x01];
        let written = Hex::<16>::of(&bytes);
        assert_eq!(written.as_str(), "00090a9fa0ff1001");
        assert_eq!(Hex::read("00090a9fa0ff1001"), Some(written));
        for bad in [
            "",
            "00090a9fa0ff100",
            "00090a9fa0ff10010",
            "00090A9FA0FF1001",
            "00090a9fa0ff100g",
            "00090a9fa0ff100é",
        ] {
            assert_eq!(Hex::<16>::read(bad), None, "{bad}");
        }
        assert!(Hex::<2>::of(&[0]).is_zero() && !Hex::<2>::of(&[1]).is_zero());
    }
}
