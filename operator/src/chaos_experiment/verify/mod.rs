//! `valerix-operator verify`: runs one experiment for a person or a pipeline, and ends by its verdict.
//!
//! Read top to bottom: [`verify`] finds out what is asked for (`request`), asks the cluster for it (`cluster`, the only
//! place that writes there), follows the status as the operator writes it and tells what happened (`timeline`, pure), and
//! says what came of it (`outcome`, pure). The run itself is the operator's: this process only asks, watches, and stops
//! what it asked for when it is interrupted or its time is up.

mod cluster;
mod error;
mod outcome;
mod request;
#[cfg(test)]
mod tests;
mod timeline;

pub use outcome::NO_VERDICT;

use super::report::reason::Reason;
use super::requested::is_handled;
use crate::runtime::{conditions::find_condition, failure};
use crate::settings::VerifySettings;
use chrono::Utc;
use cluster::{Experiment, Stop};
use error::Error;
use futures::{Stream, StreamExt};
use kube::config::KubeConfigOptions;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config, ResourceExt};
use outcome::Outcome;
use request::Request;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use timeline::{Moment, news, verdict};
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;
use valerix_crds::names::condition::COMPLETED;
use valerix_crds::{ChaosExperiment, ChaosExperimentStatus, ChaosPhase, ChaosSummary, PastRun};

/// How long nobody may take the run up before it is said.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the API server may take to connect, and to answer what is asked for or stopped.
const CONNECTING: Duration = Duration::from_secs(5);
const ANSWERING: Duration = Duration::from_secs(30);
/// How long a run that was stopped may take to be recovered before this process leaves it to the operator.
const STOPPING: Duration = Duration::from_secs(120);

/// Verifies as told, tells on `output`, and returns the exit code. Each message of `interrupts` is a person's ctrl-c: the
/// first stops the run, the second leaves it alone.
pub async fn verify(settings: VerifySettings, interrupts: Receiver<()>, output: &mut (dyn Write + Send)) -> u8 {
    let mut outcome = Outcome::new(settings.namespace.clone().unwrap_or_default(), asked_for(&settings));
    let mut reports = match open(&settings) {
        Ok(reports) => reports,
        Err(error) => {
            tell(output, &format!("error: {error}"));
            return NO_VERDICT;
        }
    };
    if let Err(error) = attempt(&settings, &mut outcome, interrupts, output).await {
        outcome.error = Some(error.to_string());
    }
    outcome.ended = Utc::now();
    tell(output, outcome.summary().trim_end());
    match reports.write(&outcome) {
        Ok(()) => outcome.exit_code(),
        Err(error) => {
            tell(output, &format!("error: {error}"));
            NO_VERDICT
        }
    }
}

/// What the arguments name, until more is known.
fn asked_for(settings: &VerifySettings) -> String {
    let file = settings.filename.as_ref().map(|file| file.display().to_string());
    settings.experiment.clone().or(file).unwrap_or_default()
}

async fn attempt(
    settings: &VerifySettings,
    outcome: &mut Outcome,
    interrupts: Receiver<()>,
    output: &mut (dyn Write + Send),
) -> Result<(), Error> {
    let namespace = settings.namespace.as_deref();
    let request = match (&settings.filename, &settings.experiment) {
        (Some(file), _) => request::read(file, namespace)?,
        (None, name) => Request {
            name: name.clone().unwrap_or_default(),
            namespace: namespace.map(str::to_owned),
            object: None,
        },
    };
    let config = configuration(settings.context.as_deref()).await?;
    outcome.namespace = request
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).map_err(|error| Error::NoCluster {
        why: failure::chain(&error),
    })?;
    run(client, &request, settings.timeout, outcome, interrupts, output).await
}

/// The way to the cluster: a context of the kubeconfig, else what the process finds, which may be the pod that it is in.
async fn configuration(context: Option<&str>) -> Result<Config, Error> {
    let found = match context {
        Some(context) => {
            let options = KubeConfigOptions {
                context: Some(context.to_owned()),
                ..KubeConfigOptions::default()
            };
            Config::from_kubeconfig(&options)
                .await
                .map_err(|error| failure::chain(&error))
        }
        None => Config::infer().await.map_err(|error| failure::chain(&error)),
    };
    let mut config = found.map_err(|why| Error::NoCluster { why })?;
    config.connect_timeout = Some(CONNECTING);
    Ok(config)
}

/// Asks for the run and follows it to its end.
async fn run(
    client: Client,
    request: &Request,
    timeout: Duration,
    outcome: &mut Outcome,
    interrupts: Receiver<()>,
    output: &mut (dyn Write + Send),
) -> Result<(), Error> {
    outcome.name.clone_from(&request.name);
    let experiment = Experiment::new(client, &outcome.namespace, &outcome.name);
    let deadline = Instant::now() + timeout;
    let asked = tokio::time::timeout(ANSWERING, experiment.ask(request, &outcome.run)).await;
    let uid = asked.unwrap_or_else(|_| {
        Err(Error::Api {
            doing: format!("apply experiment {}", request.name),
            why: format!(
                "no answer within {}s; `kubectl get chaos` shows whether it came through",
                ANSWERING.as_secs()
            ),
        })
    })?;
    let mut following = Following {
        experiment: &experiment,
        uid,
        outcome,
        interrupts,
        output,
    };
    let doing = if request.object.is_some() { "applied" } else { "found" };
    let asked = format!("experiment {doing}, run {} asked for", following.outcome.run);
    following.note(vec![Moment {
        at: Utc::now(),
        text: asked,
    }]);
    following.watch_it_end(deadline, timeout).await
}

