//! Records of archives that a runner has found without one, against the fake API server.

use super::*;
use http::Method;

#[tokio::test]
async fn every_archive_that_was_found_has_a_record_and_nothing_of_it_is_taken_for_a_run() {
    let api = FakeApi::default();
    let archive = |slot: &str, uid: &str| {
        json!({
            "slot": slot, "policyUID": uid, "madeAt": format!("{slot}T02:16:00Z"),
            "databases": [{"name": "orders", "bytes": 5000, "tables": 3}],
            "upload": {"state": "Completed", "key": format!("pg/shop/shop/{}.tar.zst", slot.replace('-', "")),
                       "claimName": "backups", "sha256": "ab".repeat(32), "bytes": 2048},
        })
    };
    let found = json!({
        "message": "3 archives lie on the destination without a record",
        "archives": [archive("2026-08-21", "lost"), archive("2026-08-19", "policy-uid"), archive("2026-08-12", "lost")],
    });
    // Today's archive is the lost cluster's: the slot's own record says so, and stays the fence.
    let status = json!({"phase": "Failed", "reason": "SlotTaken", "upload": {"state": "None"}, "found": found});
    api.create(RECORDS, with_slot("shop-20260821", "2026-08-21", status));
    api.create(POLICIES, policy());
    let _operator = Operator::start(&api);
    for (name, uid, slot) in [
        ("shop-20260821-found", "lost", "2026-08-21"),
        ("shop-20260819", "policy-uid", "2026-08-19"),
        ("shop-20260812-found", "lost", "2026-08-12"),
    ] {
        let record = api
            .until(&format!("{RECORDS}/{name}"), |record| {
                record.pointer("/status/phase") == Some(&json!("Completed"))
            })
            .await;
        assert_eq!(
            (&record["spec"]["policyRef"]["uid"], &record["spec"]["slot"]),
            (&json!(uid), &json!(slot))
        );
        assert_eq!(record["metadata"]["labels"]["resilience.valerix.io/policy"], "shop");
        let status = &record["status"];
        assert_eq!(
            (&status["reason"], &status["verified"], &status["size"]),
            (&json!("Found"), &json!("Local"), &json!("2.0 KiB"))
        );
        assert_eq!(status["upload"], archive(slot, uid)["upload"], "{record}");
        assert_eq!(status["databases"][0]["tables"], 3);
    }
    let shown = api
        .until(POLICY, |policy| {
            policy.pointer("/status/lastSuccess/slot") == Some(&json!("2026-08-19"))
        })
        .await;
    assert!(shows(&shown, "LastBackupSucceeded", "False", "Failed"), "{shown}");
    let before = rest(&api).await;
    assert_eq!(rest(&api).await, before, "nothing is written for ever");
    assert_eq!(api.get(TODAY).unwrap()["status"]["reason"], "SlotTaken");
    let phases = api.requests().into_iter().filter(|request| {
        request.method == Method::DELETE || request.body.pointer("/status/phase") == Some(&json!("Missed"))
    });
    assert_eq!(phases.count(), 0, "a found record was never missed, and nothing goes");
}
