//! The outbound order around any asynchronous operation: a query, a command, a message. In: the operation, and what its
//! results mean. Out: its result, or the reason why there is none.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use super::call::{Call, Completed, Held};
use super::error::CallError;
use super::execute::execute;
use super::judge::{Judge, Repeat};
use super::sent::Sent;
use super::target::Target;
use crate::breaker::Outcome;
use crate::deadline::Deadline;

type OutcomeOf<T, E> = dyn Fn(Result<&T, &E>) -> Outcome + Send + Sync;
type RepeatIf<T, E> = dyn Fn(Result<&T, &E>) -> bool + Send + Sync;
type Fallback<T, E> = dyn Fn(&OperationError<E>) -> Option<T> + Send + Sync;

/// An operation that was refused, that had no time, or that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError<E> {
    /// It was refused here, or its time passed.
    #[error(transparent)]
    Call(CallError),
    /// What it said itself, by its last attempt.
    #[error(transparent)]
    Operation(E),
}

impl<E> OperationError<E> {
    /// Whether any attempt of the operation was begun.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        match self {
            Self::Call(error) => error.sent(),
            Self::Operation(_) => Sent::Perhaps,
        }
    }
}

/// Deadline, retry, bulkhead, breaker and attempt timeout of a [`Target`] around operations of one kind. Clones share it.
///
/// Unless told otherwise every error is a failure of the target, and nothing is repeated: only the caller knows what may
/// be done twice. Each attempt finds its own end as [`Deadline::current`]; at that moment it is dropped.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::io;
/// use valerix_resilience::{OperationError, Outcome, Pipeline, Resilience};
///
/// let resilience = Resilience::builder().start().await?;
/// let stock: Pipeline<u32, io::Error> = resilience
///     .target("stock")
///     .pipeline()
///     // An item that is not there is no fault of the store.
///     .outcome(|result: Result<&u32, &io::Error>| match result {
///         Err(error) if error.kind() != io::ErrorKind::NotFound => Outcome::Failure,
///         _ => Outcome::Success,
///     })
///     .repeat_if(|result| result.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset))
///     .fallback(|error| matches!(error, OperationError::Call(_)).then_some(0));
///
/// let counted = stock.run(async || Ok(42)).await?;
/// assert_eq!(counted, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[must_use = "a pipeline does nothing until an operation is run"]
pub struct Pipeline<T, E> {
    target: Arc<Target>,
    outcome: Option<Arc<OutcomeOf<T, E>>>,
    repeat_if: Option<Arc<RepeatIf<T, E>>>,
    fallback: Option<Arc<Fallback<T, E>>>,
}

impl Target {
    /// Makes one call of any kind within the target's deadline, bulkhead, breaker and attempt timeout. To repeat it, to
    /// say what is a failure, or to have a fallback, see [`Target::pipeline`].
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let resilience = valerix_resilience::Resilience::builder().start().await?;
    /// let cache = resilience.target("cache");
    /// let value = cache.call(async || Ok::<_, std::io::Error>("from the cache")).await?;
    /// assert_eq!(value, "from the cache");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// When it was refused here, when its time passed, and when the operation itself fails.
    pub async fn call<T, E, F, Fut>(self: &Arc<Self>, operation: F) -> Result<T, OperationError<E>>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.pipeline().run(operation).await
    }

    /// A pipeline for operations of one kind against this target.
    pub fn pipeline<T, E>(self: &Arc<Self>) -> Pipeline<T, E> {
        Pipeline {
            target: Arc::clone(self),
            outcome: None,
            repeat_if: None,
            fallback: None,
        }
    }
}

impl<T, E> Pipeline<T, E> {
    /// What a result says about the health of the target. Default: an error is a failure.
    pub fn outcome(mut self, outcome: impl Fn(Result<&T, &E>) -> Outcome + Send + Sync + 'static) -> Self {
        self.outcome = Some(Arc::new(outcome));
        self
    }

