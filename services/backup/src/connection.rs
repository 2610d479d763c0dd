//! How to reach one database: the keys of its mounted Secret.
//!
//! In: the folder where the Secret is mounted. Out: a [`Connection`] or an error that names database, Secret and key,
//! never a value. Reads files, nothing else. The mounts are optional, so that a missing Secret ends here with its name
//! instead of in a pod that never starts.

use std::{
    ffi::OsString,
    fmt, fs, io,
    net::Ipv6Addr,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};
use valerix_crds::BackupDatabase;

/// The authorities that are trusted when the Secret brings none of its own: those of the image.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// What libpq knows as sslmode.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
/// The key of the certificates of the server's own authority.
const CERTIFICATE_KEY: &str = "ca.crt";
/// All keys that are looked at.
const KEYS: [&str; 8] = [
    "host",
    "port",
    "dbname",
    "username",
    "user",
    "password",
    "sslmode",
    CERTIFICATE_KEY,
];

/// Everything that a client needs to reach one database.
#[derive(Clone)]
pub struct Connection {
    /// `databases[i] <name>`, the beginning of every message about this database.
    pub label: String,
    /// Name of the Secret.
    pub secret: String,
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
    pub password: OsString,
    /// libpq's sslmode.
    pub ssl_mode: Option<String>,
    /// File with the certificates that the server's certificate is checked against, where it is checked.
    pub root_certificates: Option<PathBuf>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (secret {})", self.label, self.secret)
    }
}

/// The Secret does not say how to reach the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Secret or keys of it are not there.
    #[error("{label}: {}{}", missing(secret, keys), if *empty { ": is there such a Secret in this namespace?" } else { "" })]
    Missing {
        /// The database.
        label: String,
        /// The Secret.
        secret: String,
        /// The keys.
        keys: Vec<&'static str>,
        /// Whether the mount holds nothing at all.
        empty: bool,
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
        /// What is wrong with it, without saying it.
        why: String,
    },
}

fn missing(secret: &str, keys: &[&str]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| format!("key {key} not found")).collect();
    format!("secret {secret}, {}", keys.join(", "))
}

/// Reads the Secret of `databases[index]` from its mount.
///
/// # Errors
/// If keys that are needed are missing or empty, or a value is not what it should be.
pub fn read(folder: &Path, index: usize, database: &BackupDatabase) -> Result<Connection, Error> {
    read_as(folder, index, database, format!("databases[{index}] {}", database.name))
}

/// The same, with another beginning of every message about it.
pub(crate) fn read_as(
    folder: &Path,
    index: usize,
    database: &BackupDatabase,
    label: String,
) -> Result<Connection, Error> {
    let mount = Mount {
        folder: folder.join(index.to_string()),
        label,
        secret: &database.connection_secret_ref.name,
    };
    let ignored = mount.ignored();
    if !ignored.is_empty() {
        let (database, secret, keys) = (&mount.label, mount.secret, ignored.join(", "));
        tracing::info!(%database, %secret, %keys, "keys of the secret that say nothing here are left alone");
    }
    let port = match mount.value("port")? {
        Some(text) => text
            .parse()
            .map_err(|_| mount.wrong("port", "it is not a port number"))?,
        None => 5432,
    };
    let ssl_mode = mount.value("sslmode")?;
    if ssl_mode
        .as_ref()
        .is_some_and(|mode| !SSL_MODES.contains(&mode.as_str()))
    {
        return Err(mount.wrong("sslmode", &format!("it is none of {}", SSL_MODES.join(", "))));
    }
    let root_certificates = mount.root_certificates(ssl_mode.as_deref())?;
    let host = mount.value("host")?;
    if let Some(host) = &host {
        mount.check_host(host)?;
    }
    // Some operators of databases write `user`.
    let username = match mount.value("username")? {
        None => mount.value("user")?,
        username => username,
    };
    match (host, username, mount.bytes("password")?) {
        (Some(host), Some(username), Some(password)) => Ok(Connection {
            host,
            port,
            database: mount.value("dbname")?.unwrap_or_else(|| database.name.clone()),
            username,
            password: OsString::from_vec(password),
            ssl_mode,
            root_certificates,
            name: database.name.clone(),
            secret: mount.secret.to_owned(),
            label: mount.label,
        }),
        (host, username, password) => Err(Error::Missing {
            keys: [
                ("host", host.is_none()),
                ("username", username.is_none()),
                ("password", password.is_none()),
            ]
            .into_iter()
            .filter_map(|(key, missing)| missing.then_some(key))
            .collect(),
            empty: mount.is_empty(),
            secret: mount.secret.to_owned(),
            label: mount.label,
        }),
    }
}

struct Mount<'a> {
    folder: PathBuf,
    label: String,
    secret: &'a str,
}

