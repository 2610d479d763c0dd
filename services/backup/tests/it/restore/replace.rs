//! In the place of a living database.

use super::harness::Restoring;
use crate::{
    api::{Moment, Trap},
    harness::{Database, SMALL, quoted},
};
use serde_json::json;
use sqlx::Executor;
use tokio::process::Child;

/// What a living database is beside its contents.
const BESIDE: &str = "SELECT concat_ws('|', pg_get_userbyid(datdba), datconnlimit, datacl::text, shobj_description(d.oid, 'pg_database'),
    (SELECT string_agg(coalesce(setrole::regrole::text, '') || setconfig::text, ';' ORDER BY setrole) FROM pg_db_role_setting WHERE setdatabase = d.oid))
    FROM pg_database d WHERE datname = current_database()";

#[tokio::test(flavor = "multi_thread")]
async fn a_living_database_is_replaced_under_its_clients_and_kept_closed() {
    let living = Database::new("living", SMALL).await;
    let mut restoring = Restoring::of(&[("orders", &living)]).await;
    let (owner, reader) = (restoring.named("owner"), restoring.named("reader"));
    let name = &living.name;
    for statement in [
        format!("CREATE ROLE {owner}"),
        format!("CREATE ROLE {reader}"),
        format!("ALTER DATABASE {name} OWNER TO {owner}"),
        format!("ALTER DATABASE {name} CONNECTION LIMIT 77"),
        format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"),
        format!("GRANT CONNECT ON DATABASE {name} TO {reader} WITH GRANT OPTION"),
        format!("COMMENT ON DATABASE {name} IS 'it''s the \"one\"'"),
        format!("ALTER DATABASE {name} SET search_path = \"$user\", public, \"o'd \"\"d\""),
        format!("ALTER DATABASE {name} SET default_transaction_read_only = off"),
        format!("ALTER ROLE {reader} IN DATABASE {name} SET work_mem = '7MB'"),
        // A session with it acts as another role from there on.
        format!("ALTER ROLE {reader} IN DATABASE {name} SET role = '{owner}'"),
    ] {
        restoring.execute("postgres", &statement).await;
    }
    let beside = restoring.text(name, BESIDE).await;
    restoring.execute(name, "TRUNCATE public.t").await;
    let mut client = restoring.harness.connect(name).await;
    client.execute("SELECT 1").await.unwrap();

    restoring.replacing("orders", name);
    let ended = restoring.run("pod").await;
    restoring.assert_completed(&ended);
    assert!(client.execute("SELECT 1").await.is_err(), "the old session has ended");
    assert_eq!(restoring.text(name, "SELECT count(*)::text FROM public.t").await, "500");
    assert_eq!(restoring.text(name, BESIDE).await, beside);

    let status = restoring.status();
    let previous = status["databases"][0]["previous"].as_str().unwrap().to_owned();
    assert_eq!(
        previous,
        valerix_crds::restore_runner::previous_name(name, "2026-08-21")
    );
    assert!(status["databases"][0]["previousUntil"].is_string(), "{status}");
    assert!(restoring.message().contains(&previous), "{}", restoring.message());
    assert_eq!(
        restoring.databases(&living.name[..20]).await,
        [(name.clone(), true), (previous.clone(), false)].into(),
    );

    // Another one of the same day is refused: the name of what is kept is taken.
    restoring.put();
    let ended = restoring.run("second").await;
    restoring.assert_failed(&ended, "TargetRefused", &[&previous, "rename or drop it"]);
    assert_eq!(restoring.text(name, "SELECT count(*)::text FROM public.t").await, "500");

    // Its time is over: it goes, unless somebody has opened it.
    let mut completed = status.clone();
    completed["podUID"] = json!("pod");
    let put = |status: &serde_json::Value| {
        restoring.harness.api.put(json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Restore",
            "metadata": {"name": "back", "namespace": "shop", "uid": restoring.uid()},
            "spec": restoring.spec, "status": status,
        }));
    };
    put(&completed);
    restoring
        .execute("postgres", &format!("ALTER DATABASE {previous} ALLOW_CONNECTIONS true"))
        .await;
    let ended = restoring
        .harness
        .ended(restoring.pod("kept", &["--drop-previous"]), "kept")
        .await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(restoring.databases(&previous).await.contains_key(&previous));
    assert!(
        restoring.status()["databases"][0]["note"]
            .as_str()
            .unwrap()
            .contains("opened it again")
    );

    restoring
        .execute(
            "postgres",
            &format!("ALTER DATABASE {previous} ALLOW_CONNECTIONS false"),
        )
        .await;
    put(&completed);
    let ended = restoring
        .harness
        .ended(restoring.pod("drop", &["--drop-previous"]), "drop")
        .await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(restoring.databases(&previous).await.is_empty());
    assert_eq!(restoring.status()["databases"][0]["previousDropped"], true);

    // Somebody else's database has the name by then: it was never replaced by this Restore.
    restoring
        .execute(
            "postgres",
            &format!("CREATE DATABASE {previous} ALLOW_CONNECTIONS false"),
        )
        .await;
    put(&completed);
    let ended = restoring
        .harness
        .ended(restoring.pod("other", &["--drop-previous"]), "other")
        .await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(restoring.databases(&previous).await.contains_key(&previous));
    let note = restoring.status()["databases"][0]["note"].to_string();
    assert!(note.contains("another one has its name"), "{note}");
    restoring.drop_databases(&previous).await;

    // An earlier pod was killed when it had given it the name under which it is dropped, and its old name was taken again.
    restoring
        .execute("postgres", &format!("CREATE DATABASE {previous}"))
        .await;
    let oid = format!("SELECT oid::text FROM pg_database WHERE datname = '{previous}'");
    let oid: i64 = restoring.text("postgres", &oid).await.parse().unwrap();
    let dropped = valerix_crds::restore_runner::dropped_name(&previous, oid);
    restoring
        .execute("postgres", &format!("ALTER DATABASE {previous} RENAME TO {dropped}"))
        .await;
    restoring
        .execute("postgres", &format!("CREATE DATABASE {previous}"))
        .await;
    completed["databases"][0]["previousOid"] = json!(oid);
    put(&completed);
    let ended = restoring
        .harness
        .ended(restoring.pod("again", &["--drop-previous"]), "again")
        .await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(restoring.databases(&previous).await, [(previous.clone(), true)].into());
    assert_eq!(restoring.status()["databases"][0]["previousDropped"], true);
    restoring.drop_databases(&previous).await;

    living.drop().await;
    for role in [owner, reader] {
        restoring.execute("postgres", &format!("DROP ROLE {role}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bound_to_a_subscription_is_not_replaced() {
    let living = Database::new("living", SMALL).await;
    let mut restoring = Restoring::of(&[("orders", &living)]).await;
    let subscription = restoring.named("sub");
    restoring
        .execute(
            &living.name,
            &format!("CREATE SUBSCRIPTION {subscription} CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE)"),
        )
        .await;
    restoring.replacing("orders", &living.name);
    let ended = restoring.run("pod").await;
    restoring.assert_failed(&ended, "TargetRefused", &[&living.name, "subscriptions"]);
    assert_eq!(
        restoring.databases(&living.name[..20]).await,
        [(living.name.clone(), true)].into()
    );
    restoring
        .execute(&living.name, &format!("DROP SUBSCRIPTION {subscription}"))
        .await;
    living.drop().await;
}

/// A pod that has said that it swaps, and waits before it does.
async fn about_to_swap(restoring: &Restoring) -> (Trap, Child) {
    let trap = Trap::new("Swapping", Moment::After);
    restoring.harness.api.set_trap(Some(trap.clone()));
    let pod = restoring.pod("pod", &[]);
    trap.bitten.notified().await;
    (trap, pod)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_fails_opens_the_old_database_again() {
    let (living, restoring) = Restoring::of_living().await;
    let (trap, pod) = about_to_swap(&restoring).await;
    // The name that the old one is to get is taken at the last moment.
    let previous = valerix_crds::restore_runner::previous_name(&living.name, "2026-08-21");
    restoring
        .execute("postgres", &format!("CREATE DATABASE {previous}"))
        .await;
    trap.release.notify_one();
    let ended = restoring.harness.ended(pod, "pod").await;
    restoring.assert_failed(&ended, "SwapFailed", &["already exists"]);
    assert_eq!(
        restoring.databases(&living.name[..20]).await,
        [(living.name.clone(), true), (previous, true)].into(),
        "open, and nothing staged is left"
    );
    assert_eq!(
        restoring.text(&living.name, "SELECT count(*)::text FROM t").await,
        "500"
    );
    restoring.drop_databases(&living.name[..20]).await;
}

/// The second of the two renames fails: the first one has not happened either.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_swap_is_none() {
    let (living, restoring) = Restoring::of_living().await;
    let (trap, pod) = about_to_swap(&restoring).await;
    let staged = restoring.staged();
    restoring
        .execute("postgres", &format!("DROP DATABASE {} WITH (FORCE)", quoted(&staged)))
        .await;
    trap.release.notify_one();
    let ended = restoring.harness.ended(pod, "pod").await;
    restoring.assert_failed(&ended, "SwapFailed", &[&staged, "does not exist"]);
    assert_eq!(
        restoring.databases(&living.name[..20]).await,
        [(living.name.clone(), true)].into(),
        "under its own name, and open"
    );
    living.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_made_anew_meanwhile_is_left_alone() {
    let (living, restoring) = Restoring::of_living().await;
    let (trap, pod) = about_to_swap(&restoring).await;
    restoring.drop_databases(&living.name).await;
    restoring
        .execute("postgres", &format!("CREATE DATABASE {}", living.name))
        .await;
    let mut client = restoring.harness.connect(&living.name).await;
    client.execute("SELECT 1").await.unwrap();
    trap.release.notify_one();
    let ended = restoring.harness.ended(pod, "pod").await;
    restoring.assert_failed(&ended, "SwapFailed", &[&living.name, "was not touched"]);
    client.execute("SELECT 1").await.expect("its sessions go on");
    assert_eq!(
        restoring.databases(&living.name[..20]).await,
        [(living.name.clone(), true)].into(),
        "open, and nothing staged is left"
    );
    living.drop().await;
}

/// The other one has the name of the restored one, and it is seen only where the names are given.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_under_the_staged_name_gets_no_other() {
    let (living, restoring) = Restoring::of_living().await;
    let (trap, pod) = about_to_swap(&restoring).await;
    let staged = restoring.staged();
    restoring
        .execute("postgres", &format!("DROP DATABASE {} WITH (FORCE)", quoted(&staged)))
        .await;
    restoring
        .execute("postgres", &format!("CREATE DATABASE {}", quoted(&staged)))
        .await;
    trap.release.notify_one();
    let ended = restoring.harness.ended(pod, "pod").await;
    restoring.assert_failed(&ended, "SwapFailed", &["another database has one of these names"]);
    assert_eq!(
        restoring.databases(&living.name[..20]).await,
        [(living.name.clone(), true), (staged, true)].into(),
    );
    assert_eq!(
        restoring.text(&living.name, "SELECT count(*)::text FROM t").await,
        "500"
    );
    restoring.drop_databases(&living.name[..20]).await;
}
