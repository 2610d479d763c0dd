//! Partition: the service itself neither calls a peer nor hears it. Pure.

use super::{Delivery, Kind};
use crate::runtime::Violation;
use valerix_crds::PartitionDirection;
use valerix_policy::Fault;

pub(super) static KIND: Kind = Kind {
    name: "Partition",
    delivery: Delivery::Obeyed,
    takes_pods_away: true,
    counts_hits: true,
    ends_the_process: false,
    hurts_the_process: false,
    read: |spec| spec.partition.as_ref().map(read),
};

fn read(partition: &valerix_crds::PartitionFault) -> Result<Fault, Violation> {
    let direction = match partition.direction {
        PartitionDirection::Ingress => valerix_policy::PartitionDirection::Ingress,
        PartitionDirection::Egress => valerix_policy::PartitionDirection::Egress,
        PartitionDirection::Both => valerix_policy::PartitionDirection::Both,
        PartitionDirection::Unknown => {
            return Err(Violation::new(
                "spec.partition.direction",
                "is not known to this operator",
                "write Ingress, Egress or Both",
            ));
        }
    };
    Ok(Fault {
        partition: Some(valerix_policy::PartitionFault {
            direction,
            peer: partition.peer.clone(),
        }),
        ..Fault::default()
    })
}
