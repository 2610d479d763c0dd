//! Where a policy's archives go.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the archive goes; exactly one field.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.s3) != has(self.volumeClaim)").message("destination must hold exactly one of s3 and volumeClaim"))]
pub struct BackupDestination {
    /// A bucket of an S3-compatible object store. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Destination>,
    /// A PersistentVolumeClaim of the same namespace. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_claim: Option<VolumeClaimDestination>,
}

/// The one destination that a policy names.
#[derive(Clone, Debug, PartialEq)]
pub enum DestinationChoice {
    /// A folder on a claim.
    VolumeClaim(VolumeClaimDestination),
    /// A bucket.
    S3(S3Destination),
}

impl BackupDestination {
    /// The field that is set; `None` unless it is exactly one.
    pub fn choice(&self) -> Option<DestinationChoice> {
        match (&self.s3, &self.volume_claim) {
            (Some(s3), None) => Some(DestinationChoice::S3(s3.clone())),
            (None, Some(claim)) => Some(DestinationChoice::VolumeClaim(claim.clone())),
            _ => None,
        }
    }
}

/// A folder on a PersistentVolumeClaim; the archive is `<path>/<namespace>/<policy>/<yyyymmdd>.tar.zst`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeClaimDestination {
    /// Name of the claim. Required.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')").message("claimName must be the name of a PersistentVolumeClaim of this namespace: a-z, 0-9, '-' and '.'"))]
    pub claim_name: String,
    /// Folder on the volume. Default: the volume's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = r"^[A-Za-z0-9_./-]+$"))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_]')").message("path must begin with a letter, a digit or '_': it is a folder on the volume, without a leading '/'"), validation = Rule::new("!self.split('/').exists(part, part == '..')").message("path must not leave the volume: remove every '..'"))]
    pub path: Option<String>,
}

/// A bucket; the archive is `<prefix>/<namespace>/<policy>/<yyyymmdd>.tar.zst`, written by one conditional request.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.caSecretRef) || !has(self.endpoint) || !self.endpoint.startsWith('http://')").message("caSecretRef has no meaning for an endpoint of http://: write https://, or remove it"))]
pub struct S3Destination {
    /// Name of the bucket, which must exist. Required.
    #[schemars(length(min = 3, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9][a-z0-9.-]*[a-z0-9]$') && !self.contains('..')").message("bucket must be the bucket's name alone: a-z, 0-9, '-' and single '.', without 's3://' and without a path, which belongs to prefix"))]
    pub bucket: String,
    /// What keys begin with. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = r"^[A-Za-z0-9_./-]+$"))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_]')").message("prefix must begin with a letter, a digit or '_', without a leading '/'"), validation = Rule::new("!self.split('/').exists(part, part == '..')").message("prefix must not hold '..'"))]
    pub prefix: Option<String>,
    /// URL of the store, for example https://minio.storage.svc:9000. Default: AWS S3 of the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[1-9][0-9]{0,4})?/?$') && !self.matches(':(6553[6-9]|655[4-9][0-9]|65[6-9][0-9]{2}|6[6-9][0-9]{3}|[7-9][0-9]{4})/?$')").message("endpoint must be http:// or https://, a host and, if need be, a port, for example https://minio.storage.svc:9000: no path and no credentials"))]
    pub endpoint: Option<String>,
    /// Region that requests are signed for. Default: us-east-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub region: Option<String>,
    /// Whether the bucket's name stands in the path of the URL and not in its host, as most stores but AWS want it. Default: true with an endpoint, false without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// Secret of the same namespace with keys accessKeyId and secretAccessKey (or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), and sessionToken where there is one. Required.
    pub credentials_secret_ref: SecretReference,
    /// Secret of the same namespace whose key ca.crt holds the certificates that the store's is checked against. Default: the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretReference>,
    /// When the store is asked to check a sha256 of what it receives. Default: WhenSupported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum_mode: Option<ChecksumMode>,
}

/// Name of a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SecretReference {
    /// Name of the Secret. Required.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// When a checksum is sent along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum ChecksumMode {
    /// With every archive: the store refuses one that arrives damaged, and vouches for what it holds.
    #[default]
    WhenSupported,
    /// Never, for stores that refuse the header; the archive is read back instead.
    WhenRequired,
}
