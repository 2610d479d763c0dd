//! Asks the health service of gRPC (`grpc.health.v1.Health/Check`) once and judges the answer. Reads the network; writes
//! nothing.
//!
//! Both messages have one field each, so they are written and read here by hand. What the answer means for the system is
//! said by a status of health alone; a server that does not offer the health service, or does not know the name that it
//! was asked about, says nothing of anybody's health: the question could not be asked.

use super::address::{Resolver, Unresolved};
use super::http::{BODY_LIMIT, MOST};
use super::mark::Mark;
use super::samples::ProbeResult;
use crate::runtime::failure;
use http::HeaderMap;
use http_body_util::BodyExt;
use valerix_crds::GrpcProbe;

/// Where the question is sent.
const PATH: &str = "/grpc.health.v1.Health/Check";
/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// Codes of gRPC that say something of the question and not of the system.
const NOT_FOUND: &str = "5";
const UNIMPLEMENTED: &str = "12";

/// Asks questions; cheap to clone.
#[derive(Clone)]
pub struct GrpcAsker {
    plain: reqwest::Client,
    encrypted: reqwest::Client,
}

/// What came of a question.
struct Reply {
    /// Status of HTTP.
    status: u16,
    /// What came before the body, which is where an answer without a body says how it ended.
    head: HeaderMap,
    /// What came behind the body.
    trailers: HeaderMap,
    /// The body, as much of it as is read.
    body: Vec<u8>,
}

/// What the health service says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Unknown,
    Serving,
    NotServing,
    ServiceUnknown,
}

impl GrpcAsker {
    /// Clients without redirects, proxies, cookies or kept connections.
    ///
    /// # Errors
    /// If the TLS library cannot be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        Ok(Self {
            plain: builder().build()?,
            // The address of a pod stands in no certificate, and a question without a credential has nothing to protect.
            encrypted: builder().tls_danger_accept_invalid_certs(true).build()?,
        })
    }

    /// Asks once.
    pub async fn ask(&self, resolver: &dyn Resolver, mark: &Mark, question: &GrpcProbe) -> ProbeResult {
        let limit = question
            .max_latency
            .as_ref()
            .map(valerix_crds::Duration::value)
            .transpose();
        let limit = match limit {
            Ok(limit) => limit.unwrap_or(MOST).min(MOST),
            Err(error) => return ProbeResult::NotAsked(format!("grpc.maxLatency: {error}").into()),
        };
        let Ok(port) = u16::try_from(question.port) else {
            return ProbeResult::NotAsked(format!("port {} is no TCP port", question.port).into());
        };
        let resolved = resolver.resolve(&mark.namespace, &question.service, port);
        let address = match tokio::time::timeout(MOST, resolved).await {
            Ok(Ok(address)) => address,
            Ok(Err(Unresolved::NotAsked(why))) => {
                let why = why
                    .replace("http.service", "grpc.service")
                    .replace("http.port", "grpc.port");
                return ProbeResult::NotAsked(why.into());
            }
            Ok(Err(Unresolved::NobodyThere(why))) => return ProbeResult::Failed(why.into()),
            Err(_) => {
                return ProbeResult::NotAsked(format!("failed to find Service {} in time", question.service).into());
            }
        };
        let (client, scheme) = if question.tls {
            (&self.encrypted, "https")
        } else {
            (&self.plain, "http")
        };
        let request = client
            .post(format!("{scheme}://{address}{PATH}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", format!("{}m", limit.as_millis()))
            .body(request(question.grpc_service.as_deref().unwrap_or_default()));
        match tokio::time::timeout(limit, answer(mark.put(request))).await {
            Ok(Ok(answer)) => judge(question, &answer),
            Ok(Err(error)) => ProbeResult::Failed(format!("no answer: {}", failure::chain(&error)).into()),
            Err(_) => ProbeResult::Failed(format!("no whole answer within {limit:?}").into()),
        }
    }
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .http2_prior_knowledge()
        .pool_max_idle_per_host(0)
        .user_agent("valerix-probe")
}

