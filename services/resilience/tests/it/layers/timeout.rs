use std::time::Duration;

use http::{Request, Response};
use tower::{BoxError, Layer, ServiceExt};
use valerix_resilience::Deadline;
use valerix_resilience::layers::{LayerError, TimeoutLayer};

use super::Strict;

#[tokio::test(start_paused = true)]
async fn the_lesser_of_its_time_and_the_deadline_counts_and_goes_on_inwards() {
    let layer = TimeoutLayer::new("upstream", Duration::from_secs(1));
    let left = Strict::new(|(): ()| {
        // Before the first await, too.
        let left = Deadline::current().map(Deadline::remaining);
        async move { Ok::<_, BoxError>((left, Deadline::current().map(Deadline::remaining))) }
    });
    let (before, within) = layer.layer(left.clone()).oneshot(()).await.unwrap();
    assert_eq!(
        (before, within),
        (Some(Duration::from_secs(1)), Some(Duration::from_secs(1)))
    );
    let outer = Deadline::after(Duration::from_millis(300));
    let (before, _) = outer.scope(layer.layer(left.clone()).oneshot(())).await.unwrap();
    assert_eq!(before, Some(Duration::from_millis(300)));

    let seen = left.seen.clone();
    let past = Deadline::after(Duration::ZERO);
    let error = past.scope(layer.layer(left).oneshot(())).await.unwrap_err();
    assert!(matches!(error, LayerError::Timeout { inherited: true, .. }));
    assert_eq!(seen.calls(), 2, "nothing is begun after the deadline");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_dropped_at_its_end_and_errors_keep_their_type() {
    struct Dropped(tokio::sync::mpsc::UnboundedSender<()>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (sender, mut dropped) = tokio::sync::mpsc::unbounded_channel();
    let hang = Strict::new(move |(): ()| {
        let guard = Dropped(sender.clone());
        async move {
            let _guard = guard;
            std::future::pending::<Result<(), BoxError>>().await
        }
    });
    let layer = TimeoutLayer::new("upstream", Duration::from_millis(100));
    let began = tokio::time::Instant::now();
    assert_eq!(layer.layer(hang).oneshot(()).await.unwrap_err().category(), "Timeout");
    assert!((100..105).contains(&began.elapsed().as_millis()));
    assert!(dropped.try_recv().is_ok());
    let broken = Strict::new(|(): ()| async { Err::<(), BoxError>(Box::new(std::io::Error::other("broken"))) });
    let error = layer.layer(broken).oneshot(()).await.unwrap_err();
    assert_eq!(error.inner::<std::io::Error>().unwrap().to_string(), "broken");
}

#[tokio::test(start_paused = true)]
async fn headers_carry_deadlines_in_and_out() {
    let echo = Strict::new(|request: Request<()>| async move {
        let mut answer = Response::new(Deadline::current().unwrap().remaining());
        *answer.headers_mut() = request.headers().clone();
        Ok::<_, BoxError>(answer)
    });
    let layer = TimeoutLayer::new("upstream", Duration::from_secs(1));
    let client = layer.clone().send_header().layer(echo.clone());
    let answer = client.clone().oneshot(Request::new(())).await.unwrap();
    assert_eq!(answer.headers()["valerix-timeout-ms"], "1000");
    let outer = Deadline::after(Duration::from_millis(250));
    let answer = outer.scope(client.oneshot(Request::new(()))).await.unwrap();
    assert_eq!(answer.headers()["valerix-timeout-ms"], "250");

    let server = layer.honour_header().layer(echo);
    let given = |value: &str| Request::builder().header("valerix-timeout-ms", value).body(()).unwrap();
    for (value, millis) in [("400", 400), ("5000", 1_000)] {
        let answer = server.clone().oneshot(given(value)).await.unwrap();
        assert_eq!(answer.into_body(), Duration::from_millis(millis), "{value}");
    }
    let answer = outer.scope(server.clone().oneshot(given("400"))).await.unwrap();
    assert_eq!(
        answer.into_body(),
        Duration::from_millis(250),
        "the deadline of who asks here is less"
    );
    let error = server.clone().oneshot(given("soon")).await.unwrap_err();
    assert_eq!(
        (error.category(), error.problem().status().as_u16()),
        ("InvalidDeadline", 400)
    );
    assert!(error.is_refusal() && error.to_string().contains("soon"));
    assert_eq!(server.oneshot(given("0")).await.unwrap_err().category(), "Timeout");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_with_the_end_of_its_time_counts() {
    let layer = TimeoutLayer::new("upstream", Duration::from_secs(1));
    let last_moment = Strict::new(|(): ()| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, BoxError>("answer")
    });
    assert_eq!(layer.layer(last_moment).oneshot(()).await.unwrap(), "answer");
}