impl Mount<'_> {
    /// A value that is text.
    fn value(&self, key: &'static str) -> Result<Option<String>, Error> {
        let text = self.bytes(key)?.map(String::from_utf8).transpose();
        text.map_err(|_| self.wrong(key, "it is no UTF-8: write it anew without its special characters"))
    }

    /// An empty value counts as absent. One line break at the end is what `echo` leaves and never meant; one of Windows
    /// is refused, since nobody can see it.
    fn bytes(&self, key: &'static str) -> Result<Option<Vec<u8>>, Error> {
        let mut bytes = match fs::read(self.folder.join(key)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.wrong(key, &format!("failed to read it: {error}"))),
        };
        if bytes.contains(&0) {
            return Err(self.wrong(key, "it holds a NUL byte"));
        }
        if bytes.ends_with(b"\r\n") {
            return Err(self.wrong(
                key,
                "it ends with a carriage return and a line break, as Windows writes lines: write the value alone",
            ));
        }
        if bytes.ends_with(b"\n") {
            bytes.pop();
        }
        Ok((!bytes.is_empty()).then_some(bytes))
    }

    /// libpq would take some of these forms for a host name and never find it.
    fn check_host(&self, host: &str) -> Result<(), Error> {
        let why = if host.starts_with('/') {
            return Ok(());
        } else if host.contains(['[', ']']) {
            "write an IPv6 address without brackets"
        } else if host.contains(',') {
            "write one host: a list may give each program another server"
        } else if host.contains("://") || host.contains(['/', '@', ' ']) {
            "write a host name or an address alone, not a URL"
        } else if host.contains(':') && host.parse::<Ipv6Addr>().is_err() {
            "write the host alone and its port under key port"
        } else {
            return Ok(());
        };
        Err(self.wrong("host", why))
    }

    /// With `require` libpq checks the chain too as soon as it is given a certificate; with less than that it would fall
    /// back to no encryption instead of failing, so nothing is given.
    fn root_certificates(&self, ssl_mode: Option<&str>) -> Result<Option<PathBuf>, Error> {
        let own = self.folder.join(CERTIFICATE_KEY);
        match fs::read(&own) {
            Ok(text) if text.is_empty() => {}
            Ok(text) => {
                if !String::from_utf8_lossy(&text).contains("-----BEGIN CERTIFICATE-----") {
                    return Err(self.wrong(CERTIFICATE_KEY, "it holds no certificate in PEM form"));
                }
                let checked = matches!(ssl_mode, Some("require" | "verify-ca" | "verify-full"));
                return Ok(checked.then_some(own));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(self.wrong(CERTIFICATE_KEY, &format!("failed to read it: {error}"))),
        }
        let verified = matches!(ssl_mode, Some("verify-ca" | "verify-full"));
        Ok(verified.then(|| PathBuf::from(AUTHORITIES)))
    }

    /// Keys that other programs look at, such as `uri`.
    fn ignored(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        // The kubelet's own begin with two dots.
        let is_ignored = |name: &String| !name.starts_with("..") && !KEYS.contains(&name.as_str());
        let mut ignored: Vec<_> = names.filter(is_ignored).collect();
        ignored.sort_unstable();
        ignored
    }

    fn is_empty(&self) -> bool {
        let Ok(mut entries) = fs::read_dir(&self.folder) else {
            return true;
        };
        entries.next().is_none()
    }

    fn wrong(&self, key: &'static str, why: &str) -> Error {
        Error::Value {
            label: self.label.clone(),
            secret: self.secret.to_owned(),
            key,
            why: why.to_owned(),
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

    /// The keys that are needed, and more.
    fn with<'a>(keys: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        [&[("host", "db"), ("username", "u"), ("password", "p")], keys].concat()
    }

    #[test]
    fn defaults_and_overrides() {
        let folder = mounted(&[("host", "db"), ("username", "u\n"), ("password", " p ")]);
        let connection = read(folder.path(), 2, &database()).unwrap();
        assert_eq!((connection.port, connection.database.as_str()), (5432, "orders"));
        assert_eq!(
            (connection.username.as_str(), connection.password.to_str()),
            ("u", Some(" p "))
        );
        let folder = mounted(&with(&[("port", "6"), ("dbname", "o r"), ("user", "other")]));
        let connection = read(folder.path(), 2, &database()).unwrap();
        assert_eq!((connection.port, connection.database.as_str()), (6, "o r"));
        assert_eq!(connection.username, "u");
        assert!(!format!("{connection:?}").contains("password"));
        let folder = mounted(&[
            ("host", "db"),
            ("user", "u"),
            ("password", "p"),
            ("uri", "postgres://x"),
        ]);
        assert_eq!(read(folder.path(), 2, &database()).unwrap().username, "u");
    }

    /// Who fills in a `uri` alone has to learn from somewhere that it is not what counts.
    #[test]
    fn keys_that_say_nothing_here_are_named_and_not_shown() {
        let folder = mounted(&with(&[
            ("uri", "postgres://x"),
            ("pgpass", "x"),
            ("..data", ""),
            ("ca.crt", ""),
        ]));
        let mount = Mount {
            folder: folder.path().join("2"),
            label: String::new(),
            secret: "orders-db",
        };
        assert_eq!(mount.ignored(), ["pgpass", "uri"]);
        let folder = mounted(&KEYS.map(|key| (key, "x")));
        let folder = folder.path().join("2");
        assert_eq!(Mount { folder, ..mount }.ignored(), [""; 0]);
    }

    #[test]
    fn a_password_is_taken_as_it_is() {
        for password in [
            "caf\u{a0}\u{fb01}n",
            "soft\u{ad}hyphen",
            "\u{1F511}",
            "$q$p@ss/w#rd%41 ' \\ \" $(x) &$q$",
        ] {
            let folder = mounted(&[("host", "db"), ("username", "u"), ("password", password)]);
            assert_eq!(read(folder.path(), 2, &database()).unwrap().password, password);
        }
        // Also bytes that are no text, as some other encoding has them; of a name they are refused.
        let folder = mounted(&with(&[]));
        fs::write(folder.path().join("2/password"), b"caf\xe9 \xff\n").unwrap();
        let read = || read(folder.path(), 2, &database());
        assert_eq!(read().unwrap().password.as_encoded_bytes(), b"caf\xe9 \xff");
        fs::write(folder.path().join("2/username"), b"caf\xe9").unwrap();
        let error = read().unwrap_err().to_string();
        assert!(
            error.contains("secret orders-db, key username: it is no UTF-8"),
            "{error}"
        );
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_and_never_shown() {
        for (keys, message) in [
            (
                vec![],
                "databases[2] orders: secret orders-db, key host not found, key username not found, key password not found: is there such a Secret in this namespace?",
            ),
            (
                vec![("host", "h"), ("username", "u")],
                "databases[2] orders: secret orders-db, key password not found",
            ),
            (
                vec![("username", ""), ("password", "p")],
                "databases[2] orders: secret orders-db, key host not found, key username not found",
            ),
            (
                vec![("port", "geheim")],
                "databases[2] orders: secret orders-db, key port: it is not a port number",
            ),
            (
                vec![("sslmode", "geheim")],
                "databases[2] orders: secret orders-db, key sslmode: it is none of disable, allow, prefer, require, verify-ca, verify-full",
            ),
            (
                with(&[("password", "geheim\r\n")]),
                "databases[2] orders: secret orders-db, key password: it ends with a carriage return and a line break, as Windows writes lines: write the value alone",
            ),
            (
                with(&[("ca.crt", "geheim")]),
                "databases[2] orders: secret orders-db, key ca.crt: it holds no certificate in PEM form",
            ),
        ] {
            let folder = mounted(&keys);
            assert_eq!(read(folder.path(), 2, &database()).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_host_is_one_name_or_one_address() {
        for (host, why) in [
            ("db.shop.svc.", None),
            ("::1", None),
            ("fd00::5", None),
            ("10.0.0.1", None),
            ("/var/run/postgresql", None),
            ("[fd00::5]", Some("without brackets")),
            ("pg-0.pg,pg-1.pg", Some("one host")),
            ("pg.shop.svc:5432", Some("under key port")),
            ("postgres://u:geheim@db/x", Some("not a URL")),
        ] {
            let folder = mounted(&with(&[("host", host)]));
            match (read(folder.path(), 2, &database()), why) {
                (Ok(connection), None) => assert_eq!(connection.host, host),
                (Err(error), Some(why)) => {
                    assert!(error.to_string().contains(why), "{host}: {error}");
                    assert!(!error.to_string().contains("geheim"), "{error}");
                }
                (result, _) => panic!("{host}: {result:?}"),
            }
        }
    }

    #[test]
    fn certificates_are_given_where_they_are_checked() {
        const PEM: &str = "-----BEGIN CERTIFICATE-----\n";
        let own = Path::new("2/ca.crt");
        for (ssl_mode, ca, expected) in [
            (None, Some(PEM), None),
            (Some("prefer"), Some(PEM), None),
            (Some("require"), Some(PEM), Some(own)),
            (Some("verify-ca"), Some(PEM), Some(own)),
            (Some("verify-full"), Some(PEM), Some(own)),
            (Some("require"), None, None),
            (Some("verify-ca"), None, Some(Path::new(AUTHORITIES))),
            (Some("verify-full"), Some(""), Some(Path::new(AUTHORITIES))),
        ] {
            let mut keys = with(&[]);
            keys.extend(ssl_mode.map(|mode| ("sslmode", mode)));
            keys.extend(ca.map(|text| ("ca.crt", text)));
            let folder = mounted(&keys);
            let found = read(folder.path(), 2, &database()).unwrap().root_certificates;
            // An absolute path stays itself when it is joined.
            assert_eq!(found, expected.map(|path| folder.path().join(path)), "{ssl_mode:?}");
        }
    }
}
