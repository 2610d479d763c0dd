//! How to reach one database: the keys of its mounted Secret.
//!
//! In: the folder where the Secret is mounted. Out: a [`Connection`] or an error that names database, Secret and key.
//! Reads files, nothing else. The mounts are optional, so that a missing Secret ends here with its name instead of
//! in a pod that never starts.

use sqlx::postgres::PgSslMode;
use std::{fmt, fs, io, path::Path, str::FromStr};
use valerix_crds::BackupDatabase;

/// Everything that a client needs to reach one database.
#[derive(Clone)]
pub struct Connection {
    /// `databases[i] <name>`, the beginning of every message about this database.
    pub label: String,
    /// Name of the database in the policy.
    pub name: String,
    /// Host name, address or folder of a socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Name of the database on the server.
    pub database: String,
    /// Login role.
    pub username: String,
    /// Its password; never on a command line, never in a log.
    pub password: String,
    /// libpq's sslmode.
    pub ssl_mode: Option<String>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({}:{})", self.label, self.host, self.port)
    }
}

/// The Secret does not say how to reach the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Secret or the key is not there.
    #[error("{label}: secret {secret}, key {key} not found")]
    Missing {
        /// The database.
        label: String,
        /// The Secret.
        secret: String,
        /// The key.
        key: &'static str,
    },
    /// The key's value cannot be used.
    #[error("{label}: secret {secret}, key {key}: {why}")]
    Value {
        /// The database.
        label: String,
        /// The Secret.
        secret: String,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// Reads the Secret of `databases[index]` from its mount.
///
/// # Errors
/// If a key that is needed is missing, empty or not what it should be.
pub fn read(folder: &Path, index: usize, database: &BackupDatabase) -> Result<Connection, Error> {
    let mount = Mount {
        folder: folder.join(index.to_string()),
        label: format!("databases[{index}] {}", database.name),
        secret: &database.connection_secret_ref.name,
    };
    let port = match mount.optional("port")? {
        Some(text) => text
            .parse()
            .map_err(|_| mount.value("port", format!("`{text}` is not a port number")))?,
        None => 5432,
    };
    let ssl_mode = mount.optional("sslmode")?;
    if let Some(mode) = &ssl_mode {
        PgSslMode::from_str(mode).map_err(|_| {
            mount.value(
                "sslmode",
                format!("`{mode}` is none of disable, allow, prefer, require, verify-ca, verify-full"),
            )
        })?;
    }
    Ok(Connection {
        host: mount.required("host")?,
        port,
        database: mount.optional("dbname")?.unwrap_or_else(|| database.name.clone()),
        username: mount.required("username")?,
        password: mount.required("password")?,
        ssl_mode,
        name: database.name.clone(),
        label: mount.label,
    })
}

struct Mount<'a> {
    folder: std::path::PathBuf,
    label: String,
    secret: &'a str,
}

impl Mount<'_> {
    fn required(&self, key: &'static str) -> Result<String, Error> {
        self.optional(key)?.ok_or_else(|| Error::Missing {
            label: self.label.clone(),
            secret: self.secret.to_owned(),
            key,
        })
    }

    /// An empty value counts as absent. One line break at the end is what `echo` leaves and never meant.
    fn optional(&self, key: &'static str) -> Result<Option<String>, Error> {
        match fs::read_to_string(self.folder.join(key)) {
            Ok(text) => {
                let text = text.strip_suffix('\n').unwrap_or(&text);
                if text.contains('\0') {
                    return Err(self.value(key, "it holds a NUL byte".into()));
                }
                Ok((!text.is_empty()).then(|| text.to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.value(key, format!("failed to read it: {error}"))),
        }
    }

    fn value(&self, key: &'static str, why: String) -> Error {
        Error::Value {
            label: self.label.clone(),
            secret: self.secret.to_owned(),
            key,
            why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use valerix_crds::SecretReference;

    fn database() -> BackupDatabase {
        BackupDatabase {
            name: "orders".into(),
            connection_secret_ref: SecretReference {
                name: "orders-db".into(),
            },
            minimum: None,
        }
    }

    fn mounted(keys: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("2")).unwrap();
        for (key, value) in keys {
            fs::write(folder.path().join("2").join(key), value).unwrap();
        }
        folder
    }

    #[test]
    fn defaults_and_overrides() {
        let folder = mounted(&[("host", "db"), ("username", "u\n"), ("password", " p ")]);
        let connection = read(folder.path(), 2, &database()).unwrap();
        assert_eq!((connection.port, connection.database.as_str()), (5432, "orders"));
        assert_eq!(
            (connection.username.as_str(), connection.password.as_str()),
            ("u", " p ")
        );
        let folder = mounted(&[
            ("host", "db"),
            ("username", "u"),
            ("password", "p"),
            ("port", "6"),
            ("dbname", "o r"),
        ]);
        let connection = read(folder.path(), 2, &database()).unwrap();
        assert_eq!((connection.port, connection.database.as_str()), (6, "o r"));
        assert!(!format!("{connection:?}").contains("password"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (keys, message) in [
            (vec![], "databases[2] orders: secret orders-db, key host not found"),
            (
                vec![("host", "h"), ("username", "u")],
                "databases[2] orders: secret orders-db, key password not found",
            ),
            (
                vec![("host", "h"), ("username", "")],
                "databases[2] orders: secret orders-db, key username not found",
            ),
            (
                vec![("port", "many")],
                "databases[2] orders: secret orders-db, key port: `many` is not a port number",
            ),
            (
                vec![("sslmode", "yes")],
                "databases[2] orders: secret orders-db, key sslmode: `yes` is none of disable, allow, prefer, require, verify-ca, verify-full",
            ),
        ] {
            let folder = mounted(&keys);
            assert_eq!(read(folder.path(), 2, &database()).unwrap_err().to_string(), message);
        }
    }
}
