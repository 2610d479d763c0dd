//! Routes as documents name them: `METHOD /path`, a segment `{x}` matching any one segment. Pure.

use std::fmt;
use std::str::FromStr;

/// A method and a path pattern, compared segment by segment without allocation.
///
/// ```
/// let route: valerix_policy::Route = "POST /payments/{id}/refund".parse()?;
/// assert!(route.matches("POST", "/payments/42/refund"));
/// assert!(!route.matches("GET", "/payments/42/refund"));
/// assert!(!route.matches("POST", "/payments/42/43/refund"));
/// # Ok::<(), valerix_policy::InvalidRoute>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    method: String,
    path: String,
}

/// Why a text is not a [`Route`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid route {text:?}: write METHOD /path, such as \"POST /api/orders\" or \"GET /api/orders/{{id}}\"")]
pub struct InvalidRoute {
    /// The text, cut to 64 characters.
    pub text: String,
}

impl Route {
    /// Whether a request of `method` for `path` (without query) is meant.
    #[must_use]
    pub fn matches(&self, method: &str, path: &str) -> bool {
        if self.method != method {
            return false;
        }
        let mut pattern = self.path.split('/');
        let mut actual = path.split('/');
        loop {
            match (pattern.next(), actual.next()) {
                (None, None) => return true,
                (Some(expected), Some(found)) if is_parameter(expected) => {
                    if found.is_empty() {
                        return false;
                    }
                }
                (Some(expected), Some(found)) if expected == found => {}
                _ => return false,
            }
        }
    }

    /// The method, upper case.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The path pattern.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

fn is_parameter(segment: &str) -> bool {
    segment.len() > 2 && segment.starts_with('{') && segment.ends_with('}')
}

impl FromStr for Route {
    type Err = InvalidRoute;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidRoute {
            text: text.chars().take(64).collect(),
        };
        let (method, path) = text.split_once(' ').ok_or_else(invalid)?;
        let good_method =
            !method.is_empty() && method.len() <= 16 && method.bytes().all(|byte| byte.is_ascii_uppercase());
        let good_path = path.starts_with('/')
            && path.len() <= 256
            && path
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#');
        if good_method && good_path {
            Ok(Self {
                method: method.to_owned(),
                path: path.to_owned(),
            })
        } else {
            Err(invalid())
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.method, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_segment_by_segment() {
        let route: Route = "GET /a/{x}/b".parse().unwrap();
        assert!(route.matches("GET", "/a/1/b"));
        for path in ["/a//b", "/a/1/b/", "/a/1", "/a/1/c", "", "/"] {
            assert!(!route.matches("GET", path), "{path}");
        }
        let root: Route = "GET /".parse().unwrap();
        assert!(root.matches("GET", "/"));
        assert!(!root.matches("GET", "/a"));
    }

    #[test]
    fn refuses_other_texts() {
        for text in ["", "GET", "/a", "get /a", "GET a", "GET  /a", "GET /a b", "GET /a?x=1"] {
            assert!(text.parse::<Route>().is_err(), "{text}");
        }
    }
}
