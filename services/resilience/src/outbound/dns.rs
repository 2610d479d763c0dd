//! One question to DNS: where a service's endpoints are (SRV records, RFC 2782), which the operating system's resolver
//! cannot be asked. The bytes are pure; `Nameservers` sends them, over UDP and, for long answers, over TCP.
//!
//! It is here because nothing else tells the pods' own port: addresses (A, AAAA) have none, a Service's port is another
//! number, and the document names targets of any origin by URL. With SRV a client finds the pods of every Service whose
//! port has a name, with no right on the API server and nothing to keep true in the document. A resolver of DNS from
//! elsewhere would be a larger dependency than this one question.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::random::Random;

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const OPT: u16 = 41;
const INTERNET: u16 = 1;
/// What fits into one packet everywhere; longer answers are asked for over TCP.
const UDP_BYTES: u16 = 1_232;
/// How long one nameserver has to answer.
const PATIENCE: Duration = Duration::from_secs(1);
const MAX_NAMESERVERS: usize = 3;
/// Names point backwards, so a chain of pointers ends; this ends it sooner.
const MAX_POINTERS: usize = 32;

/// What DNS knows of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    Found(Vec<SocketAddr>),
    /// There is no such name, or none with an address.
    Nothing,
}

/// Who is asked, and the domain of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nameservers {
    pub(super) servers: Vec<SocketAddr>,
    pub(super) domain: String,
}

impl Nameservers {
    /// Reads `/etc/resolv.conf`, which the kubelet writes.
    pub(super) async fn read() -> io::Result<Self> {
        Ok(Self::parse(&tokio::fs::read_to_string("/etc/resolv.conf").await?))
    }

    fn parse(text: &str) -> Self {
        let lines = || text.lines().map(str::split_whitespace);
        let servers = lines().filter_map(|mut words| match (words.next(), words.next()) {
            (Some("nameserver"), Some(address)) => Some(SocketAddr::new(address.parse().ok()?, 53)),
            _ => None,
        });
        let domain = lines().find_map(|mut words| {
            (words.next() == Some("search")).then_some(())?;
            words.find_map(|domain| domain.trim_end_matches('.').strip_prefix("svc."))
        });
        Self {
            servers: servers.take(MAX_NAMESERVERS).collect(),
            domain: domain.unwrap_or("cluster.local").to_owned(),
        }
    }

    /// The addresses of a service's endpoints.
    ///
    /// # Errors
    /// When no nameserver answers.
    pub(super) async fn services(&self, name: &str) -> io::Result<Lookup> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no nameserver is known");
        for server in &self.servers {
            match tokio::time::timeout(PATIENCE, ask(*server, name)).await {
                Ok(Ok(lookup)) => return Ok(lookup),
                Ok(Err(error)) => last = error,
                Err(_) => {
                    last = io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("nameserver {server} did not answer in 1 s"),
                    );
                }
            }
        }
        Err(last)
    }
}

async fn ask(server: SocketAddr, name: &str) -> io::Result<Lookup> {
    let [_, _, .., high, low] = Random::from_entropy().next().to_be_bytes();
    let id = u16::from_be_bytes([high, low]);
    let question = question(id, name)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no name of DNS")))?;
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut bytes = vec![0; usize::from(UDP_BYTES)];
    let answer = loop {
        let length = socket.recv(&mut bytes).await?;
        // Late answers to another question, and forged ones, are none to this.
        if let Some(answer) = parse(&bytes[..length], id, name) {
            break answer;
        }
    };
    if !answer.truncated {
        return answer.lookup(server);
    }
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).unwrap_or(u16::MAX);
    stream
        .write_all(&[&length.to_be_bytes()[..], &question].concat())
        .await?;
    let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut bytes).await?;
    let malformed = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("nameserver {server} answered nonsense"),
        )
    };
    parse(&bytes, id, name).ok_or_else(malformed)?.lookup(server)
}