/// `HealthCheckRequest {string service = 1}` with its prefix.
fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        let mut length = service.len();
        while length > 0x7f {
            message.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or_default());
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(&message);
    framed
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Reply, reqwest::Error> {
    let response = request.send().await.map_err(reqwest::Error::without_url)?;
    let (head, mut body) = http::Response::<reqwest::Body>::from(response).into_parts();
    let mut answer = Reply {
        status: head.status.as_u16(),
        head: head.headers,
        trailers: HeaderMap::new(),
        body: Vec::new(),
    };
    while answer.body.len() < BODY_LIMIT
        && let Some(frame) = body.frame().await
    {
        match frame.map_err(reqwest::Error::without_url)?.into_data() {
            Ok(data) => answer
                .body
                .extend_from_slice(&data[..data.len().min(BODY_LIMIT - answer.body.len())]),
            Err(frame) => answer.trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    Ok(answer)
}

fn judge(question: &GrpcProbe, answer: &Reply) -> ProbeResult {
    let is_grpc = text(&answer.head, "content-type").is_some_and(|kind| kind.starts_with("application/grpc"));
    if answer.status != 200 || !is_grpc {
        return ProbeResult::Failed(format!("status {} of HTTP and no answer of gRPC", answer.status).into());
    }
    let Some(code) = text(&answer.trailers, "grpc-status").or_else(|| text(&answer.head, "grpc-status")) else {
        return ProbeResult::Failed("the answer ended without grpc-status".into());
    };
    let about = question.grpc_service.as_deref().unwrap_or_default();
    match code {
        "0" => {}
        UNIMPLEMENTED => {
            return ProbeResult::NotAsked(
                format!(
                    "Service {} offers no grpc.health.v1.Health on this port; correct grpc.port or use another probe",
                    question.service
                )
                .into(),
            );
        }
        NOT_FOUND => return unknown(question, about),
        code => {
            let message = text(&answer.trailers, "grpc-message").or_else(|| text(&answer.head, "grpc-message"));
            let message = message.map(|message| format!(" ({message})")).unwrap_or_default();
            return ProbeResult::Failed(format!("grpc-status {code}{message} instead of 0").into());
        }
    }
    match health(&answer.body) {
        Ok(Health::Serving) => ProbeResult::Passed,
        Ok(Health::ServiceUnknown) => unknown(question, about),
        Ok(Health::NotServing) => ProbeResult::Failed("the health is NOT_SERVING".into()),
        Ok(Health::Unknown) => ProbeResult::Failed("the health is UNKNOWN".into()),
        Err(why) => ProbeResult::Failed(format!("the answer is no HealthCheckResponse: {why}").into()),
    }
}

fn unknown(question: &GrpcProbe, about: &str) -> ProbeResult {
    ProbeResult::NotAsked(
        format!(
            "Service {} knows no health of `{about}`; correct grpc.grpcService",
            question.service
        )
        .into(),
    )
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// `HealthCheckResponse {ServingStatus status = 1}` behind its prefix. Fields of later versions are passed over.
fn health(body: &[u8]) -> Result<Health, &'static str> {
    let (prefix, rest) = body.split_at_checked(PREFIX).ok_or("it is too short")?;
    let [compressed, length @ ..] = prefix else {
        return Err("it is too short");
    };
    if *compressed != 0 {
        return Err("it is compressed, which was not asked for");
    }
    let length = length
        .iter()
        .fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
    let mut message = rest.get(..length).ok_or("it is cut off")?;
    let mut health = Health::Unknown;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let skipped = match key & 7 {
            0 => {
                let value = varint(&mut message)?;
                if key >> 3 == 1 {
                    health = match value {
                        0 => Health::Unknown,
                        1 => Health::Serving,
                        2 => Health::NotServing,
                        3 => Health::ServiceUnknown,
                        _ => return Err("its status is none that is known"),
                    };
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).map_err(|_| "it is cut off")?,
            5 => 4,
            _ => return Err("it holds a field of no kind that is known"),
        };
        message = message.get(skipped..).ok_or("it is cut off")?;
    }
    Ok(health)
}

fn varint(message: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = message.split_first().ok_or("it is cut off")?;
        *message = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("it holds a number that is too long")
}

#[cfg(test)]
mod tests;
