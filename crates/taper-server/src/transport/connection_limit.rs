//! How many connections there may be: in all, and of one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::peer;
use crate::config::Traffic;

/// Counts connections.
pub(crate) struct ConnectionLimit {
    slots: Arc<Semaphore>,
    per_address: Option<NonZeroUsize>,
    on_loopback: bool,
    /// Connections of each address that has some.
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// The right to one connection, given back when dropped.
pub(crate) struct ConnectionPermit {
    limit: Arc<ConnectionLimit>,
    /// `None` = the address is not counted.
    address: Option<IpAddr>,
    _slot: OwnedSemaphorePermit,
}

impl ConnectionLimit {
    pub(crate) fn new(traffic: &Traffic) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(
                traffic.connections.get().min(Semaphore::MAX_PERMITS),
            )),
            per_address: traffic.connections_per_address,
            on_loopback: traffic.on_loopback,
            open: Mutex::default(),
        })
    }

    /// Waits until there may be one more connection.
    pub(crate) async fn slot(&self) -> OwnedSemaphorePermit {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        slot.expect("the semaphore is never closed")
    }

    /// Lets a connection in; `None` when its address has as many as it may have.
    pub(crate) fn admit(
        self: &Arc<Self>,
        ip: IpAddr,
        slot: OwnedSemaphorePermit,
    ) -> Option<ConnectionPermit> {
        let counted = self.on_loopback || !ip.is_loopback();
        let most = self.per_address.filter(|_| counted);
        let address = most.map(|_| peer::network(ip));
        if let (Some(most), Some(address)) = (most, address) {
            let mut open = self.open();
            let count = open.entry(address).or_default();
            if *count >= most.get() {
                return None;
            }
            *count += 1;
        }
        Some(ConnectionPermit {
            limit: Arc::clone(self),
            address,
            _slot: slot,
        })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut open = self.limit.open();
        if let Some(count) = open.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_has_its_number_of_connections() {
        let traffic = Traffic {
            connections_per_address: NonZeroUsize::new(2),
            ..Traffic::default()
        };
        let limit = ConnectionLimit::new(&traffic);
        let admit = async |ip: &str| {
            let slot = limit.slot().await;
            limit.admit(ip.parse().unwrap(), slot)
        };
        let first = admit("192.0.2.1").await;
        let second = admit("192.0.2.1").await;
        assert!(first.is_some() && second.is_some());
        assert!(admit("192.0.2.1").await.is_none());
        assert!(admit("::ffff:192.0.2.1").await.is_none());
        assert!(admit("192.0.2.2").await.is_some());
        drop(first);
        assert!(admit("192.0.2.1").await.is_some());
        drop(second);
        assert!(limit.open().is_empty());
        let here = [
            admit("127.0.0.1").await,
            admit("::1").await,
            admit("::1").await,
        ];
        assert!(here.iter().all(Option::is_some));
    }

    #[tokio::test]
    async fn all_together_have_their_number_of_connections() {
        let traffic = Traffic {
            connections: NonZeroUsize::MIN,
            ..Traffic::default()
        };
        let limit = ConnectionLimit::new(&traffic);
        let only = limit.slot().await;
        let permit = limit.admit([127, 0, 0, 1].into(), only);
        assert_eq!(limit.slots.available_permits(), 0);
        drop(permit);
        assert_eq!(limit.slots.available_permits(), 1);
    }
}
