//! The service is deleted at any write of its making: in the background, in the foreground, or leaving its children.

use super::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Background,
    Foreground,
    Orphan,
}

/// Does what Kubernetes' garbage collector does for this way of deletion.
async fn delete(api: &FakeApi, way: Way) {
    match way {
        Way::Background => api.delete(ORDER),
        Way::Orphan => {
            for path in CHILDREN.into_iter().filter(|path| api.get(path).is_some()) {
                api.merge(path, json!({"metadata": {"ownerReferences": null}}));
            }
            api.delete(ORDER);
        }
        Way::Foreground => {
            api.merge(ORDER, json!({"metadata": {"finalizers": ["foregroundDeletion"]}}));
            api.delete(ORDER);
            tokio::time::sleep(Duration::from_millis(200)).await;
            for path in CHILDREN.into_iter().filter(|path| api.get(path).is_some()) {
                api.delete(path);
                // Long enough to be put back by an operator that does not see that the service goes.
                tokio::time::sleep(Duration::from_secs(3)).await;
                assert!(api.get(path).is_none(), "{path} came back while its service goes");
            }
            api.merge(ORDER, json!({"metadata": {"finalizers": null}}));
        }
    }
}

/// Says whether the write came at all.
async fn deleted_at(at: usize, way: Way, spec: &Value, wanted: &State) -> Result<bool, String> {
    let api = FakeApi::default();
    with_monitors(&api);
    let (mut writes, reached) = (0, Arc::new(Notify::new()));
    let notify = reached.clone();
    api.inject(move |request| {
        writes += usize::from(is_operators(request));
        if !is_operators(request) || writes - 1 != at {
            return None;
        }
        notify.notify_one();
        // It arrives after the deletion.
        Some(Fault::Delay(Duration::from_millis(50)))
    });
    let operator = Operator::start(&api);
    write(&api, spec);
    let came = tokio::select! {
        () = reached.notified() => true,
        () = settle(&api, REST) => false,
    };
    delete(&api, way).await;
    settle(&api, REST).await;
    api.collect_garbage();
    let left = uids(&api);
    if way != Way::Orphan && !left.is_empty() {
        return Err(format!("there are still {:?}", left.keys()));
    }
    api.forget_requests();
    tokio::time::sleep(REST).await;
    if !api.writes().is_empty() {
        return Err(format!("of a service that is gone it writes {:?}", api.writes()));
    }
    // The name is used again.
    write(&api, spec);
    settle(&api, REST).await;
    if let Some(difference) = difference(&state(&api), wanted) {
        return Err(format!("made anew, {difference}"));
    }
    let now = uids(&api);
    let lost: Vec<_> = left.iter().filter(|(path, uid)| now.get(*path) != Some(uid)).collect();
    drop(operator);
    match lost.is_empty() {
        true => Ok(came),
        false => Err(format!("what was left behind was replaced: {lost:?}")),
    }
}

#[tokio::test(start_paused = true)]
async fn deleted_at_any_write_nothing_is_left_and_the_name_can_be_used_again() {
    let (rounds, spec) = (number("VALERIX_ROUNDS", 30), &life()[0]);
    let wanted = &references(std::slice::from_ref(spec)).await[0];
    let mut plans = 0;
    for at in 0.. {
        let mut came = false;
        for way in [Way::Background, Way::Foreground, Way::Orphan] {
            match deleted_at(at, way, spec, wanted).await {
                Ok(it_came) => came |= it_came,
                Err(difference) => panic!("deleted at write {at}, {way:?}: {difference}"),
            }
            plans += 1;
        }
        if !came || plans >= rounds {
            break;
        }
    }
    assert!(plans >= 27, "{plans}");
}
