//! Bytes to a document: version first, then shape, then bounds. Unknown fields are collected, never refused. Pure.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::error::{PolicyError, Violation, cut};

/// The most bytes that a document may have (a ConfigMap holds one MiB in all).
pub const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;
/// The most names of unknown fields that are reported.
const MAX_IGNORED_FIELDS: usize = 32;

/// A document that was read, with the proof of which bytes it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed<T> {
    /// The validated value.
    pub document: T,
    /// Lower-case hex sha256 of the bytes as read.
    pub hash: String,
    /// Paths of fields that this reader does not know, at most 32.
    pub ignored_fields: Vec<String>,
}

/// Lower-case hex sha256 of `bytes`: what `config.hash`, the report and the operator compare.
///
/// ```
/// assert!(valerix_policy::hash(b"").starts_with("e3b0c44298fc1c14"));
/// ```
#[must_use]
pub fn hash(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha256::digest(bytes);
    let mut text = String::with_capacity(64);
    for byte in digest {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Reads one document of `version`; `validate` lists what is out of bounds. For documents of a service's own too, which
/// then are refused in the same words.
///
/// ```
/// use valerix_policy::{Violation, parse};
///
/// #[derive(serde::Deserialize)]
/// struct Shelf {
///     books: u32,
/// }
/// let bounded = |shelf: &Shelf| match shelf.books {
///     0 => vec![Violation::new("books", 0, "put one there")],
///     _ => vec![],
/// };
/// assert_eq!(parse(br#"{"version": 1, "books": 7}"#, 1, bounded)?.document.books, 7);
/// let refused = parse(br#"{"version": 1, "books": 0}"#, 1, bounded).err().map(|error| error.to_string());
/// assert_eq!(refused.as_deref(), Some("books is 0: put one there"));
/// # Ok::<(), valerix_policy::PolicyError>(())
/// ```
///
/// # Errors
/// When the bytes are too many, no JSON, of another version or shape, or hold values out of bounds.
pub fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    version: u32,
    validate: impl FnOnce(&T) -> Vec<Violation>,
) -> Result<Parsed<T>, PolicyError> {
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Err(PolicyError::TooLarge {
            size: bytes.len(),
            limit: MAX_DOCUMENT_BYTES,
        });
    }
    check_version(bytes, version)?;
    let (document, ignored_fields) = deserialize(bytes)?;
    let violations = validate(&document);
    if !violations.is_empty() {
        return Err(PolicyError::Invalid { violations });
    }
    Ok(Parsed {
        document,
        hash: hash(bytes),
        ignored_fields,
    })
}

/// The version stands alone, so that a newer document is refused for its version and not for its shape.
fn check_version(bytes: &[u8], supported: u32) -> Result<(), PolicyError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: Option<serde_json::Value>,
    }
    // Sequences would be read as structs, field by field.
    if bytes
        .iter()
        .find(|byte| !byte.is_ascii_whitespace())
        .is_some_and(|first| *first == b'[')
    {
        return Err(PolicyError::Shape {
            path: ".".to_owned(),
            message: "invalid type: sequence; write a JSON object".to_owned(),
        });
    }
    let versioned: Versioned = serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => PolicyError::Shape {
            path: ".".to_owned(),
            message: format!("{error}; write a JSON object"),
        },
        _ => syntax(&error),
    })?;
    match versioned.version {
        Some(version) if version.as_u64() == Some(u64::from(supported)) => Ok(()),
        Some(version) => Err(PolicyError::Version {
            found: cut(&version.to_string()),
            supported,
        }),
        None => Err(PolicyError::Version {
            found: "missing".to_owned(),
            supported,
        }),
    }
}

fn deserialize<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, Vec<String>), PolicyError> {
    let mut ignored_fields = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| {
        if ignored_fields.len() < MAX_IGNORED_FIELDS {
            ignored_fields.push(cut(&render(&path)));
        }
    };
    let mut track = serde_path_to_error::Track::new();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let document = serde_ignored::deserialize(tracked, &mut note).map_err(|error: serde_json::Error| {
        // All of it is JSON, as the version was found: where a choice is wanted, the parser does not even look at a null.
        let remedy = if error.is_data() {
            ""
        } else {
            "; write one of the values that the field has, or leave it out"
        };
        PolicyError::Shape {
            path: track.path().to_string(),
            message: format!("{error}{remedy}"),
        }
    })?;
    json.end().map_err(|error| syntax(&error))?;
    Ok((document, ignored_fields))
}

fn syntax(error: &serde_json::Error) -> PolicyError {
    PolicyError::Syntax {
        line: error.line(),
        column: error.column(),
        message: error.to_string(),
    }
}

/// `targets[0].name`, the notation of every message.
fn render(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", render(parent)),
        Path::Map { parent, key } => {
            let parent = render(parent);
            if parent.is_empty() {
                key.clone()
            } else {
                format!("{parent}.{key}")
            }
        }
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => render(parent),
    }
}
