//! How to reach a bucket: the mounted Secrets with credentials and authority.
//!
//! In: the folders where they are mounted. Out: credentials and, where the policy names one, the authority's certificates;
//! or an error that names Secret and key, never a value. Reads files, nothing else.

use super::Error;
use aws_sdk_s3::config::Credentials;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{fs, io, path::Path};
use valerix_crds::S3Destination;

/// Keys of the credentials: ours, and those of the variables that every S3 client knows.
const ACCESS_KEY: [&str; 2] = ["accessKeyId", "AWS_ACCESS_KEY_ID"];
const SECRET_KEY: [&str; 2] = ["secretAccessKey", "AWS_SECRET_ACCESS_KEY"];
const SESSION_TOKEN: [&str; 2] = ["sessionToken", "AWS_SESSION_TOKEN"];
const CERTIFICATES: [&str; 1] = ["ca.crt"];

/// Reads the credentials.
pub(super) fn credentials(folder: &Path, destination: &S3Destination) -> Result<Credentials, Error> {
    let secret = Secret {
        folder,
        field: "destination.s3.credentialsSecretRef",
        name: &destination.credentials_secret_ref.name,
    };
    Ok(Credentials::new(
        secret.needed(&ACCESS_KEY)?,
        secret.needed(&SECRET_KEY)?,
        secret.value(&SESSION_TOKEN)?,
        None,
        "mounted Secret",
    ))
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
        let read = || credentials(folder.path(), &destination());
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
