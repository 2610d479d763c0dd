//! Where a server listens.

use std::net::{Ipv4Addr, SocketAddr};

/// Every address of both families, or of IPv4 alone on a node that has no IPv6.
pub async fn bind(address: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    match tokio::net::TcpListener::bind(address).await {
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::DEFAULT_LISTEN_ADDRESS;

    #[tokio::test]
    async fn both_families_are_served_where_both_are_there() {
        let mut address: SocketAddr = DEFAULT_LISTEN_ADDRESS.parse().unwrap();
        assert!(address.is_ipv6() && address.ip().is_unspecified());
        address.set_port(0);
        let port = bind(address).await.unwrap().local_addr().unwrap().port();
        assert_ne!(port, 0);
    }
}
