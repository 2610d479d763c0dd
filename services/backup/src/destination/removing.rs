//! What goes from the destination for good: archives of the policy, and what its runs left unfinished.

use super::{Destination, Medium, off_thread};
use crate::{decision::Stored, failure::Failure};
use chrono::NaiveDate;

/// What became of an archive that is to go.
pub(crate) enum Removed {
    /// It is gone.
    Gone,
    /// It is not this policy's and stays.
    Foreign,
    /// It cannot be told whose it is.
    Left { why: String },
}

impl Destination {
    /// Removes what runs have copied to a volume and not stored: for when no run of the policy is left.
    pub(crate) async fn remove_unfinished(&self) -> Result<(), Failure> {
        let Medium::Volume { volume, .. } = &self.medium else {
            return Ok(());
        };
        let volume = volume.clone();
        off_thread(move || volume.remove_unfinished())
            .await?
            .map_err(Failure::Volume)
    }

    /// Removes a slot's archive, if it is this policy's.
    pub(crate) async fn remove(&self, slot: NaiveDate) -> Result<Removed, Failure> {
        match &self.medium {
            Medium::Volume { volume, .. } => {
                let stored = self.look(slot, None).await?.0;
                if let Some(stays) = stays(stored, self.place(slot).key)? {
                    return Ok(stays);
                }
                let volume = volume.of(slot);
                let removed = off_thread(move || volume.remove()).await?;
                removed.map(|()| Removed::Gone).map_err(Failure::Volume)
            }
            Medium::S3(remote) => {
                let bucket = self.bucket(remote).await?;
                let key = self.place(slot).key;
                let Some(head) = bucket.head(&key).await.map_err(Failure::Bucket)? else {
                    return Ok(Removed::Gone);
                };
                let ours = head.policy_uid.as_ref() == Some(&self.site.policy_uid);
                if !ours || head.slot.is_none_or(|said| said != slot.to_string()) {
                    return Ok(Removed::Foreign);
                }
                bucket.remove(&key).await.map_err(Failure::Bucket)?;
                Ok(Removed::Gone)
            }
        }
    }
}

/// What becomes of what lies on a volume, unless it is ours and goes. A volume that is away tells nothing of whose it is:
/// it is asked again.
fn stays(stored: Stored, key: String) -> Result<Option<Removed>, Failure> {
    match stored {
        Stored::Ours(_) => Ok(None),
        Stored::Absent => Ok(Some(Removed::Gone)),
        Stored::Foreign { .. } => Ok(Some(Removed::Foreign)),
        Stored::Unreadable { why, passing: true } => Err(Failure::Unreadable {
            key,
            why,
            fenced: false,
            passing: true,
        }),
        Stored::Damaged { why } | Stored::Unreadable { why, .. } => Ok(Some(Removed::Left { why })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Digest;

    #[test]
    fn a_volume_that_is_away_is_asked_again_and_what_is_ours_alone_goes() {
        let unreadable = |passing| Stored::Unreadable {
            why: "w".into(),
            passing,
        };
        let digest = Digest {
            sha256: "s".into(),
            bytes: 1,
        };
        let judged = |stored| stays(stored, "k".into());
        assert!(judged(unreadable(true)).is_err_and(|failure| failure.is_passing()));
        assert!(matches!(judged(Stored::Ours(digest)), Ok(None)));
        assert!(matches!(judged(Stored::Absent), Ok(Some(Removed::Gone))));
        for stored in [unreadable(false), Stored::Damaged { why: "w".into() }] {
            assert!(matches!(judged(stored), Ok(Some(Removed::Left { .. }))));
        }
        assert!(matches!(
            judged(Stored::Foreign { why: "w".into() }),
            Ok(Some(Removed::Foreign))
        ));
    }
}
