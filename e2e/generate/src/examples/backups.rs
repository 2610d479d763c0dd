//! Backups and restores.

use anyhow::Result;
use valerix_crds::{
    BackupDatabase, BackupDestination, BackupPolicy, BackupPolicySpec, BackupRetention, BackupSchedule,
    BackupVerification, PolicyName, Replace, Restore, RestoreDatabase, RestoreMode, RestoreRoles, RestoreSelect,
    RestoreSource, RestoreSpec, RestoreTarget, S3Destination, SecretReference, StoredArchive, TrialRestore,
    VolumeClaimDestination,
};

pub fn backup() -> BackupPolicy {
    let database = |name: &str| BackupDatabase {
        name: name.into(),
        connection_secret_ref: SecretReference {
            name: format!("{name}-database"),
        },
        minimum: None,
    };
    BackupPolicy::new(
        "nightly",
        BackupPolicySpec {
            schedule: BackupSchedule {
                time_of_day: "03:15".into(),
                time_zone: "Europe/Berlin".into(),
                catch_up_window: None,
            },
            databases: vec![database("orders"), database("inventory")],
            globals: None,
            compression: None,
            encryption: None,
            retention: Some(BackupRetention::default()),
            verification: Some(BackupVerification {
                restore: TrialRestore::Weekly,
                ..BackupVerification::default()
            }),
            destination: BackupDestination {
                s3: None,
                volume_claim: Some(VolumeClaimDestination {
                    claim_name: "backups".into(),
                    path: None,
                }),
            },
            scratch: None,
            job: None,
            suspend: false,
            deletion_policy: None,
        },
    )
}

/// A bucket, and how it is reached.
fn bucket() -> BackupDestination {
    let secret = |name: &str| SecretReference { name: name.into() };
    BackupDestination {
        s3: Some(S3Destination {
            bucket: "archives".into(),
            prefix: Some("pg".into()),
            endpoint: Some("https://minio.storage.svc:9000".into()),
            region: None,
            path_style: None,
            credentials_secret_ref: secret("store"),
            ca_secret_ref: Some(secret("store-authority")),
            checksum_mode: None,
        }),
        volume_claim: None,
    }
}

pub fn backup_into_bucket() -> BackupPolicy {
    let mut policy = backup();
    policy.metadata.name = Some("nightly-bucket".into());
    policy.spec.destination = bucket();
    policy.spec.verification = Some(BackupVerification {
        restore: TrialRestore::EveryRun,
        ..BackupVerification::default()
    });
    policy
}

pub fn restore_new() -> Restore {
    Restore::new(
        "orders-look",
        RestoreSpec {
            source: RestoreSource {
                policy_ref: Some(PolicyName { name: "nightly".into() }),
                select: None,
                slot: None,
                archive: None,
                identity_secret_ref: None,
            },
            target: RestoreTarget {
                connection_secret_ref: SecretReference {
                    name: "postgres-admin".into(),
                },
                admin_secret_ref: None,
            },
            databases: vec![RestoreDatabase {
                name: "orders".into(),
                target: Some("orders_look".into()),
            }],
            roles: None,
            mode: RestoreMode::NewDatabase,
            replace: None,
            scratch: None,
            job: None,
        },
    )
}

pub fn restore_replacing() -> Result<Restore> {
    let mut restore = restore_new();
    restore.metadata.name = Some("orders-back".into());
    let spec = &mut restore.spec;
    spec.source.select = Some(RestoreSelect::Slot);
    spec.source.slot = Some("2026-08-21".into());
    spec.target = RestoreTarget {
        connection_secret_ref: SecretReference {
            name: "orders-database".into(),
        },
        admin_secret_ref: Some(SecretReference {
            name: "postgres-admin".into(),
        }),
    };
    spec.databases = vec![RestoreDatabase {
        name: "orders".into(),
        target: None,
    }];
    spec.mode = RestoreMode::ReplaceDatabase;
    spec.replace = Some(Replace {
        confirm: "orders".into(),
        keep_previous: Some("72h".parse()?),
    });
    Ok(restore)
}

pub fn restore_lost() -> Restore {
    let mut restore = restore_new();
    restore.metadata.name = Some("everything".into());
    let spec = &mut restore.spec;
    spec.source = RestoreSource {
        archive: Some(StoredArchive {
            destination: bucket(),
            key: "pg/shop/nightly-bucket/20260821.tar.zst".into(),
            sha256: None,
        }),
        ..RestoreSource::default()
    };
    spec.databases = Vec::new();
    spec.roles = Some(RestoreRoles::Create);
    restore
}
