//! How to reach a bucket: the mounted Secrets with credentials and authority.
//!
//! In: the folders where they are mounted. Out: credentials, for each request anew, and, where the policy names one, the
//! authority's certificates; or an error that names Secret and key, never a value. Reads files, nothing else.

use super::Error;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_s3::config::Credentials;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use valerix_crds::S3Destination;

/// Keys of the credentials: ours, and those of the variables that every S3 client knows.
const ACCESS_KEY: [&str; 2] = ["accessKeyId", "AWS_ACCESS_KEY_ID"];
const SECRET_KEY: [&str; 2] = ["secretAccessKey", "AWS_SECRET_ACCESS_KEY"];
const SESSION_TOKEN: [&str; 2] = ["sessionToken", "AWS_SESSION_TOKEN"];
const CERTIFICATES: [&str; 1] = ["ca.crt"];
/// The link that leads to all that the kubelet has written of a Secret last.
const WRITTEN_LAST: &str = "..data";
/// Pause between two looks for credentials that take the place of expired ones.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);

/// Credentials as they are in the mounted Secret. Temporary ones are renewed there, and a run may take longer than they hold:
/// each request looks once more.
#[derive(Debug)]
pub(super) struct Mounted {
    folder: PathBuf,
    secret: String,
    /// How long after they have expired others may come.
    renewal: Duration,
    last: Mutex<Last>,
}

/// What was whole when it was read, whether that was the last time, and when the store has first said that it is over.
#[derive(Debug)]
struct Last {
    credentials: Credentials,
    is_newest: bool,
    expired: Option<Instant>,
}

impl Mounted {
    /// Reads them for the first time.
    pub(super) fn open(folder: &Path, renewal: Duration, destination: &S3Destination) -> Result<Self, Error> {
        let secret = &destination.credentials_secret_ref.name;
        Ok(Self {
            folder: folder.to_owned(),
            secret: secret.clone(),
            renewal,
            last: Mutex::new(Last {
                credentials: credentials(folder, secret)?,
                is_newest: true,
                expired: None,
            }),
        })
    }

    /// Those of now; where the Secret is gone or half there, those that were whole.
    pub(super) fn now(&self) -> Credentials {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let read = credentials(&self.folder, &self.secret);
        // Said once, and not for each piece of an archive.
        if let (Err(error), true) = (&read, last.is_newest) {
            tracing::warn!(%error, "going on with the credentials that were read before");
        }
        last.is_newest = read.is_ok();
        if let Ok(read) = read
            && read != last.credentials
        {
            (last.credentials, last.expired) = (read, None);
        }
        last.credentials.clone()
    }

    /// Waits for others than those, which have expired: whoever renews a Secret in time has a kubelet that takes a minute and more
    /// to bring it. Says whether they came. All requests together wait once for it.
    pub(super) async fn renewed(&self, used: &Credentials) -> bool {
        while self.now() == *used {
            if self.expired().elapsed() >= self.renewal {
                return false;
            }
            sleep(RENEWAL_PAUSE).await;
        }
        true
    }

    /// When those of now were first said to be over.
    fn expired(&self) -> Instant {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last.expired.get_or_insert_with(|| {
            let (secret, seconds) = (&self.secret, self.renewal.as_secs());
            tracing::warn!(
                secret,
                seconds,
                "the credentials have expired; waiting for new ones in their Secret"
            );
            Instant::now()
        })
    }
}

impl ProvideCredentials for Mounted {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Ok(self.now()))
    }
}

/// Reads the credentials: all of one writing.
fn credentials(folder: &Path, name: &str) -> Result<Credentials, Error> {
    let field = "destination.s3.credentialsSecretRef";
    let secret = Secret { folder, field, name };
    let written = || fs::read_link(folder.join(WRITTEN_LAST)).ok();
    let read = || -> Result<Credentials, Error> {
        Ok(Credentials::new(
            secret.needed(&ACCESS_KEY)?,
            secret.needed(&SECRET_KEY)?,
            secret.value(&SESSION_TOKEN)?,
            None,
            "mounted Secret",
        ))
    };
    loop {
        let (before, read) = (written(), read());
        if written() == before {
            return read;
        }
    }
}

