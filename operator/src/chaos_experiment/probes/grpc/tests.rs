use super::super::address::testing::{Fixed, nobody};
use super::*;
use crate::chaos_experiment::probes::mark::testing::mark;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use valerix_policy::PROBE_HEADER;

/// Head, path and body of what was asked.
type Asked = Arc<Mutex<Vec<(String, HeaderMap, Vec<u8>)>>>;

/// What the server does.
#[derive(Clone, Copy, Debug)]
enum Behaviour {
    /// Answers with this message and this code behind it.
    Says(&'static [u8], &'static str),
    /// Answers with a code in the head and nothing behind it.
    OnlyHead(&'static str),
    /// Answers as a web server would.
    IsNoGrpc(u16),
    /// Begins an answer and does not end it.
    NeverEnds,
    /// Answers and says nothing of how it ended.
    SaysNoCode,
}

const SERVING: Behaviour = Behaviour::Says(&[0, 0, 0, 0, 2, 8, 1], "0");

type Chunks = futures::stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>;

fn respond(behaviour: Behaviour) -> Response<StreamBody<Chunks>> {
    use futures::StreamExt as _;
    let mut response = Response::builder().header("content-type", "application/grpc+proto");
    let trailers = |code: &'static str| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(code));
        Ok(Frame::trailers(trailers))
    };
    let data = |message: &'static [u8]| Ok(Frame::data(Bytes::from_static(message)));
    let chunks: Chunks = match behaviour {
        Behaviour::Says(message, code) => futures::stream::iter([data(message), trailers(code)]).boxed(),
        Behaviour::OnlyHead(code) => {
            response = response.header("grpc-status", code).header("grpc-message", "not today");
            futures::stream::empty().boxed()
        }
        Behaviour::IsNoGrpc(status) => {
            response = Response::builder().status(status).header("content-type", "text/html");
            futures::stream::iter([data(b"<html>")]).boxed()
        }
        Behaviour::NeverEnds => futures::stream::iter([data(&[0])])
            .chain(futures::stream::pending())
            .boxed(),
        Behaviour::SaysNoCode => futures::stream::iter([data(&[0, 0, 0, 0, 2, 8, 1])]).boxed(),
    };
    response.body(StreamBody::new(chunks)).unwrap()
}

/// A server of HTTP/2 and nothing else, encrypted or not.
async fn serve(behaviour: Behaviour, tls: bool) -> (SocketAddr, Asked) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let pem = include_bytes!("certificate.pem");
    let certificate = CertificateDer::from_pem_slice(pem).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pem).unwrap();
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Asked::default();
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (seen, acceptor) = (seen.clone(), acceptor.clone());
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let seen = seen.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes().to_vec();
                        seen.lock()
                            .unwrap()
                            .push((head.uri.path().to_owned(), head.headers, body));
                        Ok::<_, Infallible>(respond(behaviour))
                    }
                });
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                if tls {
                    let stream = acceptor.accept(stream).await.unwrap();
                    server.serve_connection(TokioIo::new(stream), service).await
                } else {
                    server.serve_connection(TokioIo::new(stream), service).await
                }
            });
        }
    });
    (address, asked)
}

async fn ask(address: SocketAddr, mut question: Value) -> String {
    question["service"] = json!("stock");
    question["port"] = json!(9000);
    let question: GrpcProbe = serde_json::from_value(question).unwrap();
    match GrpcAsker::new().unwrap().ask(&Fixed(address), &mark(), &question).await {
        ProbeResult::Passed => "passed".to_owned(),
        ProbeResult::Failed(why) => why.to_string(),
        ProbeResult::NotAsked(why) => format!("not asked: {why}"),
    }
}

#[tokio::test]
async fn the_question_is_that_of_the_health_protocol_and_bears_the_runs_mark() {
    for tls in [false, true] {
        let (address, asked) = serve(SERVING, tls).await;
        assert_eq!(ask(address, json!({"tls": tls})).await, "passed");
        let about = json!({"tls": tls, "grpcService": "shop.v1.Stock"});
        assert_eq!(ask(address, about).await, "passed");
        let asked = asked.lock().unwrap();
        let [(path, head, whole), (_, _, named)] = &asked[..] else {
            panic!("{asked:?}")
        };
        assert_eq!(path, "/grpc.health.v1.Health/Check");
        assert_eq!(head["content-type"], "application/grpc");
        assert_eq!(
            (&head["te"], &head["grpc-timeout"]),
            (&"trailers".parse().unwrap(), &"5000m".parse().unwrap())
        );
        assert_eq!(head[PROBE_HEADER], "shop/slow/run");
        assert!(head.get("authorization").is_none() && head.get("cookie").is_none());
        assert_eq!(whole[..], [0, 0, 0, 0, 0]);
        assert_eq!(named[..7], [0, 0, 0, 0, 15, 0x0a, 13]);
        assert_eq!(&named[7..], b"shop.v1.Stock");
    }
}