/// A run that is being watched.
struct Following<'a> {
    experiment: &'a Experiment,
    uid: String,
    outcome: &'a mut Outcome,
    interrupts: Receiver<()>,
    output: &'a mut (dyn Write + Send),
}

/// What came first.
enum Event {
    /// The experiment as it stands, or nothing where it is gone.
    Seen(Option<Box<ChaosExperiment>>),
    /// The API server does not answer well; the watch is tried again.
    Unwell(watcher::Error),
    /// A person wants it to end.
    Interrupted,
    /// Nobody has taken the run up.
    Ignored,
    /// The time is up.
    Late,
}

impl Following<'_> {
    async fn watch_it_end(&mut self, deadline: Instant, timeout: Duration) -> Result<(), Error> {
        let stream = watcher::watch_object(self.experiment.api(), &self.outcome.name).default_backoff();
        let mut stream = std::pin::pin!(stream);
        let mut patience = Instant::now() + PATIENCE;
        let mut unwell = false;
        loop {
            match self.next(&mut stream, deadline, patience).await {
                Event::Seen(seen) => {
                    unwell = false;
                    if self.see(seen)? {
                        return Ok(());
                    }
                }
                Event::Unwell(error) => {
                    if let watcher::Error::InitialListFailed(source) | watcher::Error::WatchStartFailed(source) = &error
                        && (failure::is_status(source, 403) || failure::is_status(source, 404))
                    {
                        return Err(Error::api("follow", &self.outcome.name, source));
                    }
                    if !std::mem::replace(&mut unwell, true) {
                        self.say(format!("the API server does not answer: {}", failure::chain(&error)));
                    }
                }
                Event::Ignored => {
                    patience = deadline + PATIENCE;
                    self.say(format!(
                        "nobody has taken the run up for {}s; is an operator running that watches namespace {}, and has an earlier run ended?",
                        PATIENCE.as_secs(),
                        self.outcome.namespace
                    ));
                }
                Event::Interrupted => {
                    let stopped = self.stop(&mut stream).await;
                    // What the operator made of it is the better word.
                    if self.over() {
                        return Ok(());
                    }
                    return Err(Error::Interrupted { stopped });
                }
                Event::Late => {
                    let why = self.outcome.status.as_ref().map_or_else(
                        || "no operator has taken the run up".to_owned(),
                        |status| {
                            format!(
                                "the run was {:?}, {}",
                                status.phase.unwrap_or_default(),
                                verdict(status)
                            )
                        },
                    );
                    let stopped = self.stop(&mut stream).await;
                    return Err(Error::Late {
                        seconds: timeout.as_secs(),
                        why,
                        stopped,
                    });
                }
            }
        }
    }

    async fn next<S>(&mut self, stream: &mut std::pin::Pin<&mut S>, deadline: Instant, patience: Instant) -> Event
    where
        S: Stream<Item = watcher::Result<Option<ChaosExperiment>>>,
    {
        let ignored = self.outcome.status.is_none();
        tokio::select! {
            biased;
            Some(()) = self.interrupts.recv() => Event::Interrupted,
            seen = stream.next() => match seen {
                Some(Ok(seen)) => Event::Seen(seen.map(Box::new)),
                Some(Err(error)) => Event::Unwell(error),
                None => Event::Seen(None),
            },
            () = tokio::time::sleep_until(deadline) => Event::Late,
            () = tokio::time::sleep_until(patience), if ignored => Event::Ignored,
        }
    }

    /// Takes in what stands now; whether the run is over.
    fn see(&mut self, seen: Option<Box<ChaosExperiment>>) -> Result<bool, Error> {
        let deleted = || Error::Deleted {
            name: self.outcome.name.clone(),
        };
        let seen = seen.ok_or_else(deleted)?;
        if seen.name_any() != self.outcome.name {
            return Ok(false);
        }
        if seen.uid().as_deref() != Some(self.uid.as_str()) {
            return Err(deleted());
        }
        let Some(status) = seen.status else { return Ok(false) };
        let status = if status.run.as_deref() == Some(self.outcome.run.as_str()) {
            status
        } else if let Some(past) = status.history.iter().find(|past| past.run == self.outcome.run) {
            // The next run has begun already: of this one stands what was seen and what the history kept.
            from_history(past, self.outcome.status.clone().unwrap_or_default())
        } else if is_handled(&self.outcome.run, &status) {
            return Err(Error::Refused {
                name: self.outcome.name.clone(),
                why: refusal(&status),
            });
        } else {
            return Ok(false);
        };
        let before = self.outcome.status.take().unwrap_or_default();
        let told = news(&before, &status, Utc::now());
        self.outcome.status = Some(status);
        self.note(told);
        Ok(self.over())
    }

    fn over(&self) -> bool {
        let phase = self.outcome.status.as_ref().and_then(|status| status.phase);
        phase.is_some_and(ChaosPhase::is_terminal)
    }

    /// Stops the run and waits until its fault is gone. Says what came of that.
    async fn stop<S>(&mut self, stream: &mut std::pin::Pin<&mut S>) -> String
    where
        S: Stream<Item = watcher::Result<Option<ChaosExperiment>>>,
    {
        let run = self.outcome.run.clone();
        match tokio::time::timeout(ANSWERING, self.experiment.stop(&run)).await {
            Ok(Ok(Stop::Told)) => {}
            Ok(Ok(Stop::NotBegun)) => return "the run had not begun and will not".into(),
            Ok(Ok(Stop::Over)) => return "the run was over by then; see status.history".into(),
            Ok(Err(error)) => return format!("the run goes on, because stopping it went wrong: {error}"),
            Err(_) => return "the run may go on: the API server did not answer when it was to be stopped".into(),
        }
        self.say(
            "asked for the run to be stopped (spec.desired: Stop); interrupt again to leave it to the operator".into(),
        );
        let deadline = Instant::now() + STOPPING;
        let left = "the run was told to stop (spec.desired: Stop); its fault ends by its own clock, and `kubectl get chaos` shows when";
        loop {
            match self.next(stream, deadline, deadline).await {
                Event::Seen(seen) => match self.see(seen) {
                    Ok(true) => {
                        return "the run was stopped (spec.desired: Stop) and its fault is gone".into();
                    }
                    Ok(false) => {}
                    Err(error) => return error.to_string(),
                },
                Event::Unwell(_) => {}
                Event::Interrupted | Event::Ignored | Event::Late => return left.into(),
            }
        }
    }

    fn say(&mut self, text: String) {
        self.note(vec![Moment { at: Utc::now(), text }]);
    }

    fn note(&mut self, told: Vec<Moment>) {
        for moment in told {
            let since = (moment.at - self.outcome.began).as_seconds_f64().max(0.0);
            tell(self.output, &format!("{since:>7.1}s  {}", moment.text));
            self.outcome.timeline.push(moment);
        }
    }
}

