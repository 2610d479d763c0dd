//! A Redis of the test's own, which writes down what it is told; killed when dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use valerix_kit::testing::{eventually, free_port, patient_redis};

use crate::shop::with_password;

pub struct Redis {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

/// What a Redis that does not run has written down.
pub struct Data(PathBuf);

impl Data {
    /// All of it is gone.
    pub fn remove(&self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }

    /// The last bytes never reached the disk.
    pub fn cut(&self, bytes: u64) {
        let written = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        let newest = written
            .filter(|path| path.to_string_lossy().ends_with(".incr.aof"))
            .max()
            .unwrap();
        let file = std::fs::File::options().write(true).open(newest).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(bytes)).unwrap();
    }
}

impl Redis {
    pub async fn start() -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let redis = Self {
            process: spawn(port, folder.path()),
            port,
            folder,
        };
        redis.answers().await;
        redis
    }

    pub fn url(&self) -> String {
        with_password(&format!("redis://127.0.0.1:{}/", self.port), "default")
    }

    pub async fn connect(&self) -> MultiplexedConnection {
        self.try_connect().await.unwrap()
    }

    async fn try_connect(&self) -> ::redis::RedisResult<MultiplexedConnection> {
        let client = ::redis::Client::open(self.url())?;
        client
            .get_multiplexed_async_connection_with_config(&patient_redis())
            .await
    }

    pub async fn run(&self, command: &::redis::Cmd) {
        let _: ::redis::Value = command.query_async(&mut self.connect().await).await.unwrap();
    }

    /// Bytes that it may use; 0 for as many as there are.
    pub async fn limit(&self, bytes: &str) {
        self.run(::redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes))
            .await;
    }

    /// Killed, away for a moment, and back with what `spoil` has left of its data.
    pub async fn restart(&mut self, away: Duration, spoil: impl FnOnce(&Data)) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        spoil(&Data(self.folder.path().join("appendonlydir")));
        tokio::time::sleep(away).await;
        self.process = spawn(self.port, self.folder.path());
        self.answers().await;
    }

    async fn answers(&self) {
        eventually("Redis answers", || async {
            let mut connection = self.try_connect().await.ok()?;
            ::redis::cmd("PING").query_async::<String>(&mut connection).await.ok()
        })
        .await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(port: u16, folder: &Path) -> Child {
    Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "yes",
        ])
        .current_dir(folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}
