//! Things that go wrong because an admin wants it: in every replica, for a while, and written down.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use valerix_kit::testing::{Answer, eventually};

use crate::app::App;

async fn ask(app: &App, base: &str, body: &Value) -> Answer {
    Answer::of(app.client.post(format!("{base}/api/admin/chaos")).json(body)).await
}

async fn look(app: &App, base: &str) -> Option<Answer> {
    Answer::try_of(app.client.get(format!("{base}/api/inventory/ps5")))
        .await
        .ok()
}

#[tokio::test]
async fn requests_wait_in_every_replica_until_it_is_ended() {
    let app = App::spawn(10).await;
    let other = app.replica(10).await;
    let asked = ask(&app, &app.base, &json!({"latency": "400ms", "duration": "1m"})).await;
    assert_eq!(
        (asked.status, &asked.body()["in_force"]),
        (200, &json!(true)),
        "{asked:?}"
    );
    for base in [&app.base, &other] {
        eventually("requests wait", || async {
            (look(&app, base).await?.took >= Duration::from_millis(400)).then_some(())
        })
        .await;
    }
    assert_eq!(ask(&app, &other, &json!({"duration": "0s"})).await.status, 200);
    for base in [&app.base, &other] {
        eventually("nobody waits", || async {
            (look(&app, base).await?.took < Duration::from_millis(400)).then_some(())
        })
        .await;
    }
    let audit = Answer::of(app.client.get(format!("{other}/api/admin/chaos")))
        .await
        .body();
    let asked = audit["asked"].as_array().unwrap();
    assert_eq!(asked.len(), 2, "{audit}");
    assert_eq!(
        (&asked[1]["latency_ms"], &asked[1]["asked_by"]),
        (&json!(400), &json!("anonymous"))
    );
    assert!(asked.iter().all(|asked| asked["in_force"] == false), "{audit}");
}

#[tokio::test]
async fn connections_are_closed_for_a_share_of_requests_and_it_ends_by_itself() {
    let app = App::spawn(10).await;
    let crashing = json!({"crash_rate": 1, "duration": "2s"});
    assert_eq!(ask(&app, &app.base, &crashing).await.status, 200);
    assert!(
        look(&app, &app.base).await.is_none(),
        "the connection is closed without an answer"
    );
    eventually("it is over", || look(&app, &app.base)).await;
    let half = json!({"crash_rate": 0.5, "duration": "1m"});
    assert_eq!(ask(&app, &app.base, &half).await.status, 200);
    let mut lost = 0;
    for _ in 0..40 {
        lost += i32::from(look(&app, &app.base).await.is_none());
    }
    assert!((5..=35).contains(&lost), "{lost} of 40");
}

/// Of two causes of one effect neither proves anything.
#[tokio::test]
async fn nothing_goes_wrong_on_purpose_while_an_experiment_runs() {
    let app = App::spawn(10).await;
    let mut folder = PathBuf::new();
    let base = app.replica_with(10, |config| {
        config.service.pod_uid = "uid-1".into();
        folder.clone_from(&config.service.policy_dir);
        std::fs::create_dir_all(&folder).unwrap();
        let policy = json!({"version": 1, "chaos": {"admission": "Allowed"}});
        std::fs::write(folder.join("policy.v1.json"), policy.to_string()).unwrap();
    });
    let base = base.await;
    let now = chrono::Utc::now();
    let faults = json!({"version": 1, "faults": [{
        "run": "run-1", "fault": {"latency": {"delay": "1ms"}}, "podUIDs": ["uid-1"], "duration": "60s",
        "notAfter": now + chrono::TimeDelta::seconds(120), "intentAt": now,
    }]});
    std::fs::write(folder.join(".faults.json.new"), faults.to_string()).unwrap();
    std::fs::rename(folder.join(".faults.json.new"), folder.join("faults.json")).unwrap();
    let refused = eventually("the experiment is known", || async {
        let asked = ask(&app, &base, &json!({"latency": "1ms", "duration": "1m"})).await;
        (asked.status != 200).then_some(asked)
    })
    .await;
    let kind = refused.body()["type"].as_str().unwrap().to_owned();
    assert!(
        refused.status == 409 && kind.ends_with("/experiment-runs"),
        "{refused:?}"
    );
    // What an admin has begun is ended at any time.
    assert_eq!(ask(&app, &base, &json!({"duration": "0s"})).await.status, 200);
}

#[tokio::test]
async fn a_wish_out_of_bounds_is_told_which_field() {
    let app = App::spawn(10).await;
    for (body, field) in [
        (json!({"duration": "11m"}), "/duration"),
        (json!({"duration": "soon"}), "/duration"),
        (json!({"latency": "1s"}), "/duration"),
        (json!({"duration": "1m", "latency": "11s"}), "/latency"),
        (json!({"duration": "1m", "crash_rate": 1.1}), "/crash_rate"),
        (json!({"duration": "1m", "crash_rate": "all"}), "/crash_rate"),
        (json!({"duration": "1m", "other": 1}), "/other"),
    ] {
        let refused = ask(&app, &app.base, &body).await;
        assert_eq!(
            (refused.status, &refused.body()["errors"][0]["field"]),
            (422, &json!(field)),
            "{body}"
        );
    }
    assert!(look(&app, &app.base).await.is_some());
}
