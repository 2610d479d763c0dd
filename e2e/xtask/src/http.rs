//! One HTTP/1.1 request over one connection: enough to place an order through a port-forward, without a client library
//! in the first thing that a new machine compiles.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

const TIMEOUT: Duration = Duration::from_secs(15);

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

/// Sends one request to 127.0.0.1 and reads the whole answer.
///
/// # Errors
/// When nothing listens, the connection breaks, or the answer is not HTTP.
pub fn request(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("failed to connect")?;
    stream
        .set_read_timeout(Some(TIMEOUT))
        .context("failed to set a timeout")?;
    stream
        .set_write_timeout(Some(TIMEOUT))
        .context("failed to set a timeout")?;
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream
        .write_all(text.as_bytes())
        .context("failed to send the request")?;
    let mut bytes = Vec::new();
    let mut part = [0; 16 * 1024];
    // A forwarded connection closes up to a second after the answer; nobody should wait for that.
    while !is_whole(&bytes) {
        let count = stream.read(&mut part).context("failed to read the answer")?;
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&part[..count]);
    }
    parse(&bytes)
}

/// Whether the head and the body that it announces are there.
fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    match length {
        Some(length) => body.len() >= length,
        None => body.ends_with("0\r\n\r\n"),
    }
}

/// True when something on 127.0.0.1 answers `question` with bytes that begin with `expected`.
pub fn answers(port: u16, question: &[u8], expected: &[u8]) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(question)?;
        let mut answer = vec![0; expected.len()];
        stream.read_exact(&mut answer)?;
        Ok(answer == expected)
    };
    ask().unwrap_or(false)
}

fn parse(bytes: &[u8]) -> Result<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .context("the answer has no end of headers")?;
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .context("the answer has no HTTP status line")?;
    let chunked = lines.any(|line| {
        line.split_once(':').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked")
        })
    });
    let body = if chunked { join_chunks(body)? } else { body.to_owned() };
    Ok(Answer { status, body })
}

fn join_chunks(mut rest: &str) -> Result<String> {
    let mut joined = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").context("a chunk has no size line")?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).with_context(|| format!("a chunk has the size {size:?}"))?;
        if size == 0 {
            return Ok(joined);
        }
        let Some(chunk) = after.get(..size) else {
            bail!("a chunk is shorter than its size says")
        };
        joined.push_str(chunk);
        rest = after[size..].strip_prefix("\r\n").context("a chunk has no end")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_chunked_answers_are_read() {
        let plain = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(
            parse(plain).expect("an answer"),
            Answer {
                status: 201,
                body: "hi".into()
            }
        );
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3;x=y\r\n yo\r\n0\r\n\r\n";
        assert_eq!(
            parse(chunked).expect("an answer"),
            Answer {
                status: 200,
                body: "hi yo".into()
            }
        );
    }

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        for (bytes, whole) in [
            (&b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nhi"[..], true),
            (b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nh", false),
            (b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n", false),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
                false,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
                true,
            ),
        ] {
            assert_eq!(is_whole(bytes), whole, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for wrong in [
            &b""[..],
            b"hello",
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhi",
        ] {
            assert!(parse(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }
}
