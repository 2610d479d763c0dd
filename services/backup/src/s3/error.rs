//! What is wrong with a bucket, and what somebody can do about it.

/// The bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A Secret is missing or wrong.
    #[error("{field}: secret {secret}, key {key}: {why}")]
    Secret {
        /// The field that names the Secret.
        field: &'static str,
        /// The Secret.
        secret: String,
        /// The key.
        key: String,
        /// What is wrong with it, without saying it.
        why: String,
    },
    /// The store understood and refused.
    #[error(
        "failed to {action} {place}: {why}; check destination.s3 and the rights of its credentials (s3:ListBucket, GetObject, PutObject, AbortMultipartUpload, DeleteObject)"
    )]
    Refused {
        /// What was tried.
        action: &'static str,
        /// Where.
        place: String,
        /// What the store said.
        why: String,
    },
    /// The store does not know the condition not to overwrite.
    #[error(
        "failed to store {place}: the store refuses If-None-Match, without which nothing is stored ({why}): choose a store that knows conditional writes"
    )]
    NoConditions {
        /// Where.
        place: String,
        /// What the store said.
        why: String,
    },
    /// Temporary credentials are over.
    #[error(
        "failed to {action} {place}: the credentials in the Secret of destination.s3.credentialsSecretRef have expired ({why}): put new ones there, before the old ones expire (each request reads them anew), or some that do not expire"
    )]
    Expired {
        /// What was tried.
        action: &'static str,
        /// Where.
        place: String,
        /// What the store said.
        why: String,
    },
    /// The store's certificate is not trusted.
    #[error(
        "failed to reach {place}: its certificate is not trusted: put the certificate of its authority into the Secret of destination.s3.caSecretRef, key ca.crt ({why})"
    )]
    Untrusted {
        /// Where.
        place: String,
        /// What the client said.
        why: String,
    },
    /// No answer, or an unclear one.
    #[error("failed to {action} {place}: {why}")]
    Call {
        /// What was tried.
        action: &'static str,
        /// Where.
        place: String,
        /// What the store, or the way to it, said.
        why: String,
    },
    /// A file of this host.
    #[error("failed to {action}: {source}")]
    File {
        /// What was tried.
        action: String,
        /// Why.
        source: std::io::Error,
    },
    /// More than one object takes.
    #[error(
        "the archive has {bytes} bytes and one object takes {most}: split spec.databases into two policies, or store it on a volume (destination.volumeClaim)"
    )]
    TooLarge {
        /// Its size. Unit: bytes.
        bytes: u64,
        /// The most that the store takes. Unit: bytes.
        most: u64,
    },
}