/// The bytes of the question, or nothing where the name cannot be asked for.
fn question(id: u16, name: &str) -> Option<Vec<u8>> {
    if name.len() > 253 {
        return None;
    }
    let mut bytes = Vec::with_capacity(name.len() + 29);
    // Recursion desired; one question, one additional record.
    for word in [id, 0x0100, 1, 0, 0, 1] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    for label in name.split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..=63).contains(length))?;
        bytes.push(length);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    for word in [SRV, INTERNET] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    // EDNS: how long an answer may be.
    bytes.push(0);
    for word in [OPT, UDP_BYTES, 0, 0, 0] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    Some(bytes)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct DnsReply {
    truncated: bool,
    code: u8,
    /// Priority, port and host of each endpoint.
    services: Vec<(u16, u16, String)>,
    addresses: HashMap<String, Vec<IpAddr>>,
}

impl DnsReply {
    fn lookup(self, server: SocketAddr) -> io::Result<Lookup> {
        match self.code {
            // No error, no such name, not implemented, refused: this nameserver knows of none.
            0 | 3 | 4 | 5 => {}
            code => {
                let message = format!("nameserver {server} failed with code {code}");
                return Err(io::Error::other(message));
            }
        }
        let Some(least) = self.services.iter().map(|(priority, ..)| *priority).min() else {
            return Ok(Lookup::Nothing);
        };
        let first = self.services.iter().filter(|(priority, ..)| *priority == least);
        let found: Vec<SocketAddr> = first
            .filter_map(|(_, port, host)| Some((*port, self.addresses.get(host)?)))
            .flat_map(|(port, addresses)| addresses.iter().map(move |address| SocketAddr::new(*address, port)))
            .collect();
        Ok(if found.is_empty() {
            Lookup::Nothing
        } else {
            Lookup::Found(found)
        })
    }
}

/// Reads an answer to the question `name` with this id; nothing when it is none, or malformed.
fn parse(bytes: &[u8], id: u16, name: &str) -> Option<DnsReply> {
    let mut reader = Reader { bytes, at: 0 };
    let (given, flags) = (reader.word()?, reader.word()?);
    let [questions, answers, authorities, additional] =
        [reader.word()?, reader.word()?, reader.word()?, reader.word()?];
    let is_answer = flags & 0x8000 != 0;
    if given != id || !is_answer || questions != 1 {
        return None;
    }
    let same = reader.name()?.eq_ignore_ascii_case(name) && reader.word()? == SRV && reader.word()? == INTERNET;
    if !same {
        return None;
    }
    let mut answer = DnsReply {
        truncated: flags & 0x0200 != 0,
        code: u8::try_from(flags & 0x000f).ok()?,
        ..DnsReply::default()
    };
    if answer.truncated {
        return Some(answer);
    }
    for _ in 0..u32::from(answers) + u32::from(authorities) + u32::from(additional) {
        let owner = reader.name()?;
        let (kind, class) = (reader.word()?, reader.word()?);
        reader.take(4)?;
        let length = usize::from(reader.word()?);
        let end = reader.at.checked_add(length)?;
        if class == INTERNET {
            match (kind, length) {
                (SRV, 7..) => {
                    let (priority, _weight, port) = (reader.word()?, reader.word()?, reader.word()?);
                    let host = reader.name()?;
                    answer.services.push((priority, port, host));
                }
                (A, 4) => {
                    let octets: [u8; 4] = reader.take(4)?.try_into().ok()?;
                    answer.addresses.entry(owner).or_default().push(octets.into());
                }
                (AAAA, 16) => {
                    let octets: [u8; 16] = reader.take(16)?.try_into().ok()?;
                    answer.addresses.entry(owner).or_default().push(octets.into());
                }
                _ => {}
            }
        }
        if reader.at > end || end > bytes.len() {
            return None;
        }
        reader.at = end;
    }
    Some(answer)
}