/// Reads the authority's certificates; `None` where the policy trusts the public ones. What is no certificate is refused
/// here: the client would end the process.
pub(super) fn authority(folder: &Path, destination: &S3Destination) -> Result<Option<String>, Error> {
    let Some(reference) = &destination.ca_secret_ref else {
        return Ok(None);
    };
    let secret = Secret {
        folder,
        field: "destination.s3.caSecretRef",
        name: &reference.name,
    };
    let text = secret.needed(&CERTIFICATES)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let certificate =
            certificate.map_err(|error| secret.wrong(CERTIFICATES[0], &format!("it is no PEM: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| secret.wrong(CERTIFICATES[0], &format!("it holds no usable certificate: {error}")))?;
    }
    if roots.is_empty() {
        return Err(secret.wrong(CERTIFICATES[0], "it holds no certificate (PEM)"));
    }
    Ok(Some(text))
}

struct Secret<'a> {
    folder: &'a Path,
    field: &'static str,
    name: &'a str,
}

impl Secret<'_> {
    /// The first of these keys that is there and holds something.
    fn value(&self, keys: &[&'static str]) -> Result<Option<String>, Error> {
        for key in keys {
            match fs::read_to_string(self.folder.join(key)) {
                Ok(text) if text.trim().is_empty() => {}
                Ok(text) => return Ok(Some(text.trim().to_owned())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.wrong(key, &error.to_string())),
            }
        }
        Ok(None)
    }

    fn needed(&self, keys: &[&'static str]) -> Result<String, Error> {
        self.value(keys)?.ok_or_else(|| {
            self.wrong(
                keys[0],
                "it is not found, or empty: is there such a Secret in this namespace?",
            )
        })
    }

    fn wrong(&self, key: &str, why: &str) -> Error {
        Error::Secret {
            field: self.field,
            secret: self.name.to_owned(),
            key: key.to_owned(),
            why: why.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination() -> S3Destination {
        serde_json::from_value(serde_json::json!({
            "bucket": "b", "credentialsSecretRef": {"name": "store"}, "caSecretRef": {"name": "authority"},
        }))
        .unwrap()
    }

    #[test]
    fn what_is_missing_is_named_and_the_common_names_are_understood() {
        let folder = tempfile::tempdir().unwrap();
        let put = |key: &str, value: &str| fs::write(folder.path().join(key), value).unwrap();
        let read = || credentials(folder.path(), "store");
        let text = read().unwrap_err().to_string();
        assert!(text.contains("secret store, key accessKeyId"), "{text}");
        put("AWS_ACCESS_KEY_ID", "id\n");
        put("secretAccessKey", "");
        let text = read().unwrap_err().to_string();
        assert!(text.contains("key secretAccessKey"), "{text}");
        put("AWS_SECRET_ACCESS_KEY", "key");
        let read = read().unwrap();
        assert_eq!((read.access_key_id(), read.session_token()), ("id", None));
    }

    #[test]
    fn credentials_that_were_renewed_are_used_and_half_of_them_never() {
        let folder = tempfile::tempdir().unwrap();
        let put = |key: &str, value: &str| fs::write(folder.path().join(key), value).unwrap();
        for (key, value) in [("accessKeyId", "old"), ("secretAccessKey", "s"), ("sessionToken", "t")] {
            put(key, value);
        }
        let mounted = Mounted::open(folder.path(), Duration::ZERO, &destination()).unwrap();
        put("accessKeyId", "new");
        assert_eq!(mounted.now().access_key_id(), "new");
        fs::remove_file(folder.path().join("secretAccessKey")).unwrap();
        put("accessKeyId", "half");
        let now = mounted.now();
        assert_eq!((now.access_key_id(), now.secret_access_key()), ("new", "s"));
    }

    #[tokio::test(start_paused = true)]
    async fn new_credentials_are_waited_for_once_for_each_that_have_expired() {
        let folder = tempfile::tempdir().unwrap();
        let put = |key: &str, value: &str| fs::write(folder.path().join(key), value).unwrap();
        put("accessKeyId", "old");
        put("secretAccessKey", "s");
        let renewal = Duration::from_secs(90);
        let mounted = Mounted::open(folder.path(), renewal, &destination()).unwrap();
        let old = mounted.now();
        let began = Instant::now();
        let waited = || began.elapsed().as_secs();
        let renewing = async {
            sleep(Duration::from_secs(70)).await;
            put("accessKeyId", "new");
        };
        assert!(tokio::join!(mounted.renewed(&old), renewing).0);
        assert!((70..75).contains(&waited()), "{}", waited());

        let new = mounted.now();
        assert!(
            mounted.renewed(&old).await,
            "a request that was sent with the old ones is sent again"
        );
        assert!(!mounted.renewed(&new).await);
        let given_up = waited();
        assert!((160..170).contains(&given_up), "{given_up}");
        assert!(!mounted.renewed(&new).await);
        assert_eq!(waited(), given_up, "nobody waits for the same once more");
        put("accessKeyId", "newer");
        assert!(mounted.renewed(&new).await);
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (text, why) in [
            ("x", "no certificate"),
            ("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", "no PEM"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "no usable certificate",
            ),
        ] {
            fs::write(folder.path().join("ca.crt"), text).unwrap();
            let error = authority(folder.path(), &destination()).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("secret authority"), "{error}");
        }
    }
}
