//! Which databases of the archive are restored, and under which names. Pure.

use super::{failure::Failure, settings::Settings};
use crate::manifest::{Manifest, Member};
use valerix_crds::restore_runner::{previous_name, staged_name};

/// A database as it is to be restored.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) member: Member,
    /// Its name on the server in the end.
    pub(crate) target: String,
    /// Its name until then.
    pub(crate) staged: String,
    /// The name that one that is replaced gets.
    pub(crate) aside: String,
    /// That name and the OID of the one that is replaced, once it was looked at.
    pub(crate) previous: Option<(String, i64)>,
    /// OID of the restored one, once it is there.
    pub(crate) oid: Option<i64>,
}

/// Which databases of the archive are restored, and under which names.
///
/// # Errors
/// If the archive lacks one, or two would get one name.
pub(crate) fn plan(settings: &Settings, manifest: &Manifest) -> Result<Vec<Item>, Failure> {
    let slot = manifest.slot.to_string();
    let item = |member: &Member, target: &str| Item {
        member: member.clone(),
        target: target.to_owned(),
        staged: staged_name(target, &slot, &settings.arguments.pod_uid),
        aside: previous_name(target, &slot),
        previous: None,
        oid: None,
    };
    let asked = &settings.spec.databases;
    let items: Vec<Item> = if asked.is_empty() {
        manifest
            .databases
            .iter()
            .map(|member| item(member, &member.name))
            .collect()
    } else {
        let found = asked.iter().map(|database| {
            let member = manifest.databases.iter().find(|member| member.name == database.name);
            member.map(|member| item(member, database.target())).ok_or_else(|| {
                let held: Vec<_> = manifest.databases.iter().map(|member| member.name.as_str()).collect();
                Failure::Refused(format!(
                    "databases: the archive holds no {}, but {}",
                    database.name,
                    held.join(", ")
                ))
            })
        });
        found.collect::<Result<_, _>>()?
    };
    for (index, item) in items.iter().enumerate() {
        let earlier = &items[..index];
        if earlier
            .iter()
            .any(|other| other.target == item.target || other.staged == item.staged)
        {
            return Err(Failure::Refused(format!(
                "databases: two of them would be called {}: name another one in databases[].as",
                item.target
            )));
        }
    }
    Ok(items)
}
