//! Whether anybody writes what the lights go by: the Lease that an operator leads under, as it was seen. Pure.
//!
//! A time in a Lease is of another's clock. So what counts is for how long it has stayed the same by our own, as it does
//! for the operator's processes among themselves.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use schemars::JsonSchema;
use serde::Serialize;

/// A leader renews every five seconds, tries again two seconds after a renewal that failed, and stops by itself when it could
/// not for ten. A Lease that has stood still for so long since it was looked at, at most a second after it was written, missed
/// its renewal less than five seconds ago and did not get it afterwards.
const STILL: Duration = Duration::from_millis(8_500);

/// Where the operator's Lease is: `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::str::FromStr for LeaseName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let named = parts.filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains('/'));
        let (namespace, name) = named.ok_or_else(|| {
            format!("{text:?} must be a namespace and a name, such as valerix-system/valerix-operator")
        })?;
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// Nobody writes status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Silence {
    /// Since when, at the least.
    pub since: DateTime<Utc>,
    /// A sentence on how that is known.
    pub reason: String,
}

/// Who leads, and when the Lease said so.
type Said = Option<(String, Option<MicroTime>)>;

/// The Lease, as it was seen so far.
#[derive(Debug, Default)]
pub struct Leader {
    seen: Option<(Said, Instant, DateTime<Utc>)>,
}

impl Leader {
    /// Sees the Lease, or that there is none, and says whether nobody leads.
    pub fn see(&mut self, lease: Option<&Lease>, (now, at): (Instant, DateTime<Utc>)) -> Option<Silence> {
        let said: Said = lease.map(|lease| {
            let spec = lease.spec.clone().unwrap_or_default();
            (spec.holder_identity.unwrap_or_default(), spec.renew_time)
        });
        let (known, first, since) = self.seen.get_or_insert_with(|| (said.clone(), now, at));
        if *known != said {
            (*known, *first, *since) = (said, now, at);
        }
        let reason = match known {
            None => "the operator has no Lease: it has never led here, or somebody has deleted it",
            Some((holder, _)) if holder.is_empty() => {
                "the operator has given its Lease back, and no process has taken it"
            }
            Some(_) if now.duration_since(*first) >= STILL => "the operator does not renew its Lease any more",
            Some(_) => return None,
        };
        Some(Silence {
            since: *since,
            reason: reason.to_owned(),
        })
    }

    /// How long the Lease may stand still from `now` on before it says that nobody leads; none where it says so already.
    pub fn patience(&self, now: Instant) -> Option<Duration> {
        let (_, first, _) = self.seen.as_ref()?;
        STILL
            .checked_sub(now.duration_since(*first))
            .filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;

    use super::*;

    fn lease(holder: &str, renewed: i64) -> Lease {
        let renewed = k8s_openapi::jiff::Timestamp::from_second(renewed).unwrap();
        Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                renew_time: Some(MicroTime(renewed)),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    #[test]
    fn nobody_leads_where_the_lease_is_gone_free_or_stands_still() {
        let (begin, at) = (Instant::now(), Utc::now());
        let after = |seconds: u64| (begin + Duration::from_secs(seconds), at + Duration::from_secs(seconds));
        let mut leader = Leader::default();
        let mut silent =
            |seconds, lease: Option<&Lease>| leader.see(lease, after(seconds)).map(|silence| silence.since - at);
        let since = |seconds| Some(chrono::Duration::seconds(seconds));
        // The clock of the one who renews is an hour behind: its times are only compared.
        assert_eq!(silent(0, Some(&lease("one", 1_000))), None, "it may yet be renewed");
        assert_eq!(silent(5, Some(&lease("one", 1_005))), None);
        assert_eq!(
            silent(13, Some(&lease("one", 1_005))),
            None,
            "one renewal failed, and the next may not"
        );
        assert_eq!(silent(14, Some(&lease("one", 1_005))), since(5));
        assert_eq!(
            silent(20, Some(&lease("one", 1_005))),
            since(5),
            "it stays the same moment"
        );
        assert_eq!(silent(21, Some(&lease("two", 1_021))), None, "another leads");
        assert_eq!(silent(22, Some(&lease("", 1_022))), since(22), "given back");
        assert_eq!(silent(24, None), since(24), "deleted");
        assert_eq!(silent(25, Some(&lease("two", 1_025))), None);
    }

    #[test]
    fn a_lease_is_named_with_its_namespace() {
        let name = LeaseName {
            namespace: "valerix-system".to_owned(),
            name: "valerix-operator".to_owned(),
        };
        assert_eq!("valerix-system/valerix-operator".parse(), Ok(name));
        for wrong in ["", "valerix-operator", "/a", "a/", "a/b/c"] {
            assert!(wrong.parse::<LeaseName>().is_err(), "{wrong:?}");
        }
    }
}