/// Why a run that was asked for was not begun, as the operator says beside what ran last.
fn refusal(status: &ChaosExperimentStatus) -> String {
    let completed = find_condition(&status.conditions, COMPLETED);
    let said = completed.filter(|condition| Reason::parse(&condition.reason) == Some(Reason::InvalidSpec));
    said.map_or_else(
        || "it was asked for and did not begin, and nothing is remembered of it; ask again".to_owned(),
        |condition| condition.message.clone(),
    )
}

/// What is known of a run when the next one has begun; `seen` is what was seen of it until then.
fn from_history(past: &PastRun, seen: ChaosExperimentStatus) -> ChaosExperimentStatus {
    let hurt = past.targets.iter().filter(|target| target.active_at.is_some()).count();
    let known = ChaosSummary {
        kind: past.kind.clone(),
        injected: format!("{hurt}/{}", past.targets.len()),
        ..ChaosSummary::default()
    };
    ChaosExperimentStatus {
        run: Some(past.run.clone()),
        phase: Some(ChaosPhase::Completed),
        verdict: Some(past.verdict),
        reason: Some(past.reason.clone()),
        message: past.message.clone(),
        intent_at: past.began_at,
        completed_at: Some(past.at),
        time_to_recover: past.recovery.clone(),
        // Of many targets the history keeps the first.
        targets: if seen.targets.len() > past.targets.len() {
            seen.targets
        } else {
            past.targets.clone()
        },
        summary: seen.summary.or(Some(known)),
        ..seen
    }
}

/// One line; whoever reads it may be gone, which is no reason to leave the run alone.
fn tell(output: &mut (dyn Write + Send), line: &str) {
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

/// The files that reports go to, opened before anything is hurt.
struct Reports {
    json: Option<(PathBuf, File)>,
    junit: Option<(PathBuf, File)>,
}

fn open(settings: &VerifySettings) -> Result<Reports, Error> {
    let create = |path: &Option<PathBuf>| {
        path.as_ref()
            .map(|path| {
                let file = File::create(path).map_err(|source| unwritten(path, source))?;
                Ok((path.clone(), file))
            })
            .transpose()
    };
    Ok(Reports {
        json: create(&settings.json)?,
        junit: create(&settings.junit)?,
    })
}

fn unwritten(path: &Path, source: std::io::Error) -> Error {
    Error::Report {
        file: path.display().to_string(),
        source,
    }
}

impl Reports {
    fn write(&mut self, outcome: &Outcome) -> Result<(), Error> {
        if let Some((path, file)) = &mut self.json {
            writeln!(file, "{:#}", outcome.json()).map_err(|source| unwritten(path, source))?;
        }
        if let Some((path, file)) = &mut self.junit {
            file.write_all(outcome.junit().as_bytes())
                .map_err(|source| unwritten(path, source))?;
        }
        Ok(())
    }
}
