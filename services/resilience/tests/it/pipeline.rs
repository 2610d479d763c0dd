//! The outbound order around operations that are no HTTP calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use valerix_resilience::policy::CircuitState;
use valerix_resilience::{CallError, Deadline, OperationError, Outcome, Resilience, Sent};

use crate::support::{policy, with_policy};

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Trouble {
    #[error("connection lost")]
    Lost,
    #[error("no such row")]
    Missing,
}

async fn store(change: impl FnOnce(&mut valerix_resilience::policy::Target)) -> Resilience {
    let settings = policy(|_, target| {
        target.retry.budget.percent = 100;
        change(target);
    });
    let resilience = with_policy(&settings).await;
    // What good calls pay in is there for repetitions.
    let target = resilience.target("upstream");
    for _ in 0..10 {
        target.call(async || Ok::<_, Trouble>(())).await.unwrap();
    }
    resilience
}

#[tokio::test(start_paused = true)]
async fn an_operation_is_done_once_unless_its_result_is_worth_repeating() {
    let resilience = store(|_| {}).await;
    let target = resilience.target("upstream");
    let done = AtomicUsize::new(0);
    let lost = async || {
        done.fetch_add(1, Ordering::SeqCst);
        Err::<(), _>(Trouble::Lost)
    };
    let error = target.call(lost).await.unwrap_err();
    assert!(matches!(&error, OperationError::Operation(Trouble::Lost)), "{error}");
    assert_eq!((done.swap(0, Ordering::SeqCst), error.sent()), (1, Sent::Perhaps));

    let pipeline = target
        .pipeline()
        .repeat_if(|result: Result<&(), &Trouble>| result.is_err_and(|error| *error == Trouble::Lost));
    pipeline.run(lost).await.unwrap_err();
    assert_eq!(done.swap(0, Ordering::SeqCst), 3);
    let missing = async || {
        done.fetch_add(1, Ordering::SeqCst);
        Err(Trouble::Missing)
    };
    pipeline.run(missing).await.unwrap_err();
    assert_eq!(done.swap(0, Ordering::SeqCst), 1);
    let third = async || {
        let number = done.fetch_add(1, Ordering::SeqCst);
        if number < 2 { Err(Trouble::Lost) } else { Ok(()) }
    };
    pipeline.run(third).await.unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn the_circuit_opens_for_what_counts_as_a_failure_and_the_fallback_answers() {
    let resilience = store(|target| target.circuit_breaker.consecutive_failures = Some(2)).await;
    let target = resilience.target("upstream");
    let pipeline = target
        .pipeline()
        .outcome(|result: Result<&u32, &Trouble>| match result {
            Err(Trouble::Lost) => Outcome::Failure,
            _ => Outcome::Success,
        });
    for _ in 0..5 {
        pipeline.run(async || Err(Trouble::Missing)).await.unwrap_err();
    }
    assert_eq!(target.state(), CircuitState::Closed);
    for _ in 0..2 {
        pipeline.run(async || Err(Trouble::Lost)).await.unwrap_err();
    }
    assert_eq!(target.state(), CircuitState::Open);
    let error = pipeline.run(async || Ok(1)).await.unwrap_err();
    assert!(
        matches!(&error, OperationError::Call(CallError::CircuitOpen { .. })),
        "{error}"
    );
    assert_eq!(error.sent(), Sent::Nothing);
    let with_fallback = pipeline
        .clone()
        .fallback(|error| matches!(error, OperationError::Call(_)).then_some(7));
    assert_eq!(with_fallback.run(async || Ok(1)).await.unwrap(), 7);
    target.reset();
    assert_eq!(target.state(), CircuitState::Closed);
    assert_eq!(with_fallback.run(async || Ok(1)).await.unwrap(), 1);
    let own = with_fallback.run(async || Err(Trouble::Lost)).await.unwrap_err();
    assert!(
        matches!(own, OperationError::Operation(Trouble::Lost)),
        "no fallback for that"
    );
}

#[tokio::test(start_paused = true)]
async fn an_operation_has_the_time_of_an_attempt_and_knows_it() {
    let resilience = store(|target| target.timeout.attempt = "1s".parse().unwrap()).await;
    let target = resilience.target("upstream");
    let told = target.call(async || Ok::<_, Trouble>(Deadline::current().unwrap().remaining()));
    assert_eq!(told.await.unwrap(), Duration::from_secs(1));
    let hurried = Deadline::after(Duration::from_millis(10));
    let error = hurried
        .scope(target.call(async || std::future::pending::<Result<(), Trouble>>().await))
        .await
        .unwrap_err();
    assert!(
        matches!(error, OperationError::Call(CallError::DeadlineExceeded { .. })),
        "{error}"
    );
    let dropped = Arc::new(());
    let hang = async || {
        let _held = Arc::clone(&dropped);
        std::future::pending::<Result<(), Trouble>>().await
    };
    let error = target.call(hang).await.unwrap_err();
    assert!(
        matches!(error, OperationError::Call(CallError::AttemptTimeout { .. })),
        "{error}"
    );
    assert_eq!(Arc::strong_count(&dropped), 1);
}

#[tokio::test]
async fn operations_share_the_places_of_the_target_and_run_in_tasks() {
    let resilience = store(|target| target.bulkhead.max_concurrent = 1).await;
    let target = resilience.target("upstream");
    let gate = Arc::new(tokio::sync::Notify::new());
    let task = tokio::spawn({
        let (target, gate) = (Arc::clone(&target), Arc::clone(&gate));
        async move {
            target
                .call(async || {
                    gate.notified().await;
                    Ok::<_, Trouble>("first")
                })
                .await
        }
    });
    tokio::task::yield_now().await;
    let error = target.call(async || Ok::<_, Trouble>("second")).await.unwrap_err();
    assert!(
        matches!(error, OperationError::Call(CallError::Overloaded { limit: 1, .. })),
        "{error}"
    );
    gate.notify_one();
    assert_eq!(task.await.unwrap().unwrap(), "first");
}
