//! Keeps the table of routes true to its file. What is good comes into force in one step, under requests that go on by the
//! one that they began with; what is bad is told and changes nothing.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use prometheus::{IntCounterVec, Opts};
use valerix_kit::health::{Check, Gate};
use valerix_kit::service::{Service, StartError};
use valerix_policy::{Parsed, PolicyError};
use valerix_resilience::{DocumentFile, Resilience};

use crate::document::Gateway;
use crate::table::{Overrides, Table};

/// The routes in force, and what was wrong with those that are not. Clones are one.
#[derive(Clone)]
pub struct Routes {
    table: Arc<ArcSwap<Table>>,
    error: Arc<Mutex<Option<String>>>,
    reloads: IntCounterVec,
    resilience: Resilience,
    overrides: Arc<Overrides>,
}

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("failed to read the routes")]
    Read(#[source] std::io::Error),
    #[error("failed to read the routes: there is no file {}", .0.display())]
    Missing(PathBuf),
    #[error("failed to take the routes: {0}")]
    Refused(#[source] PolicyError),
}

impl Routes {
    /// The routes of the shop; or those of the file at `path`, which is followed as long as the service runs. While there
    /// was no good file yet the service is not ready.
    ///
    /// # Errors
    /// When the metric is defined twice.
    pub fn start(service: &Service, path: Option<PathBuf>, overrides: Overrides) -> Result<Self, StartError> {
        let reloads = IntCounterVec::new(
            Opts::new(
                "gateway_config_reloads_total",
                "Files of routes, by result: applied, rejected",
            ),
            &["result"],
        );
        let reloads = reloads.map_err(StartError::Metrics)?;
        service.metrics.register(reloads.clone()).map_err(StartError::Metrics)?;
        let routes = Self {
            table: Arc::default(),
            error: Arc::default(),
            reloads,
            resilience: service.resilience.clone(),
            overrides: Arc::new(overrides),
        };
        service.health.register("routes", Arc::new(routes.clone()));
        let Some(path) = path else {
            routes.put_in_force(Parsed {
                document: Gateway::of_the_shop(),
                hash: "compiled-in".to_owned(),
                ignored_fields: Vec::new(),
            });
            return Ok(routes);
        };
        let gate = service.health.gate("routes");
        let followed = routes.clone();
        service
            .tasks
            .spawn_droppable("routes", move || followed.clone().follow(path.clone(), gate.clone()));
        Ok(routes)
    }

    /// The routes in force.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    async fn follow(self, path: PathBuf, gate: Gate) {
        // Watched before it is read: a change in between is not missed.
        let mut file = DocumentFile::new(&path);
        let (hasher, mut known) = (RandomState::new(), None);
        loop {
            // Reading thousands of routes takes long, and so does to let go of those of before: requests go on meanwhile.
            let (routes, path, hasher) = (self.clone(), path.clone(), hasher.clone());
            let reading = tokio::task::spawn_blocking(move || {
                let taken = routes.take(&file, &path, known, &hasher);
                (file, taken)
            });
            let taken = match reading.await {
                Ok((back, taken)) => {
                    file = back;
                    taken
                }
                // As everywhere: a part that dies is told of and started again.
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => return,
                },
            };
            match taken {
                Ok(taken) => {
                    known = Some(taken);
                    gate.open();
                }
                Err(error) => {
                    known = None;
                    self.reject(&error);
                }
            }
            file.changed().await;
        }
    }

    /// Takes the file, if it is another than the one `known`. Says which one it is.
    fn take(
        &self,
        file: &DocumentFile,
        path: &std::path::Path,
        known: Option<u64>,
        hasher: &RandomState,
    ) -> Result<u64, ReadError> {
        let bytes = file.read().map_err(ReadError::Read)?;
        let bytes = bytes.ok_or_else(|| ReadError::Missing(path.to_owned()))?;
        let found = hasher.hash_one(&bytes);
        if known != Some(found) {
            let parsed = Gateway::parse(&bytes).map_err(ReadError::Refused)?;
            // The table has what it needs of them.
            drop(bytes);
            self.put_in_force(parsed);
        }
        Ok(found)
    }

    fn put_in_force(&self, parsed: Parsed<Gateway>) {
        if !parsed.ignored_fields.is_empty() {
            tracing::warn!(fields = ?parsed.ignored_fields, "the routes have fields that this gateway does not know");
        }
        tracing::info!(hash = parsed.hash, "routes in force");
        let table = Table::new(parsed, &self.resilience, &self.overrides, &self.table.load());
        self.table.store(Arc::new(table));
        self.reloads.with_label_values(&["applied"]).inc();
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Said once for each error: the folder may be looked at often.
    fn reject(&self, error: &ReadError) {
        let text = match error {
            ReadError::Read(cause) => format!("{error}: {cause}"),
            _ => error.to_string(),
        };
        let mut said = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if said.as_ref() != Some(&text) {
            tracing::warn!(error = text, "the routes in force stay");
            self.reloads.with_label_values(&["rejected"]).inc();
            *said = Some(text);
        }
    }
}

#[async_trait]
impl Check for Routes {
    async fn check(&self) -> Result<(), String> {
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        error.map_or(Ok(()), Err)
    }
}
