//! Which pg_dump and pg_restore to run: the oldest that is not older than the server.
//!
//! In: the folder with one folder per major version. Out: the [`Client`]s that are installed and the one to use.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// One installed major version of the client programs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client {
    /// Major version.
    pub major: u32,
    /// Folder of the programs.
    pub folder: PathBuf,
}

/// No client can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be listed.
    #[error("failed to list the PostgreSQL clients in {}", folder.display())]
    List {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is none.
    #[error("failed to find a PostgreSQL client in {}: use the image of the runner", folder.display())]
    None {
        /// The folder.
        folder: PathBuf,
    },
    /// Every client is older than the server.
    #[error(
        "{label}: the server is PostgreSQL {server} and the newest client in the image is {newest}: use an image of the runner with PostgreSQL {server} clients"
    )]
    TooOld {
        /// The database.
        label: String,
        /// Major version of the server.
        server: u32,
        /// Major version of the newest client, 0 for none.
        newest: u32,
    },
    /// The program did not tell its version.
    #[error("failed to ask {} for its version: {why}", program.display())]
    Version {
        /// The program.
        program: PathBuf,
        /// Why.
        why: String,
    },
}

/// The clients below `folder`, oldest first.
///
/// # Errors
/// If the folder cannot be listed.
pub fn installed(folder: &Path) -> Result<Vec<Client>, Error> {
    let entries = fs::read_dir(folder).map_err(|source| Error::List {
        folder: folder.to_owned(),
        source,
    })?;
    let mut clients: Vec<Client> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let major = entry.file_name().to_str()?.parse().ok()?;
            let folder = entry.path().join("bin");
            folder.join("pg_dump").exists().then_some(Client { major, folder })
        })
        .collect();
    clients.sort();
    Ok(clients)
}

/// The oldest client that is not older than the server: newer ones dump it too, but write archives that need them.
///
/// # Errors
/// If every client is older than the server: an old pg_dump refuses at best and loses objects at worst.
pub fn choose<'a>(clients: &'a [Client], label: &str, server_major: u32) -> Result<&'a Client, Error> {
    clients
        .iter()
        .find(|client| client.major >= server_major)
        .ok_or_else(|| Error::TooOld {
            label: label.to_owned(),
            server: server_major,
            newest: clients.last().map_or(0, |client| client.major),
        })
}

impl Client {
    /// Path of one of the programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The version that pg_dump tells of itself, for example `15.18`.
    ///
    /// # Errors
    /// If it cannot be run or answers something else.
    pub fn version(&self) -> Result<String, Error> {
        let program = self.program("pg_dump");
        let failed = |why: String| Error::Version {
            program: program.clone(),
            why,
        };
        let output = Command::new(&program)
            .arg("--version")
            .output()
            .map_err(|error| failed(error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace()
            .nth(2)
            .map(str::to_owned)
            .ok_or_else(|| failed(format!("it answered `{}`", text.trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_client_that_is_new_enough_is_chosen() {
        let clients: Vec<_> = [13, 15, 17]
            .map(|major| Client {
                major,
                folder: PathBuf::from(format!("/{major}")),
            })
            .into();
        for (server, expected) in [(12, 13), (13, 13), (14, 15), (15, 15), (17, 17)] {
            assert_eq!(choose(&clients, "databases[0] x", server).unwrap().major, expected);
        }
        assert_eq!(
            choose(&clients, "databases[0] x", 18).unwrap_err().to_string(),
            "databases[0] x: the server is PostgreSQL 18 and the newest client in the image is 17: use an image of the runner with PostgreSQL 18 clients"
        );
        assert!(
            choose(&[], "databases[0] x", 15)
                .unwrap_err()
                .to_string()
                .contains("is 0")
        );
    }
}
