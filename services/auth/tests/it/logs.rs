//! What is said in confidence is not written to the log, whatever becomes of it.

use http::Method;
use serde_json::{Value, json};
use valerix_kit::testing::log::Log;

use crate::app::{App, PASSWORD};

#[tokio::test]
async fn the_log_has_no_password_and_no_token() {
    // All that the service says, and what its libraries say to somebody who looks for a mistake.
    let log = Log::listen("debug,valerix_auth=trace,valerix_kit=trace,valerix_resilience=trace");
    let app = App::with(&["--auth-key-secret=the-secret-of-the-keys-0123456789"]).await;
    app.register("ada@example.com").await;
    let tokens = app.login("ada@example.com").await;
    let (guess, typo, chosen) = ("a-guess-that-is-wrong", "a-typo-of-a-body", "the-next-password");
    app.try_login("ada@example.com", guess).await;
    for body in [
        json!({"email": "ada@example.com", "password": {"typo": typo}}),
        json!({"email": typo, "password": typo, typo: 1}),
        json!([typo]),
    ] {
        assert_eq!(app.post("/auth/login", body).await.status, 422);
    }
    let newer = app.refresh(&tokens).await.body();
    let newest = app.refresh(&newer).await.body();
    assert_eq!(app.refresh(&tokens).await.status, 401, "exchanged before");
    let again = app.login("ada@example.com").await;
    let change = json!({"password": chosen, "current_password": guess});
    let refused = app.as_user(Method::PATCH, "/auth/me", &again, Some(change)).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    let change = json!({"password": chosen, "current_password": PASSWORD});
    let changed = app.as_user(Method::PATCH, "/auth/me", &again, Some(change)).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let forged = json!({"access_token": "forged.token.of-nobody"});
    assert_eq!(app.as_user(Method::GET, "/auth/me", &forged, None).await.status, 401);
    let text = log.text();
    assert!(
        text.contains("valerix_auth::") && text.contains(r#""message":"answered""#),
        "the log is not this service's: {text}"
    );
    let said = |tokens: &Value, name: &str| tokens[name].as_str().unwrap().to_owned();
    let mut secrets = vec![PASSWORD, guess, typo, chosen, "the-secret-of-the-keys", "forged.token"]
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    for tokens in [&tokens, &newer, &newest, &again] {
        secrets.extend([said(tokens, "access_token"), said(tokens, "refresh_token")]);
    }
    for secret in secrets {
        let line = text.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{secret} is in the log");
    }
}