    /// Which results are worth another attempt, within the policy's attempts and budget. An attempt that had no time is
    /// repeated too. Only for operations that may be done twice: without this, none is.
    pub fn repeat_if(mut self, wanted: impl Fn(Result<&T, &E>) -> bool + Send + Sync + 'static) -> Self {
        self.repeat_if = Some(Arc::new(wanted));
        self
    }

    /// What to answer instead of an error, where there is something.
    pub fn fallback(mut self, instead: impl Fn(&OperationError<E>) -> Option<T> + Send + Sync + 'static) -> Self {
        self.fallback = Some(Arc::new(instead));
        self
    }

    /// Runs the operation, once for each attempt.
    ///
    /// # Errors
    /// When it was refused here, when its time passed, and when its last attempt fails; and there is no fallback for that.
    pub async fn run<F, Fut>(&self, operation: F) -> Result<T, OperationError<E>>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let error = match self.occupy(operation).await {
            Ok((value, _)) => return Ok(value),
            Err(error) => error,
        };
        let instead = self.fallback.as_ref().and_then(|fallback| fallback(&error));
        instead.ok_or(error)
    }

    /// As [`run`](Self::run), for what lasts longer than the operation, such as a connection that it opened: its place in
    /// the target's bulkhead stays taken until the second value is dropped. There is no fallback.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tokio::net::{TcpListener, TcpStream};
    /// use valerix_resilience::{Occupied, Resilience};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let address = listener.local_addr()?;
    /// let resilience = Resilience::builder().start().await?;
    /// let redis = resilience.target("redis").pipeline();
    /// let (_connection, place): (TcpStream, Occupied) = redis.occupy(async || TcpStream::connect(address).await).await?;
    /// assert_eq!(resilience.report().limits[0].in_use, 1);
    /// drop(place);
    /// assert_eq!(resilience.report().limits[0].in_use, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn occupy<F, Fut>(&self, operation: F) -> Result<(T, Occupied), OperationError<E>>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let policy = Arc::clone(&self.target.policy());
        let call = Call {
            target: &self.target,
            policy: &policy,
            balancer: None,
            deadline: Deadline::current(),
            repeatable: self.repeat_if.is_some(),
            once: false,
            read: false,
            judged: true,
        };
        let completed = execute(call, self, |attempt| {
            let operation = Deadline::at(attempt.end).around_call(&operation);
            async move { Ok(operation.await) }
        });
        match completed.await {
            Ok(Completed {
                answer: Ok(value),
                held,
                ..
            }) => Ok((value, Occupied { _held: held })),
            Ok(Completed { answer: Err(error), .. }) => Err(OperationError::Operation(error)),
            Err(error) => Err(OperationError::Call(error)),
        }
    }
}

/// A place in a target's bulkhead, taken until this is dropped; see [`Pipeline::occupy`].
#[derive(Debug)]
pub struct Occupied {
    _held: Held,
}

impl<T, E> Judge<Result<T, E>> for &Pipeline<T, E> {
    fn outcome(&self, result: &Result<T, E>) -> Outcome {
        match &self.outcome {
            Some(outcome) => outcome(result.as_ref()),
            None if result.is_ok() => Outcome::Success,
            None => Outcome::Failure,
        }
    }

    fn repeat(&self, result: &Result<T, E>) -> Option<Repeat> {
        let wanted = self.repeat_if.as_ref()?;
        wanted(result.as_ref()).then_some(Repeat {
            reason: "operation",
            after: None,
            elsewhere: false,
        })
    }

    fn ran_out_of_time(&self, _: &Result<T, E>) -> bool {
        false
    }
}

impl<T, E> Clone for Pipeline<T, E> {
    fn clone(&self) -> Self {
        Self {
            target: self.target.clone(),
            outcome: self.outcome.clone(),
            repeat_if: self.repeat_if.clone(),
            fallback: self.fallback.clone(),
        }
    }
}

impl<T, E> fmt::Debug for Pipeline<T, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pipeline")
            .field("target", &self.target.name())
            .finish_non_exhaustive()
    }
}
