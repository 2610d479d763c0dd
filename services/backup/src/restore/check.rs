//! The plan against the server: what exists, what hinders a replacement, what the roles may do. Reads only.

use super::{
    failure::Failure,
    plan::Item,
    settings::Settings,
    target::{Found, Target},
};
use crate::sql::text;
use serde::Deserialize;
use valerix_crds::RestoreMode;

/// What the admin may do.
#[derive(Debug, Deserialize)]
struct Rights {
    superuser: bool,
    creates: bool,
    signals: bool,
}

impl Target {
    /// Holds the plan against the server: what exists, what hinders a swap, what the roles may do.
    pub(crate) async fn check(&self, settings: &Settings, items: &mut [Item]) -> Result<(), Failure> {
        let databases = self.databases().await?;
        let replaces = settings.spec.mode == RestoreMode::ReplaceDatabase;
        for item in items.iter_mut() {
            let living = databases.get(&item.target);
            match (replaces, living) {
                (false, None) => {}
                (false, Some(_)) => {
                    return Err(Failure::Refused(format!(
                        "the server has a database {} already: name another one in databases[].as, or use mode ReplaceDatabase",
                        item.target
                    )));
                }
                (true, None) => {
                    return Err(Failure::Refused(format!(
                        "there is no database {} to be replaced: use mode NewDatabase",
                        item.target
                    )));
                }
                (true, Some(living)) => {
                    let previous = item.aside.clone();
                    if databases.contains_key(&previous) {
                        return Err(Failure::Refused(format!(
                            "the server has a database {previous} already, under which the old {} would be kept: rename or drop it",
                            item.target
                        )));
                    }
                    self.check_replaceable(living).await?;
                    item.previous = Some((previous, living.oid));
                }
            }
            if databases.contains_key(&item.staged) {
                return Err(Failure::Refused(format!(
                    "the server has a database {} already, which is the name to restore under: rename or drop it",
                    item.staged
                )));
            }
        }
        self.check_rights(replaces).await
    }

    async fn check_rights(&self, replaces: bool) -> Result<(), Failure> {
        let rights: Rights = self
            .admin
            .ask(
                "ask what the role may do",
                "SELECT json_build_object('superuser', rolsuper, 'creates', rolsuper OR rolcreatedb, 'signals', rolsuper OR pg_has_role(oid, 'pg_signal_backend', 'MEMBER')) FROM pg_roles WHERE rolname = current_user",
            )
            .await?;
        let secret = self.admin.secret();
        if !rights.creates {
            return Err(Failure::Refused(format!(
                "the role of secret {secret} may not create databases: grant it CREATEDB, or name a role that may in target.adminSecretRef"
            )));
        }
        if replaces && !rights.signals && !rights.superuser {
            return Err(Failure::Refused(format!(
                "the role of secret {secret} may not end the sessions of others: grant it pg_signal_backend"
            )));
        }
        Ok(())
    }

    /// What would be lost with the old database, or would not let it go.
    pub(crate) async fn check_replaceable(&self, living: &Found) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct Bound {
            subscriptions: u64,
            slots: u64,
            prepared: u64,
            owned: bool,
        }
        let database = text(&living.name);
        let refused = |why: &str| Err(Failure::Refused(format!("{} is not replaced: {why}", living.name)));
        if living.template || !living.open {
            return refused("it is a template, or accepts no connections: ALTER DATABASE ... ALLOW_CONNECTIONS true");
        }
        if self.admin.database() == living.name {
            return refused(
                "the runner would work in it: write another database under key dbname of target.adminSecretRef's Secret, for example postgres",
            );
        }
        let bound: Bound = self
            .admin
            .ask(
                "ask what the database is bound to",
                &format!(
                    "SELECT json_build_object(\
                     'subscriptions', (SELECT count(*) FROM pg_subscription WHERE subdbid = {oid}), \
                     'slots', (SELECT count(*) FROM pg_replication_slots WHERE database = {database}), \
                     'prepared', (SELECT count(*) FROM pg_prepared_xacts WHERE database = {database}), \
                     'owned', (SELECT pg_has_role(datdba, 'MEMBER') FROM pg_database WHERE oid = {oid}))",
                    oid = living.oid
                ),
            )
            .await?;
        if bound.subscriptions > 0 {
            return refused("it has subscriptions, which would go on in the old one: drop them first");
        }
        if bound.slots > 0 {
            return refused("it has replication slots, whose readers would follow the old one: drop them first");
        }
        if bound.prepared > 0 {
            return refused("it has prepared transactions: COMMIT PREPARED or ROLLBACK PREPARED them first");
        }
        if !bound.owned {
            return refused("the role of target.adminSecretRef may not act for its owner: grant it that role");
        }
        Ok(())
    }
}
