//! Guessing at passwords is slowed down, and tells nothing.

use http::Method;
use serde_json::json;
use valerix_auth::lockout::{LONGEST, Subject};
use valerix_auth::store::attempts;
use valerix_kit::testing::Answer;
use valerix_kit::testing::access::forwarded;

use crate::app::{App, PASSWORD, bearer};

#[tokio::test]
async fn a_user_who_is_none_is_answered_like_a_wrong_password() {
    let app = App::spawn().await;
    app.register("ada@example.com").await;
    let (wrong, nobody) = (
        app.try_login("ada@example.com", "wrong").await,
        app.try_login("eve@example.com", "wrong").await,
    );
    assert_eq!((wrong.status, &wrong.text), (401, &nobody.text));
    assert!(wrong.headers.contains_key("www-authenticate"));
}

/// All on one thread: who computed on it would let nobody else have a turn.
#[tokio::test]
async fn passwords_that_are_being_checked_keep_nobody_else_waiting() {
    let app = App::spawn().await;
    app.register("ada@example.com").await;
    let tokens = app.login("ada@example.com").await;
    // A password that is compared where there is no user costs what the configuration says.
    let costly = [
        "--argon2-memory-kib=19456",
        "--argon2-passes=40",
        "--argon2-concurrency=1",
        "--argon2-wait=1m",
    ];
    let costly = app.replica(&costly).await;
    let guess = async |number: i32| {
        let login = json!({"email": format!("nobody{number}@example.com"), "password": "guess"});
        costly.post("/auth/login", &login).await.status
    };
    let guesses = futures::future::join_all((0..4).map(&guess));
    tokio::pin!(guesses);
    let me = || {
        Answer::of(
            costly
                .call(Method::GET, "/auth/me")
                .header("authorization", bearer(&tokens)),
        )
    };
    let mut answered = 0;
    let statuses = loop {
        tokio::select! {
            biased;
            statuses = &mut guesses => break statuses,
            answer = me() => {
                assert_eq!(answer.status, 200, "{answer:?}");
                answered += 1;
            }
        }
    };
    assert_eq!(statuses, [401; 4]);
    // One between two passwords is what others get where each check holds the thread up.
    assert!(
        answered > 4 * 4,
        "while four passwords were checked only {answered} others were answered"
    );
}

/// The status of a login that the gateway passes on for whoever is at this address.
async fn by_the_gateway(app: &App, address: &str, email: &str, password: &str) -> u16 {
    let (name, proof) = forwarded("gateway", "auth");
    let request = app.server.request("/auth/login").header("x-forwarded-for", address);
    let login = json!({"email": email, "password": password});
    Answer::of(request.header(name, proof).json(&login)).await.status
}

/// As if each of those that have failed had done so `failures` times by now.
async fn failed(app: &App, failures: i32) {
    let set = sqlx::query("UPDATE attempts SET failures = $1, locked_until = now()").bind(failures);
    set.execute(&app.pool).await.unwrap();
}

#[tokio::test]
async fn an_account_is_closed_for_its_right_password_too() {
    let app = App::spawn().await;
    app.register("ada@example.com").await;
    // An account that is none closes as well: the answer does not tell which exist.
    for email in ["ada@example.com", "eve@example.com"] {
        assert_eq!(app.try_login(email, "guess").await.status, 401);
        failed(&app, 12).await;
        let guesses = futures::future::join_all((0..8).map(|_| app.try_login(email, "guess"))).await;
        let guessed = guesses.iter().filter(|answer| answer.status == 401).count();
        assert_eq!(guessed, 1, "of those that come at once none is free: {guesses:?}");
        let closed = app.try_login(email, PASSWORD).await;
        assert_eq!((closed.status, closed.problem().as_str()), (429, "too-many-attempts"));
        let seconds: u64 = closed.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((200..=256).contains(&seconds), "{seconds}");
    }
    failed(&app, 3).await;
    assert_eq!(app.try_login("ada@example.com", PASSWORD).await.status, 200);
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM attempts WHERE failures = 3")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    // Eve's two, the account's and the address's: a success forgets what was guessed at Ada's from there, and takes back
    // what it had counted itself.
    assert_eq!(left, 4);
}

#[tokio::test]
async fn nobody_can_close_an_account_for_its_owner() {
    let app = App::spawn().await;
    app.register("ada@example.com").await;
    let from = async |address: &str, password: &str| by_the_gateway(&app, address, "ada@example.com", password).await;
    assert_eq!(from("192.0.2.1", PASSWORD).await, 200);
    assert_eq!(from("192.0.2.66", "guess").await, 401);
    failed(&app, 30).await;
    assert_eq!(from("192.0.2.66", "guess").await, 401);
    assert_eq!(from("192.0.2.66", PASSWORD).await, 429, "whoever guesses is closed out");
    assert_eq!(from("192.0.2.2", PASSWORD).await, 200, "another address is not");
    // Guessed at from many addresses.
    let account = Subject::account("ada@example.com");
    let set = sqlx::query("UPDATE attempts SET failures = $1, locked_until = now() WHERE subject = $2");
    set.bind(account.free + 20)
        .bind(&account.key)
        .execute(&app.pool)
        .await
        .unwrap();
    assert_eq!(from("192.0.2.67", "guess").await, 401);
    assert_eq!(from("192.0.2.3", PASSWORD).await, 429, "the account is closed");
    for familiar in ["192.0.2.1", "192.0.2.2"] {
        assert_eq!(from(familiar, PASSWORD).await, 200, "not where its owner logs in");
    }
    sqlx::query("UPDATE familiar_addresses SET logged_in_at = logged_in_at - interval '31 days'")
        .execute(&app.pool)
        .await
        .unwrap();
    assert_eq!(from("192.0.2.1", PASSWORD).await, 429);
}

