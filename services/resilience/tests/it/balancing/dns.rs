//! Pods that are named by DNS.

use super::*;

/// A nameserver that knows one headless Service; over UDP it says that its answer is too long.
async fn nameserver(pods: &'static str, endpoints: Vec<SocketAddr>) -> SocketAddr {
    // A port that is free for both.
    let (udp, tcp) = loop {
        let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = tokio::net::TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    let answer = move |question: &[u8], over_tcp: bool| {
        let known = question[12..].starts_with(&labels(pods));
        // An answer, authoritative; truncated over UDP; no such name for any other.
        let flags: u16 = 0x8400 | if over_tcp { 0 } else { 0x0200 } | if known { 0 } else { 3 };
        let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let count = if known && over_tcp {
            u16::try_from(endpoints.len()).unwrap()
        } else {
            0
        };
        let mut bytes = question[..2].to_vec();
        for word in [flags, 1, count, 0, count] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(&question[12..end]);
        let host = |number: usize| labels(&format!("pod-{number}.test"));
        let record = |owner: Vec<u8>, kind: u16, data: Vec<u8>| {
            let fixed = [kind, 1, 0, 5, u16::try_from(data.len()).unwrap()]
                .map(u16::to_be_bytes)
                .concat();
            [owner, fixed, data].concat()
        };
        for (number, endpoint) in endpoints.iter().enumerate().take(usize::from(count)) {
            let data = [
                [0, 0, 0, 50].to_vec(),
                endpoint.port().to_be_bytes().to_vec(),
                host(number),
            ]
            .concat();
            bytes.extend(record(vec![0xc0, 12], 33, data));
        }
        for (number, endpoint) in endpoints.iter().enumerate().take(usize::from(count)) {
            let SocketAddr::V4(endpoint) = endpoint else {
                panic!("loopback")
            };
            bytes.extend(record(host(number), 1, endpoint.ip().octets().to_vec()));
        }
        bytes
    };
    let by_tcp = answer.clone();
    tokio::spawn(async move {
        let mut question = [0; 512];
        while let Ok((length, asker)) = udp.recv_from(&mut question).await {
            udp.send_to(&answer(&question[..length], false), asker).await.unwrap();
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let length = stream.read_u16().await.unwrap();
            let mut question = vec![0; usize::from(length)];
            stream.read_exact(&mut question).await.unwrap();
            let bytes = by_tcp(&question, true);
            stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
    });
    address
}

fn labels(name: &str) -> Vec<u8> {
    let label = |label: &str| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat();
    name.split('.').flat_map(label).chain([0]).collect()
}

#[tokio::test]
async fn pods_are_found_by_dns_with_their_own_ports() {
    let (one, seen_one) = answering(200).await;
    let (two, seen_two) = answering(200).await;
    let dns = nameserver("_http._tcp.inventory-pods.shop.svc.cluster.test", vec![one, two]).await;
    let resilience = with_policy(&policy(|_, _| {})).await;
    // Port 80 is the Service's; the pods listen elsewhere.
    let client = resilience
        .client("upstream")
        .url("http://inventory.shop.svc")
        .resolver(ClusterResolver::new().nameservers(vec![dns], "cluster.test"))
        .build()
        .unwrap();
    for _ in 0..20 {
        client.get("/").send().await.unwrap();
    }
    assert!(seen_one.count() > 0 && seen_two.count() > 0);
    assert_eq!(seen_one.header(0, "host").unwrap(), "inventory.shop.svc");
}

#[tokio::test]
async fn without_a_headless_service_the_service_itself_is_called() {
    let (service, seen) = answering(200).await;
    let dns = nameserver("_http._tcp.inventory-pods.shop.svc.cluster.test", Vec::new()).await;
    let resilience = with_policy(&policy(|_, _| {})).await;
    for (host, server) in [
        // No such name.
        ("payment.shop.svc", dns),
        // The name is there, and no pod is ready.
        ("inventory.shop.svc", dns),
        // No Service of Kubernetes.
        ("upstream.test", dns),
        // DNS never answered.
        ("inventory.shop.svc", dead_address()),
    ] {
        let before = seen.count();
        let client = resilience
            .client("upstream")
            .url(format!("http://{host}"))
            .resolver(
                ClusterResolver::new()
                    .nameservers(vec![server], "cluster.test")
                    .fallback(vec![service]),
            )
            .build()
            .unwrap();
        client.get("/").send().await.unwrap();
        assert_eq!(seen.count(), before + 1, "{host}");
    }
}