#[tokio::test]
async fn an_answer_is_judged_by_the_health_that_it_says() {
    for (behaviour, expected) in [
        (
            Behaviour::Says(&[0, 0, 0, 0, 2, 8, 2], "0"),
            "the health is NOT_SERVING",
        ),
        (Behaviour::Says(&[0, 0, 0, 0, 0], "0"), "the health is UNKNOWN"),
        (
            Behaviour::Says(&[0, 0, 0, 0, 2, 8, 3], "0"),
            "not asked: Service stock knows no health of `a.B`; correct grpc.grpcService",
        ),
        (
            Behaviour::OnlyHead("5"),
            "not asked: Service stock knows no health of `a.B`; correct grpc.grpcService",
        ),
        (
            Behaviour::OnlyHead("12"),
            "not asked: Service stock offers no grpc.health.v1.Health on this port; correct grpc.port or use another probe",
        ),
        (Behaviour::OnlyHead("14"), "grpc-status 14 (not today) instead of 0"),
        (
            Behaviour::Says(&[0, 0, 0, 0, 2, 8, 1], "13"),
            "grpc-status 13 instead of 0",
        ),
        (Behaviour::SaysNoCode, "the answer ended without grpc-status"),
        (Behaviour::IsNoGrpc(200), "status 200 of HTTP and no answer of gRPC"),
        (Behaviour::IsNoGrpc(503), "status 503 of HTTP and no answer of gRPC"),
        (Behaviour::NeverEnds, "no whole answer within 300ms"),
        (
            Behaviour::Says(&[1, 0, 0, 0, 2, 8, 1], "0"),
            "the answer is no HealthCheckResponse: it is compressed, which was not asked for",
        ),
        (
            Behaviour::Says(&[0, 0, 0, 0, 9, 8, 1], "0"),
            "the answer is no HealthCheckResponse: it is cut off",
        ),
    ] {
        let (address, _) = serve(behaviour, false).await;
        // As long as a busy machine may need, but for who is waited for in vain.
        let patience = if matches!(behaviour, Behaviour::NeverEnds) {
            "300ms"
        } else {
            "10s"
        };
        let question = json!({"grpcService": "a.B", "maxLatency": patience});
        assert_eq!(ask(address, question).await, expected, "{behaviour:?}");
    }
}

#[tokio::test]
async fn who_speaks_no_http_2_does_not_answer() {
    let (encrypted, _) = serve(SERVING, true).await;
    let (closed, _kept) = nobody();
    for address in [encrypted, closed] {
        let text = ask(address, json!({"maxLatency": "2s"})).await;
        assert!(text.starts_with("no "), "{text}");
    }
}

#[test]
fn a_long_name_has_a_long_length_and_later_fields_are_passed_over() {
    let framed = request(&"s".repeat(200));
    assert_eq!(framed[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 0x01]);
    // A text as field 2, a number as field 3, eight bytes as field 4, four as field 5; the last status counts.
    let message = [
        8, 2, 0x12, 2, b'n', b'o', 0x18, 0x80, 1, 0x21, 0, 0, 0, 0, 0, 0, 0, 0, 0x2d, 0, 0, 0, 0, 8, 1,
    ];
    let mut body = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
    body.extend_from_slice(&message);
    assert_eq!(health(&body), Ok(Health::Serving));
}

#[test]
fn no_bytes_at_all_bring_the_reader_down() {
    use rand::{RngExt, SeedableRng};
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    for _ in 0..20_000 {
        let length = random.random_range(0..40_u8);
        let mut body: Vec<u8> = (0..length).map(|_| random.random()).collect();
        if let [compressed, one, two, three, four, ..] = &mut body[..] {
            (*compressed, *one, *two, *three) = (0, 0, 0, 0);
            *four = random.random_range(0..40);
        }
        let _ = health(&body);
    }
    for huge in [
        [0, 255, 255, 255, 255].as_slice(),
        &[0, 0, 0, 0, 11, 18, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
    ] {
        assert!(health(huge).is_err());
    }
}