#[tokio::test]
async fn each_time_is_twice_as_long_up_to_a_bound() {
    let app = App::spawn().await;
    let subject = Subject::guess("ada@example.com", Some("192.0.2.1"));
    let mut pauses = Vec::new();
    for _ in 1..20 {
        assert_eq!(attempts::count(&app.pool, &subject).await.unwrap(), None);
        attempts::confirm(&app.pool, &subject).await.unwrap();
        let pause = "SELECT round(extract(epoch FROM locked_until - last_at))::bigint FROM attempts";
        pauses.push(sqlx::query_scalar::<_, i64>(pause).fetch_one(&app.pool).await.unwrap());
        sqlx::query("UPDATE attempts SET locked_until = now()")
            .execute(&app.pool)
            .await
            .unwrap();
    }
    let bound = i64::try_from(LONGEST.as_secs()).unwrap();
    assert_eq!(pauses[..10], [0, 0, 0, 0, 1, 2, 4, 8, 16, 32]);
    assert_eq!(pauses[14..], [bound; 5]);
    sqlx::query("UPDATE attempts SET last_at = now() - interval '2 hours'")
        .execute(&app.pool)
        .await
        .unwrap();
    assert_eq!(attempts::count(&app.pool, &subject).await.unwrap(), None);
    let failures: i32 = sqlx::query_scalar("SELECT failures FROM attempts")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(failures, 1, "old failures are forgotten");
}

#[tokio::test]
async fn an_address_that_guesses_at_many_accounts_is_closed() {
    let app = App::spawn().await;
    app.register("ada@example.com").await;
    let from = async |address: &str, email: &str, password: &str| by_the_gateway(&app, address, email, password).await;
    let guesser = "203.0.113.9, 192.0.2.7";
    for number in 0..3 {
        assert_eq!(
            from(guesser, &format!("user{number}@example.com"), "guess").await,
            401,
            "{number}"
        );
    }
    let subject = Subject::address("192.0.2.7");
    let failures: i32 = sqlx::query_scalar("SELECT failures FROM attempts WHERE subject = $1")
        .bind(&subject.key)
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(failures, 3, "counted by what the trusted proxy has seen");
    failed(&app, subject.free + 8).await;
    assert_eq!(from(guesser, "user9@example.com", "guess").await, 401);
    assert_eq!(from(guesser, "ada@example.com", PASSWORD).await, 429);
    assert_eq!(
        from("192.0.2.8", "ada@example.com", PASSWORD).await,
        200,
        "others are not"
    );
}

/// Any pod has an address of the cluster's networks and can write what it likes.
#[tokio::test]
async fn a_pod_that_is_not_the_gateway_is_counted_by_its_own_address() {
    let app = App::spawn().await;
    for (number, proof) in [
        None,
        Some(forwarded("order", "auth").1),
        Some(forwarded("gateway", "payment").1),
        Some("no.token.at-all".parse().unwrap()),
    ]
    .into_iter()
    .enumerate()
    {
        let request = app.server.request("/auth/login");
        let request = request.header("x-forwarded-for", format!("192.0.2.{number}"));
        let request = proof.iter().fold(request, |request, proof| {
            request.header(forwarded("gateway", "auth").0, proof.clone())
        });
        let answer = Answer::of(request.json(&json!({"email": "eve@example.com", "password": "guess"}))).await;
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    let subject = Subject::address("127.0.0.1");
    let failures: Option<i32> = sqlx::query_scalar("SELECT failures FROM attempts WHERE subject = $1")
        .bind(&subject.key)
        .fetch_optional(&app.pool)
        .await
        .unwrap();
    assert_eq!(failures, Some(4), "all of it is the pod's own doing");
}

#[tokio::test]
async fn the_failures_of_an_address_are_forgotten_although_people_log_in_there() {
    let app = App::spawn().await;
    app.register("ada@example.com").await;
    assert_eq!(app.try_login("eve@example.com", "guess").await.status, 401);
    // As if the last failure was so many minutes ago.
    let failed_ago = async |minutes: i32| {
        let set = sqlx::query("UPDATE attempts SET last_at = now() - $1 * interval '1 minute'").bind(minutes);
        set.execute(&app.pool).await.unwrap();
    };
    let address = async || -> (i32, i64) {
        let row = "SELECT failures, floor(extract(epoch FROM now() - last_at) / 60)::bigint FROM attempts \
                   WHERE subject LIKE 'address:%'";
        sqlx::query_as(row).fetch_one(&app.pool).await.unwrap()
    };
    failed_ago(50).await;
    app.login("ada@example.com").await;
    assert_eq!(address().await, (1, 50), "a success renews nothing");
    assert_eq!(app.try_login("eve@example.com", "guess").await.status, 401);
    assert_eq!(address().await, (2, 0), "a failure does");
    failed_ago(61).await;
    app.login("ada@example.com").await;
    assert_eq!(address().await.0, 0);
}
