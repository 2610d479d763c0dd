//! Paths that mean the same to everybody. Pure.
//!
//! Whoever decides by a path (a route, a role) and whoever serves it must read it alike; where decoding or normalising it
//! gives another path than its text, one of them could be led past the other.

use http::StatusCode;
use valerix_resilience::Problem;

/// Whether the path of a request means the same before and after anybody normalises it.
///
/// ```
/// use valerix_proxy::check_path;
///
/// assert!(check_path("/api/orders/42").is_ok());
/// assert!(check_path("/api/%2e%2e/admin").is_err());
/// ```
///
/// # Errors
/// 400 that says which part of the path is not accepted.
pub fn check_path(path: &str) -> Result<(), Problem> {
    let refused = |detail: &str| Err(Problem::new(StatusCode::BAD_REQUEST, "invalid-path", detail).never_retry());
    let Some(segments) = path.strip_prefix('/') else {
        return refused("the path must begin with /");
    };
    if path.contains('\\') {
        return refused("the path must not contain a backslash");
    }
    if path.contains("//") {
        return refused("the path must not contain //");
    }
    for segment in segments.split('/') {
        match escapes(segment) {
            Err(()) => return refused("each % of the path must be followed by two hexadecimal digits"),
            Ok(true) => return refused("the path must not contain an escaped slash, backslash or control character"),
            Ok(false) => {}
        }
        // Some servers take what follows a semicolon for a parameter and not for a part of the name.
        let name = segment.split(';').next().unwrap_or_default();
        let name = name.replace("%2e", ".").replace("%2E", ".");
        if name == "." || name == ".." {
            return refused("the path must not contain . or .. as a segment");
        }
    }
    Ok(())
}

/// Whether a segment hides a separator or a control character in an escape; an error for an escape that is none.
fn escapes(segment: &str) -> Result<bool, ()> {
    let mut hides = false;
    for escape in segment.split('%').skip(1) {
        let digits = escape.get(..2).ok_or(())?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(());
        }
        let byte = u8::from_str_radix(digits, 16).map_err(|_| ())?;
        hides |= matches!(byte, b'/' | b'\\' | 0..=0x1f | 0x7f);
    }
    Ok(hides)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_could_be_read_in_two_ways_is_refused() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.c/..d",
            "/a/%20/%C3%A9",
            "/.well-known/jwks.json",
            "/a;b=1/c",
            "/a/%252e%252e",
        ] {
            assert!(check_path(path).is_ok(), "{path}");
        }
        for path in [
            "",
            "*",
            "a",
            "//a",
            "/a//b",
            "/a//",
            "/..",
            "/a/../b",
            "/a/..",
            "/a/./b",
            "/.",
            "/%2e%2e/a",
            "/%2E./a",
            "/a/.%2e",
            "/a/..;x=1/b",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a%0d%0ab",
            "/a%7f",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%+1",
        ] {
            let problem = check_path(path).expect_err(path);
            assert_eq!(
                (problem.status().as_u16(), problem.name()),
                (400, "invalid-path"),
                "{path}"
            );
        }
    }
}
