//! A script of SQL, taken apart into statements and these into words, names, texts and marks. Pure.
//!
//! As much of SQL as programs of PostgreSQL write: no dollar quotes, no comments within a statement.

/// One part of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Letters and digits without quotes: a keyword, a name or a number.
    Word(String),
    /// What stood in double quotes.
    Name(String),
    /// What stood in single quotes.
    Text(String),
    /// Any other character.
    Mark(char),
}

impl Token {
    /// Whether it is this keyword or mark.
    pub(super) fn is(&self, word: &str) -> bool {
        match self {
            Self::Word(found) => found.eq_ignore_ascii_case(word),
            Self::Mark(found) => word.chars().eq([*found]),
            Self::Name(_) | Self::Text(_) => false,
        }
    }

    /// As a keyword: nothing if it is quoted.
    pub(super) fn word(&self) -> String {
        match self {
            Self::Word(found) => found.to_ascii_uppercase(),
            Self::Name(_) | Self::Text(_) | Self::Mark(_) => String::new(),
        }
    }

    /// As a name or a value.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Word(text) | Self::Name(text) | Self::Text(text) => text.clone(),
            Self::Mark(mark) => mark.to_string(),
        }
    }
}

/// The statements of a script, in its order. Comments, and lines that are meant for psql, are none.
pub(super) fn statements(script: &str) -> Vec<Vec<Token>> {
    let (mut statements, mut statement) = (Vec::new(), Vec::new());
    let mut rest = script;
    while let Some(first) = rest.chars().next() {
        let (token, tail) = match first {
            '-' if rest.starts_with("--") => (None, after_line(rest)),
            '\\' if statement.is_empty() => (None, after_line(rest)),
            ';' => {
                statements.push(std::mem::take(&mut statement));
                (None, &rest[1..])
            }
            '\'' => text(&rest[1..], '\'', false, Token::Text),
            '"' => text(&rest[1..], '"', false, Token::Name),
            'E' if rest[1..].starts_with('\'') => text(&rest[2..], '\'', true, Token::Text),
            _ if first.is_whitespace() => (None, &rest[first.len_utf8()..]),
            _ if is_word(first) => {
                let end = rest.find(|character| !is_word(character)).unwrap_or(rest.len());
                (Some(Token::Word(rest[..end].to_owned())), &rest[end..])
            }
            _ => (Some(Token::Mark(first)), &rest[first.len_utf8()..]),
        };
        statement.extend(token);
        rest = tail;
    }
    statements
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '$' | '.' | '-')
}

fn after_line(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, rest)| rest)
}

/// What stands before the closing quote, and what follows it. A quote is doubled within; where `escapes`, a backslash
/// takes the next character as it is.
fn text(from: &str, quote: char, escapes: bool, token: fn(String) -> Token) -> (Option<Token>, &str) {
    let mut found = String::new();
    let mut characters = from.char_indices();
    while let Some((at, character)) = characters.next() {
        let rest = &from[at + character.len_utf8()..];
        if character == quote && !rest.starts_with(quote) {
            return (Some(token(found)), rest);
        }
        if character == quote || (escapes && character == '\\') {
            found.extend(characters.next().map(|(_, next)| next));
        } else {
            found.push(character);
        }
    }
    (Some(token(found)), "")
}
