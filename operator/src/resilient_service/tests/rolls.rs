//! An operator that renders another template than the one before: the services roll a few at a time.

use super::*;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/shop/deployments";

fn name(number: usize) -> String {
    format!("s{number:02}")
}

/// The seconds of grace that a Deployment's template has: 45 as the operator renders it.
fn grace(api: &FakeApi, number: usize) -> i64 {
    let deployment = api.get(&format!("{DEPLOYMENTS}/{}", name(number))).unwrap();
    let grace = &deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
    grace.as_i64().unwrap()
}

fn rolled(api: &FakeApi) -> Vec<usize> {
    (0..12).filter(|number| grace(api, *number) == 45).collect()
}

/// As Kubernetes does, once every pod is of the newest template.
fn pods_replaced(api: &FakeApi, number: usize) {
    let path = format!("{DEPLOYMENTS}/{}", name(number));
    let generation = api.get(&path).unwrap()["metadata"]["generation"].clone();
    api.merge(&path, json!({"status": {"observedGeneration": generation}}));
}

#[tokio::test(start_paused = true)]
async fn after_an_upgrade_five_services_roll_at_a_time_and_a_users_change_does_not_wait() {
    let api = FakeApi::default();
    for number in 0..12 {
        let mut service = order();
        service["metadata"]["name"] = json!(name(number));
        api.create(SERVICES, service);
    }
    let before = Operator::start(&api);
    for number in 0..12 {
        all_pods_ready(&api, &name(number)).await;
        let path = format!("{SERVICES}/{}", name(number));
        api.until(&path, |service| reason(service, "Ready") == "True/AllPodsCurrent")
            .await;
    }
    before.rest().await;
    drop(before);
    // What an older build would have left.
    for number in 0..12 {
        api.merge(
            &format!("{DEPLOYMENTS}/{}", name(number)),
            json!({"metadata": {"annotations": {"resilience.valerix.io/applied": "of an older build"}},
                "spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}}),
        );
        pods_replaced(&api, number);
    }

    let after = Operator::start(&api);
    let waiting = || {
        let all = (0..12).map(|number| api.get(&format!("{SERVICES}/{}", name(number))).unwrap());
        let is_waiting = |service: &Value| reason(service, "Progressing") == "False/WaitingForTurn";
        all.filter(is_waiting).collect::<Vec<_>>()
    };
    let shown = tokio::time::timeout(Duration::from_secs(60), async {
        while waiting().len() < 7 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    shown.await.expect("seven wait");
    after.rest().await;
    assert_eq!(rolled(&api).len(), 5, "{:?}", rolled(&api));
    assert_eq!(waiting().len(), 7);
    for service in &waiting() {
        assert_eq!(reason(service, "Ready"), "True/AllPodsCurrent", "its pods serve");
        assert_eq!(reason(service, "Reconciling"), "True/WaitingForTurn");
    }

    // Whoever asks for something gets it.
    let last = (0..12).rev().find(|number| grace(&api, *number) == 1).unwrap();
    let path = format!("{SERVICES}/{}", name(last));
    api.merge(&path, json!({"spec": {"image": "order:2"}}));
    api.until(&format!("{DEPLOYMENTS}/{}", name(last)), |deployment| {
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "order:2"
    })
    .await;
    assert_eq!(rolled(&api).len(), 6);

    // One that is paused, or served by its new pods, makes room for the next.
    let mut done = vec![last];
    while rolled(&api).len() < 12 {
        let rolled_before = rolled(&api);
        let next = rolled_before.iter().find(|number| !done.contains(number)).unwrap();
        done.push(*next);
        match done.len() {
            2 => {
                api.merge(
                    &format!("{SERVICES}/{}", name(*next)),
                    json!({"spec": {"paused": true}}),
                );
            }
            _ => pods_replaced(&api, *next),
        }
        after.rest().await;
        assert_eq!(rolled(&api).len(), rolled_before.len() + 1, "{:?}", rolled(&api));
    }
    drop(after);
}
