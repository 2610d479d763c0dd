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
    // Some servers take what follows a semicolon for a parameter and not for a part of the name.
    if path.contains(';') {
        return refused("the path must not contain a semicolon");
    }
    if path.contains("//") {
        return refused("the path must not contain //");
    }
    for segment in segments.split('/') {
        if let Err(detail) = check_escapes(segment) {
            return refused(detail);
        }
        if segment == "." || segment == ".." {
            return refused("the path must not contain . or .. as a segment");
        }
    }
    Ok(())
}

/// Whether the escapes of a segment are well-formed and of what could not stand there as it is; else what is wrong.
fn check_escapes(segment: &str) -> Result<(), &'static str> {
    let malformed = "each % of the path must be followed by two hexadecimal digits";
    for escape in segment.split('%').skip(1) {
        let digits = escape.get(..2).ok_or(malformed)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(malformed);
        }
        match u8::from_str_radix(digits, 16).map_err(|_| malformed)? {
            b'/' | b'\\' | 0..=0x1f | 0x7f => {
                return Err("the path must not contain an escaped slash, backslash or control character");
            }
            // RFC 3986, 2.3: both spellings are one path, and only one of them is that of a route.
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                return Err("the path must not contain an escaped letter, digit or one of - . _ ~: write it as it is");
            }
            _ => {}
        }
    }
    Ok(())
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
            "/a/%252e%252e",
            "/a/~b-c_d/%3B",
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
            "/a;b=1/c",
            "/a;/c",
            "/api/orders/dead-letters;x/replay",
            "/api/%61dmin/chaos",
            "/api/%41",
            "/api/%7A",
            "/a%30",
            "/a%2Db",
            "/a%5fb",
            "/a%7eb",
            "/a%2ejson",
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
