//! What the tests share: servers on loopback, a policy folder as the kubelet makes it, a fresh database.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use valerix_resilience::Resilience;
use valerix_resilience::policy::{Fault, FaultEntry, Faults, Policy, Runtime, Target};

/// Long enough for any condition on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Serves a router until the test ends.
pub(crate) async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// An address on which nobody listens, and nobody else either as long as this process lives.
pub(crate) fn dead_address() -> SocketAddr {
    static KEPT: std::sync::Mutex<Vec<tokio::net::TcpSocket>> = std::sync::Mutex::new(Vec::new());
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    KEPT.lock().unwrap().push(socket);
    address
}

pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let met = tokio::time::timeout(PATIENCE, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(met.await.is_ok(), "never came true: {what}");
}

/// Requests that reached a server, and their headers.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    count: Arc<AtomicUsize>,
    headers: Arc<Mutex<Vec<http::HeaderMap>>>,
}

impl Seen {
    /// Counts a request; returns its number from 1.
    pub(crate) fn note(&self, headers: &http::HeaderMap) -> usize {
        self.headers.lock().unwrap().push(headers.clone());
        self.count.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    pub(crate) fn header(&self, request: usize, name: &str) -> Option<String> {
        Some(
            self.headers.lock().unwrap()[request]
                .get(name)?
                .to_str()
                .unwrap()
                .to_owned(),
        )
    }
}

/// A policy with one target called `upstream`.
pub(crate) fn policy(change: impl FnOnce(&mut Policy, &mut Target)) -> Policy {
    let mut policy = Policy::default();
    let mut target = Target::named("upstream");
    target.retry.backoff.base = "1ms".parse().unwrap();
    target.retry.backoff.max = "5ms".parse().unwrap();
    change(&mut policy, &mut target);
    policy.targets.push(target);
    assert_eq!(policy.violations(), []);
    policy
}

/// The library without a folder, with a policy in force.
pub(crate) async fn with_policy(policy: &Policy) -> Resilience {
    let resilience = Resilience::builder()
        .service("test")
        .namespace("shop")
        .pod_uid("uid-1")
        .start()
        .await
        .unwrap();
    resilience.apply_policy(policy.render().as_bytes()).unwrap();
    resilience
}

/// A folder whose files are swapped through `..data`, as the kubelet does it.
pub(crate) struct Mount {
    pub(crate) root: tempfile::TempDir,
    version: usize,
    pub(crate) policy: Option<String>,
    pub(crate) faults: Option<String>,
    pub(crate) runtime: Option<String>,
}

impl Mount {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let runtime = Some(Runtime::new(1).render());
        Self {
            root,
            version: 0,
            policy: None,
            faults: Some(Faults::default().render()),
            runtime,
        }
    }

    pub(crate) fn with_policy(policy: &Policy) -> Self {
        let mut mount = Self::new();
        mount.policy = Some(policy.render());
        mount.publish();
        mount
    }

    pub(crate) fn folder(&self) -> &Path {
        self.root.path()
    }

    /// Writes a new version and swaps to it in one step.
    pub(crate) fn publish(&mut self) {
        self.publish_with(|_| {});
    }

    /// The same; `spoil` may do to the new version what it likes before anybody sees it.
    pub(crate) fn publish_with(&mut self, spoil: impl FnOnce(&Path)) {
        self.version += 1;
        let name = format!("..version_{}", self.version);
        let folder = self.folder().join(&name);
        std::fs::create_dir(&folder).unwrap();
        let files = [
            ("policy.v1.json", &self.policy),
            ("faults.json", &self.faults),
            ("runtime.json", &self.runtime),
        ];
        for (file, content) in files {
            if let Some(content) = content {
                std::fs::write(folder.join(file), content).unwrap();
            }
        }
        spoil(&folder);
        let temporary = self.folder().join("..data_tmp");
        std::os::unix::fs::symlink(&name, &temporary).unwrap();
        std::fs::rename(&temporary, self.folder().join("..data")).unwrap();
        if self.version > 1 {
            std::fs::remove_dir_all(self.folder().join(format!("..version_{}", self.version - 1))).unwrap();
        }
    }

    pub(crate) fn state_folder(&self) -> PathBuf {
        self.folder().join("state")
    }

    pub(crate) async fn start(&self) -> Resilience {
        Resilience::builder()
            .service("inventory")
            .namespace("shop")
            .pod_uid("uid-1")
            .policy_folder(self.folder())
            .state_folder(self.state_folder())
            .start()
            .await
            .unwrap()
    }
}

/// A document with one fault for the pod of the tests.
pub(crate) fn faults(run: &str, fault: Fault, duration: &str) -> Faults {
    let now = chrono::Utc::now();
    let duration: valerix_resilience::policy::Duration = duration.parse().unwrap();
    let entry = FaultEntry {
        run: run.to_owned(),
        fault,
        pod_uids: vec!["uid-1".to_owned()],
        duration,
        not_after: now + chrono::TimeDelta::seconds(45) + chrono::TimeDelta::from_std(duration.get()).unwrap(),
        intent_at: now,
        spared_paths: vec![],
    };
    Faults {
        version: 1,
        faults: vec![entry],
    }
}

/// A database of its own on the server that `TEST_DATABASE_URL` names.
pub(crate) async fn database() -> sqlx::PgPool {
    use std::str::FromStr;
    let url = std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL must name a Postgres server");
    let options = sqlx::postgres::PgConnectOptions::from_str(&url).unwrap();
    let admin = sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .connect_with(options.clone())
        .await
        .unwrap();
    let name = format!("resilience_{}", uuid::Uuid::new_v4().simple());
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&admin)
        .await
        .unwrap();
    admin.close().await;
    sqlx::postgres::PgPoolOptions::new()
        .max_connections(20)
        .connect_with(options.database(&name))
        .await
        .unwrap()
}
