//! A port of a container. Pure.

use k8s_openapi::api::core::v1::ContainerPort;

pub fn build_port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        // Written out, because server-side apply tells ports apart by port and protocol.
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}