/// For the fuzzer: an answer to a good question, of which nobody chose the counts, the flags and the records.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    const NAME: &str = "_http._tcp.stock-pods.shop.svc.cluster.local";
    const RECORDS: usize = 12 + NAME.len() + 2 + 4;
    let (head, records) = bytes.split_at(bytes.len().min(4));
    let Some(mut reply) = question(7, NAME) else { return };
    reply.truncate(RECORDS);
    reply[2] |= 0x80;
    for (place, byte) in [3, 7, 9, 11].into_iter().zip(head) {
        reply[place] = *byte;
    }
    reply.extend_from_slice(records);
    if let Some(answer) = parse(&reply, 7, NAME) {
        assert!(answer.services.len() <= records.len(), "more records than bytes");
        if let Ok(Lookup::Found(found)) = answer.lookup(SocketAddr::from((Ipv4Addr::LOCALHOST, 53))) {
            assert!(!found.is_empty(), "nothing found is not found");
        }
    }
}

struct Reader<'bytes> {
    bytes: &'bytes [u8],
    at: usize,
}

impl<'bytes> Reader<'bytes> {
    fn take(&mut self, count: usize) -> Option<&'bytes [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn word(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A name in lower case, its pointers followed. Bytes that are not visible ASCII are escaped, so that two names are
    /// never taken for one.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let mut resume = None;
        let mut pointers = 0;
        loop {
            let length = self.take(1)?[0];
            match length {
                0 => break,
                1..=63 => {
                    if !name.is_empty() {
                        name.push('.');
                    }
                    for &byte in self.take(usize::from(length))? {
                        if byte.is_ascii_graphic() && byte != b'.' && byte != b'\\' {
                            name.push(char::from(byte.to_ascii_lowercase()));
                        } else {
                            write!(name, "\\{byte:03}").ok()?;
                        }
                    }
                    if name.len() > 1_024 {
                        return None;
                    }
                }
                0xc0.. => {
                    pointers += 1;
                    if pointers > MAX_POINTERS {
                        return None;
                    }
                    let low = self.take(1)?[0];
                    resume.get_or_insert(self.at);
                    self.at = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                }
                _ => return None,
            }
        }
        if let Some(at) = resume {
            self.at = at;
        }
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "_http._tcp.inventory-pods.shop.svc.cluster.local";

    /// An answer as CoreDNS writes it: endpoints, then their addresses, names as pointers to the question's.
    fn answer(flags: u16, endpoints: &[(&str, u16, [u8; 4])]) -> Vec<u8> {
        let mut bytes = question(7, NAME).unwrap();
        bytes.truncate(bytes.len() - 11);
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        let count = u16::try_from(endpoints.len()).unwrap().to_be_bytes();
        bytes[6..8].copy_from_slice(&count);
        bytes[10..12].copy_from_slice(&count);
        // `_http._tcp.` takes 11 bytes behind the header of 12.
        let service = [0xc0, 23];
        let host = |name: &str| [&[u8::try_from(name.len()).unwrap()], name.as_bytes(), &service].concat();
        let record = |owner: &[u8], kind: u16, data: &[u8]| {
            let mut record = owner.to_vec();
            for word in [kind, INTERNET, 0, 5, u16::try_from(data.len()).unwrap()] {
                record.extend_from_slice(&word.to_be_bytes());
            }
            record.extend_from_slice(data);
            record
        };
        for (name, port, _) in endpoints {
            let data = [&[0, 0, 0, 50][..], &port.to_be_bytes(), &host(name)].concat();
            bytes.extend(record(&[0xc0, 12], SRV, &data));
        }
        for (name, _, address) in endpoints {
            bytes.extend(record(&host(name), A, address));
        }
        bytes
    }

    fn lookup(bytes: &[u8]) -> Option<Lookup> {
        parse(bytes, 7, NAME)?.lookup("10.96.0.10:53".parse().unwrap()).ok()
    }

    #[test]
    fn endpoints_come_with_their_own_ports() {
        let bytes = answer(
            0x8180,
            &[("10-0-0-7", 3002, [10, 0, 0, 7]), ("10-0-0-8", 3003, [10, 0, 0, 8])],
        );
        let expected = ["10.0.0.7:3002", "10.0.0.8:3003"].map(|address| address.parse().unwrap());
        assert_eq!(lookup(&bytes), Some(Lookup::Found(expected.to_vec())));
    }

