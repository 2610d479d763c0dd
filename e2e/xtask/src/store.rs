//! An S3 server of xtask's own for the tests of the backup runner: versitygw, which others run in production, on a free
//! port, with its bucket in a temporary folder, ended together with the guard that holds it.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::{Program, Running};
use crate::services::{ends_with_xtask, free_port, wait_until};
use crate::steps::Log;

const BUCKET: &str = "archives";
const ACCESS_KEY: &str = "valerix-tests";
const SECRET_KEY: &str = "only-in-tests";

/// The running server.
pub struct Store {
    endpoint: String,
    // Declared before the folder: it ends before its data goes.
    _server: Running,
    _folder: Folder,
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

impl Store {
    /// Starts `program` and waits until it answers.
    ///
    /// # Errors
    /// When it does not answer within 30 seconds.
    pub fn start(program: &Path, log: &Log) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("valerix-store-{}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        let folder = Folder(path);
        // A bucket is a folder. What belongs to an object beside its bytes lies in files: not every file system of a
        // temporary folder has attributes.
        let (objects, beside) = (folder.0.join("objects"), folder.0.join("beside"));
        for made in [objects.join(BUCKET), beside.clone()] {
            fs::create_dir_all(&made).with_context(|| format!("failed to create {}", made.display()))?;
        }
        let port = free_port()?;
        let mut server = ends_with_xtask(program)
            .env("ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("ROOT_SECRET_KEY", SECRET_KEY)
            .args(["--quiet", "--port", &format!("127.0.0.1:{port}"), "posix", "--sidecar"])
            .arg(&beside)
            .arg(&objects)
            .in_folder(&folder.0)
            .start(log)?;
        let answers = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        wait_until("the S3 server", &mut server, answers)?;
        log.say(&format!("S3 on 127.0.0.1:{port}"));
        Ok(Self {
            endpoint: format!("http://127.0.0.1:{port}"),
            _server: server,
            _folder: folder,
        })
    }

    /// `program`, told where the server is.
    #[must_use]
    pub fn tell(&self, program: Program) -> Program {
        program
            .env("TEST_S3_ENDPOINT", &self.endpoint)
            .env("TEST_S3_BUCKET", BUCKET)
            .env("TEST_S3_ACCESS_KEY", ACCESS_KEY)
            .env("TEST_S3_SECRET_KEY", SECRET_KEY)
    }
}
