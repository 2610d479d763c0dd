//! Reasons of conditions: each a word of a closed set, with the sentence that documents it.

/// Declares an enum of reasons whose doc comments are their documentation for users.
macro_rules! reasons {
    ($(#[$meta:meta])* $visibility:vis enum $name:ident { $($(#[doc = $doc:literal])+ $variant:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $visibility enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// Every word.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word, as it stands in a condition.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)+ }
            }

            /// What it means, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii_start(),)+ }
            }
        }

        impl From<$name> for &'static str {
            fn from(reason: $name) -> Self {
                reason.as_str()
            }
        }
    };
}

pub(crate) use reasons;

#[cfg(test)]
mod tests {
    reasons! {
        /// Why not.
        enum Example {
            /// It is the first.
            First,
            /// It is
            /// the second.
            Second,
        }
    }

    #[test]
    fn every_word_stands_as_it_is_called_with_its_meaning() {
        let all: Vec<_> = Example::ALL
            .iter()
            .map(|reason| (reason.as_str(), reason.meaning()))
            .collect();
        assert_eq!(all, [("First", "It is the first."), ("Second", "It is the second.")]);
    }
}
