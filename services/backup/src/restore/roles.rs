//! The roles of the archive that the target's server lacks.
//!
//! In: the scripts of the archive. Out: roles, each with a comment that says whose it is until the Restore has ended, so
//! that whatever ends it before takes them away again: this pod, or the next one. A role that is there is never changed.

use super::{failure::Failure, target::Target};
use crate::{
    roles::{Role, Roles},
    sql::{self, name, text},
};
use serde::Deserialize;
use std::collections::BTreeSet;

/// The most that one call makes: a command line has an end. Unit: bytes.
const MOST_AT_ONCE: usize = 64 << 10;

/// Whose a role is until the Restore has ended.
const MARK: &str = "split_part(shobj_description(oid, 'pg_authid'), chr(10), 1)";

/// What is to be made.
pub(super) struct Plan {
    roles: Roles,
    /// What the roles had in the archive and do not get.
    left_out: Vec<String>,
}

/// A role that was made and not yet finished.
#[derive(Deserialize)]
struct Unfinished {
    name: String,
    comment: String,
}

impl Target {
    /// What is missing of these roles. Reads only.
    ///
    /// # Errors
    /// If some are, and the admin may not make any.
    pub(super) async fn plan_roles(&self, mut roles: Roles) -> Result<Plan, Failure> {
        #[derive(Deserialize)]
        struct There {
            names: BTreeSet<String>,
            superusers: BTreeSet<String>,
            makes: bool,
        }
        let there: There = self
            .admin
            .ask(
                "list the roles",
                "SELECT json_build_object('names', json_agg(rolname), \
                 'superusers', coalesce(json_agg(rolname) FILTER (WHERE rolsuper), '[]'), \
                 'makes', bool_or(rolname = current_user AND (rolsuper OR rolcreaterole))) FROM pg_roles",
            )
            .await?;
        roles.retain_missing(&there.names);
        if !roles.roles.is_empty() && !there.makes {
            return Err(Failure::Refused(format!(
                "roles: the role of secret {} may not make roles: grant it CREATEROLE, name one that may in target.adminSecretRef, or write roles: Skip",
                self.admin.secret()
            )));
        }
        let left_out = roles.without_powers(&there.superusers);
        Ok(Plan { roles, left_out })
    }

    /// Makes the roles, and says what they lack. A setting or a membership that the server refuses is no reason to end.
    pub(super) async fn create_roles(&self, plan: &Plan) -> Result<Option<String>, Failure> {
        let mark = |role: &Role| {
            let comment = role.comment.as_deref().unwrap_or_default();
            Some(format!("{}\n{comment}", self.application(&self.mark)))
        };
        let mut batch = String::new();
        for statement in plan.roles.creation(&mark) {
            if batch.len() + statement.len() > MOST_AT_ONCE {
                self.admin.execute("create roles", &std::mem::take(&mut batch)).await?;
            }
            batch.push_str(&statement);
            batch.push(';');
        }
        if !batch.is_empty() {
            self.admin.execute("create roles", &batch).await?;
        }
        let mut left_out = plan.left_out.clone();
        for statement in plan.roles.refinement() {
            match self.admin.execute("refine a role", &statement).await {
                Ok(_) => {}
                Err(sql::Error::Statement { why, .. }) => left_out.push(format!("{statement}: {why}")),
                Err(error) => return Err(error.into()),
            }
        }
        Ok((!left_out.is_empty()).then(|| format!("roles: {}", left_out.join(", "))))
    }

    /// Takes away what the pod with this mark has made and not finished. A role that somebody uses by now stays.
    pub(super) async fn drop_unfinished_roles(&self, mark: &str) -> Result<(), sql::Error> {
        let of_the_pod = self.application(mark);
        for role in self.unfinished_roles(mark).await? {
            // Its heir may have made one of the same name since, and is about to use it.
            let drop = format!(
                "SELECT CASE count(*) WHEN 1 THEN 'true' ELSE 'another role has this name' END::boolean \
                 FROM pg_roles WHERE rolname = {} AND {MARK} = {}; DROP ROLE {}",
                text(&role.name),
                text(&of_the_pod),
                name(&role.name)
            );
            match self.admin.execute("drop a role", &drop).await {
                Ok(_) => {}
                Err(error @ sql::Error::Statement { .. }) => tracing::warn!(role = role.name, %error, "a role stays"),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives the roles that any pod has made their own comments: from now on they are nobody's to take away. Says which
    /// they are.
    pub(super) async fn finish_roles(&self) -> Result<Vec<String>, sql::Error> {
        let mut made = Vec::new();
        for role in self.unfinished_roles("").await? {
            let comment = role.comment.split_once('\n').map_or("", |(_, own)| own);
            let own = if comment.is_empty() {
                "NULL".to_owned()
            } else {
                text(comment)
            };
            let statement = format!("COMMENT ON ROLE {} IS {own}", name(&role.name));
            self.admin.execute("finish a role", &statement).await?;
            made.push(role.name);
        }
        Ok(made)
    }

    /// Those of the pod with this mark, or without one those of every pod of the Restore.
    async fn unfinished_roles(&self, mark: &str) -> Result<Vec<Unfinished>, sql::Error> {
        let query = format!(
            "SELECT coalesce(json_agg(json_build_object('name', rolname, 'comment', shobj_description(oid, 'pg_authid')) ORDER BY rolname), '[]') \
             FROM pg_roles WHERE strpos({MARK}, {}) = 1",
            text(&self.application(mark))
        );
        self.admin.ask("look for roles of this Restore", &query).await
    }
}
