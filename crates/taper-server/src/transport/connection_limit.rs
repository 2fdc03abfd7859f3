//! How many connections there may be: in all, and of one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::peer;
use crate::Traffic;

/// Counts connections.
pub(crate) struct Turnstile {
    room: Arc<Semaphore>,
    each: Option<NonZeroUsize>,
    on_loopback: bool,
    /// Connections of each address that has some.
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// The right to one connection, given back when dropped.
pub(crate) struct Pass {
    turnstile: Arc<Turnstile>,
    /// `None` = the address is not counted.
    address: Option<IpAddr>,
    _room: OwnedSemaphorePermit,
}

impl Turnstile {
    pub(crate) fn new(traffic: &Traffic) -> Arc<Self> {
        Arc::new(Self {
            room: Arc::new(Semaphore::new(
                traffic.connections.get().min(Semaphore::MAX_PERMITS),
            )),
            each: traffic.connections_per_address,
            on_loopback: traffic.on_loopback,
            open: Mutex::default(),
        })
    }

    /// Waits until there may be one more connection.
    pub(crate) async fn room(&self) -> OwnedSemaphorePermit {
        let room = Arc::clone(&self.room).acquire_owned().await;
        room.expect("the semaphore is never closed")
    }

    /// Lets a connection in; `None` when its address has as many as it may have.
    pub(crate) fn enter(self: &Arc<Self>, ip: IpAddr, room: OwnedSemaphorePermit) -> Option<Pass> {
        let counted = self.on_loopback || !ip.is_loopback();
        let most = self.each.filter(|_| counted);
        let address = most.map(|_| peer::network(ip));
        if let (Some(most), Some(address)) = (most, address) {
            let mut open = self.open();
            let count = open.entry(address).or_default();
            if *count >= most.get() {
                return None;
            }
            *count += 1;
        }
        Some(Pass {
            turnstile: Arc::clone(self),
            address,
            _room: room,
        })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut open = self.turnstile.open();
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
        let turnstile = Turnstile::new(&traffic);
        let enter = async |ip: &str| {
            let room = turnstile.room().await;
            turnstile.enter(ip.parse().unwrap(), room)
        };
        let first = enter("192.0.2.1").await;
        let second = enter("192.0.2.1").await;
        assert!(first.is_some() && second.is_some());
        assert!(enter("192.0.2.1").await.is_none());
        assert!(enter("::ffff:192.0.2.1").await.is_none());
        assert!(enter("192.0.2.2").await.is_some());
        drop(first);
        assert!(enter("192.0.2.1").await.is_some());
        drop(second);
        assert!(turnstile.open().is_empty());
        let here = [
            enter("127.0.0.1").await,
            enter("::1").await,
            enter("::1").await,
        ];
        assert!(here.iter().all(Option::is_some));
    }

    #[tokio::test]
    async fn all_together_have_their_number_of_connections() {
        let traffic = Traffic {
            connections: NonZeroUsize::MIN,
            ..Traffic::default()
        };
        let turnstile = Turnstile::new(&traffic);
        let only = turnstile.room().await;
        let pass = turnstile.enter([127, 0, 0, 1].into(), only);
        assert_eq!(turnstile.room.available_permits(), 0);
        drop(pass);
        assert_eq!(turnstile.room.available_permits(), 1);
    }
}