    /// As CoreDNS 1.12 answered about two replicas of inventory.
    const RECORDED: &str = "\
        000785000001000200000003055f68747470045f7463700e696e76656e746f72792d706f64730473686f700373766307 \
        636c7573746572056c6f63616c0000210001055f68747470045f7463700e696e76656e746f72792d706f64730473686f \
        700373766307636c7573746572056c6f63616c0000210001000000050038000000320bba0a31302d36362d312d36380e \
        696e76656e746f72792d706f64730473686f700373766307636c7573746572056c6f63616c00055f68747470045f7463 \
        700e696e76656e746f72792d706f64730473686f700373766307636c7573746572056c6f63616c000021000100000005 \
        0038000000320bba0a31302d36362d312d36390e696e76656e746f72792d706f64730473686f700373766307636c7573 \
        746572056c6f63616c000a31302d36362d312d36380e696e76656e746f72792d706f64730473686f700373766307636c \
        7573746572056c6f63616c00000100010000000500040a4201440a31302d36362d312d36390e696e76656e746f72792d \
        706f64730473686f700373766307636c7573746572056c6f63616c00000100010000000500040a42014500002904d000 \
        0000000000";

    #[test]
    fn a_recorded_answer_is_read() {
        let digits: Vec<u8> = RECORDED.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
        let expected = ["10.66.1.68:3002", "10.66.1.69:3002"].map(|address| address.parse().unwrap());
        assert_eq!(lookup(&bytes), Some(Lookup::Found(expected.to_vec())));
    }

    #[test]
    fn no_such_name_is_no_failure_and_a_failure_is_no_answer() {
        for code in [0, 3, 5] {
            assert_eq!(lookup(&answer(0x8180 | code, &[])), Some(Lookup::Nothing), "{code}");
        }
        assert_eq!(lookup(&answer(0x8182, &[])), None);
        let truncated = parse(&answer(0x8380, &[]), 7, NAME).unwrap();
        assert!(truncated.truncated);
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let bytes = answer(0x8180, &[("a", 1, [10, 0, 0, 7])]);
        assert_eq!(parse(&bytes, 8, NAME), None);
        assert_eq!(parse(&bytes, 7, "_http._tcp.payment-pods.shop.svc.cluster.local"), None);
        assert_eq!(parse(&question(7, NAME).unwrap(), 7, NAME), None, "a question");
        assert_eq!(question(7, &"a".repeat(64)), None);
        assert_eq!(question(7, "a..b"), None);
    }

    #[test]
    fn a_chain_of_pointers_ends() {
        let mut bytes = answer(0x8180, &[("a", 1, [10, 0, 0, 7])]);
        let loop_at = u16::try_from(bytes.len() - 20).unwrap();
        bytes[12] = 0xc0 | u8::try_from(loop_at >> 8).unwrap();
        for at in 0..bytes.len() {
            let mut hostile = bytes.clone();
            hostile[at] = 0xc0;
            let _ = parse(&hostile, 7, NAME);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_hang(
            flips in proptest::collection::vec((0_usize..200, any::<u8>()), 0..12), cut in 0_usize..200,
        ) {
            let mut bytes = answer(0x8180, &[("10-0-0-7", 3002, [10, 0, 0, 7]), ("b", 80, [10, 0, 0, 8])]);
            for (at, value) in flips {
                let length = bytes.len();
                bytes[at % length] = value;
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            let _ = parse(&bytes, 7, NAME);
        }
    }

    #[test]
    fn reads_what_the_kubelet_writes() {
        let text = "search shop.svc.example.org svc.example.org example.org\nnameserver 10.96.0.10\nnameserver fd00::a\n\
                    options ndots:5\n# nameserver 1.1.1.1\n";
        let read = Nameservers::parse(text);
        assert_eq!(read.domain, "example.org");
        assert_eq!(
            read.servers,
            ["10.96.0.10:53", "[fd00::a]:53"].map(|server| server.parse().unwrap())
        );
        assert_eq!(Nameservers::parse("").domain, "cluster.local");
    }
}
