//! PostgreSQL's own benchmark with the commits that a payment makes: nothing but the database between it and the disk.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use sqlx::AssertSqlSafe;
use valerix_kit::testing::TestDatabase;

use super::rows::Peer;

/// What a payment writes: the key and the payment; the processor's charge; the outcome with its event; the answer. Each
/// line of it is a statement of the services, each transaction one of theirs.
const PAYMENT: &str = r"
\set n random(1, 9000000000000000000)
BEGIN;
INSERT INTO idempotency_keys AS known (scope, key, fingerprint, resource_id, expires_at) VALUES ('order POST /payments', 'order:' || :client_id || ':' || :n, sha256(:n::text::bytea), md5(:client_id || 'p' || :n)::uuid, now() + interval '1 day') ON CONFLICT (scope, key) DO NOTHING;
SELECT id, order_id, amount_minor, currency, state, version FROM payments WHERE order_id = md5(:client_id || 'o' || :n)::uuid;
INSERT INTO payments (id, order_id, amount_minor, currency, state, due_at, traceparent, void_requested) VALUES (md5(:client_id || 'p' || :n)::uuid, md5(:client_id || 'o' || :n)::uuid, 49900, 'EUR', 'PROCESSING', now() + interval '5 seconds', '', false) ON CONFLICT DO NOTHING;
COMMIT;
INSERT INTO charges (key, amount_minor, currency, status) VALUES (md5(:client_id || 'p' || :n), 49900, 'EUR', 'SUCCEEDED') ON CONFLICT (key) DO NOTHING RETURNING sequence;
BEGIN;
SELECT id, order_id, amount_minor, currency, state, version FROM payments WHERE order_id = md5(:client_id || 'o' || :n)::uuid;
UPDATE payments SET state = 'CHARGED', due_at = NULL, version = version + 1, updated_at = now() WHERE id = md5(:client_id || 'p' || :n)::uuid AND state = 'PROCESSING' AND version = 1;
INSERT INTO outbox (event_id, aggregate, version, topic, type, payload, traceparent) VALUES (md5(:client_id || 'e' || :n)::uuid, 'payment:' || md5(:client_id || 'p' || :n), 2, 'payment.events', 'PaymentProcessed', json_build_object('order_id', md5(:client_id || 'o' || :n), 'payment_id', md5(:client_id || 'p' || :n), 'amount_minor', 49900, 'currency', 'EUR'), '');
COMMIT;
UPDATE idempotency_keys SET status = 201, content_type = 'application/json', location = '/payments/' || md5(:client_id || 'p' || :n), body = convert_to(repeat('x', 200), 'UTF8'), expires_at = greatest(expires_at, now() + interval '1 day') WHERE scope = 'order POST /payments' AND key = 'order:' || :client_id || ':' || :n AND attempt = 1 AND status IS NULL;
";

/// Where pgbench is: in PATH, or where Debian keeps the programs of its servers.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join("pgbench"));
    let servers = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let of_servers = servers.map(|server| server.path().join("bin/pgbench"));
    of_servers.chain(in_path).find(|file| file.is_file())
}

/// A database that has the tables of payment and of the processor, and pgbench for it.
pub struct Pgbench {
    database: TestDatabase,
    folder: tempfile::TempDir,
}

impl Pgbench {
    pub async fn prepare() -> Self {
        let database = TestDatabase::create().await;
        let pool = database.pool().await;
        sqlx::migrate!("../payment/migrations").run(&pool).await.unwrap();
        for migration in [
            include_str!("../../../processor/migrations/0001_charges.sql"),
            include_str!("../../../processor/migrations/0002_cancellations.sql"),
        ] {
            sqlx::raw_sql(AssertSqlSafe(migration)).execute(&pool).await.unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("payment.sql"), PAYMENT).unwrap();
        Self { database, folder }
    }

    /// Payments in a second, by `clients` with a connection each, as fast as they can.
    pub async fn run(&self, clients: usize, time: Duration) -> Peer {
        let said = match program() {
            None => Err("pgbench was not found; install the package postgresql".to_owned()),
            Some(program) => {
                let mut command = Command::new(program);
                let seconds = time.as_secs().max(1).to_string();
                command
                    .args([
                        "--no-vacuum",
                        "--protocol=prepared",
                        "--jobs=1",
                        "--client",
                        &clients.to_string(),
                    ])
                    .args(["--time", &seconds, "--file"])
                    .arg(self.folder.path().join("payment.sql"))
                    .arg(self.database.url());
                let output = tokio::task::spawn_blocking(move || command.output())
                    .await
                    .unwrap()
                    .unwrap();
                let text = [output.stdout, output.stderr].concat();
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
        };
        let value = said.as_ref().map_err(Clone::clone).and_then(|said| rate(said));
        let version = said
            .as_ref()
            .ok()
            .and_then(|said| said.split(['(', ')', ' ']).find(|word| word.contains('.')));
        Peer {
            name: "pgbench",
            version: version.unwrap_or_default().to_owned(),
            value,
        }
    }
}

/// The transactions in a second of what pgbench said; its first line names its version.
fn rate(said: &str) -> Result<f64, String> {
    let line = said.lines().find_map(|line| line.strip_prefix("tps = "));
    let number = line.and_then(|line| line.split(' ').next()?.parse().ok());
    number.ok_or_else(|| said.lines().last().unwrap_or("pgbench said nothing").to_owned())
}
