//! A gateway as a process: what a large body on its way costs.

use std::process::{Child, Command, Stdio};

use serde_json::json;
use valerix_kit::testing::{eventually, free_port};
use valerix_proxy::testing::{a_gigabyte_passes_each_way, most_resident, resident, takes_and_gives_a_gigabyte};

/// What may be held of bodies on their way, each way.
const ON_THE_WAY: u64 = 20 * 1024 * 1024;

/// Ends the process with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_gigabyte_passes_each_way_through_twenty_megabytes() {
    let address = takes_and_gives_a_gigabyte().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.v1.json");
    let document = json!({
        "version": 1,
        "targets": [{"name": "order", "url": format!("http://{address}")}],
        "routes": [{"name": "large", "match": {"pathPrefix": "/large"}, "target": "order", "maxBodyBytes": 1_u64 << 30}],
    });
    std::fs::write(&file, document.to_string()).unwrap();
    let (port, report) = (free_port(), free_port());
    let process = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .env("GATEWAY_CONFIG", &file)
        .env("LISTEN_ADDRESS", format!("127.0.0.1:{port}"))
        .env("VALERIX_REPORT_PORT", report.to_string())
        .env("VALERIX_POLICY_DIR", folder.path().join("policy"))
        .env("VALERIX_STATE_DIR", folder.path().join("state"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let process = Process(process);
    let id = process.0.id().to_string();
    eventually("the gateway is ready", || async {
        let answer = reqwest::get(format!("http://127.0.0.1:{port}/ready")).await.ok()?;
        (answer.status() == 200).then_some(())
    })
    .await;
    let at_rest = resident(&id);
    a_gigabyte_passes_each_way(([127, 0, 0, 1], port).into(), "/large").await;
    let held = most_resident(&id).saturating_sub(at_rest);
    println!("{held} bytes were held at most");
    assert!(held < ON_THE_WAY, "{held} bytes were held");
}
