//! Who may read the operator's metrics, as the API server says. The operator runs as a program of this host, for a
//! namespace and a Lease of its own.

use anyhow::{Context, Result, ensure};
use std::{net::SocketAddr, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};
use valerix_e2e::world::{World, eventually};

/// Status and text of the answer to a GET of the metrics.
async fn asks(address: SocketAddr, token: Option<&str>) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.context("nobody listens")?;
    let token = token
        .map(|token| format!("Authorization: Bearer {token}\r\n"))
        .unwrap_or_default();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: operator\r\n{token}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.with_context(|| format!("no answer of HTTP: {answer}"))?, answer))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_reads_the_operators_metrics_if_its_account_may() -> Result<()> {
    let world = World::shared().await?;
    let test = world.with_namespace("scrapers", async |namespace| {
        let outcome = told_apart(&world, namespace).await;
        let leftover = format!("delete clusterrole,clusterrolebinding {namespace} --ignore-not-found");
        world.kubectl(&leftover).await?.text()?;
        outcome
    });
    Box::pin(test).await
}

async fn told_apart(world: &World, namespace: &str) -> Result<()> {
    for command in [
        format!("create serviceaccount prometheus -n {namespace}"),
        format!("create serviceaccount guest -n {namespace}"),
        format!("create clusterrole {namespace} --verb=get --non-resource-url=/metrics"),
        format!(
            "create clusterrolebinding {namespace} --clusterrole={namespace} --serviceaccount={namespace}:prometheus"
        ),
    ] {
        world.kubectl(&command).await?.text()?;
    }
    let program = world.environment.operator_binary.as_ref();
    let program = program.context("VALERIX_OPERATOR_BINARY is not set; `make e2e` sets it")?;
    // Free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let _operator = Command::new(program)
        .arg("run")
        .env_clear()
        .env("KUBECONFIG", &world.environment.kubeconfig)
        .env("POD_NAMESPACE", namespace)
        .env("WATCH_NAMESPACES", namespace)
        .env("LISTEN_ADDRESS", address.to_string())
        .env("ADMIN_ADDRESS", "127.0.0.1:0")
        .env("METRICS_AUTHENTICATION", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("failed to start the operator")?;
    let nobody = eventually(Duration::from_secs(30), || async { asks(address, None).await.ok() }).await;
    let (status, text) = nobody.context("the operator does not serve its metrics")?;
    ensure!(status == 401 && text.contains("Authorization: Bearer"), "{text}");
    for (account, expected, words) in [
        ("prometheus", 200, "valerix_build_info"),
        ("guest", 403, "has no right to"),
    ] {
        let token = world
            .kubectl(&format!("create token {account} -n {namespace}"))
            .await?
            .text()?;
        let (status, text) = asks(address, Some(token.trim())).await?;
        ensure!(status == expected && text.contains(words), "{account}: {text}");
    }
    let (status, text) = asks(address, Some("no.such.token")).await?;
    ensure!(status == 401 && text.contains("does not know this token"), "{text}");
    Ok(())
}
