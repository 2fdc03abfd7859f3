use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    thread,
    time::Duration,
};

use taper_core::Control;

use crate::Result;

/// The time between two looks at what another is making.
const LOOK: Duration = Duration::from_millis(10);

/// Keeps the few values used last.
pub(crate) struct Cache<V> {
    /// The one used last first.
    entries: Mutex<VecDeque<(String, Arc<Slot<V>>)>>,
    most: usize,
}

/// The place of a value.
struct Slot<V> {
    /// Locked while it is made.
    value: Mutex<Option<Arc<V>>>,
    /// The line to who makes it, or has made it.
    maker: Mutex<Control>,
}

impl<V> Default for Slot<V> {
    fn default() -> Self {
        Self {
            value: Mutex::default(),
            maker: Mutex::default(),
        }
    }
}

impl<V> Slot<V> {
    fn maker(&self) -> MutexGuard<'_, Control> {
        self.maker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody makes the value. Who waits is as alive as who makes it: one that hangs must not look alive because others wait.
    ///
    /// # Errors
    /// A request to stop.
    fn wait(&self, control: &Control) -> Result<MutexGuard<'_, Option<Arc<V>>>> {
        let mut heartbeats = 0;
        loop {
            match self.value.try_lock() {
                Ok(value) => return Ok(value),
                // Who broke down while it made the value has left none.
                Err(TryLockError::Poisoned(broken)) => return Ok(broken.into_inner()),
                Err(TryLockError::WouldBlock) => control.peek()?,
            }
            let seen = self.maker().heartbeats();
            if seen != heartbeats {
                heartbeats = seen;
                control.heartbeat();
            }
            thread::sleep(LOOK);
        }
    }
}

impl<V> Cache<V> {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            entries: Mutex::default(),
            most,
        }
    }

    /// The value under `key`, made now if it is not here. Of several callers at once one makes it and the others wait for it, unless
    /// they are told to stop.
    pub(crate) fn get_or_make(
        &self,
        key: &str,
        control: &Control,
        make: impl FnOnce() -> Result<V>,
    ) -> Result<Arc<V>> {
        let slot = self.slot(key);
        let mut value = slot.wait(control)?;
        if let Some(value) = &*value {
            return Ok(value.clone());
        }
        slot.maker().clone_from(control);
        let made = Arc::new(make()?);
        *value = Some(made.clone());
        Ok(made)
    }

    fn slot(&self, key: &str) -> Arc<Slot<V>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let found = entries.iter().position(|(k, _)| k == key);
        let entry = found.and_then(|place| entries.remove(place));
        let entry = entry.unwrap_or_else(|| (key.to_owned(), Arc::default()));
        let slot = entry.1.clone();
        entries.push_front(entry);
        entries.truncate(self.most);
        slot
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        atomic::{AtomicU32, Ordering},
    };

    use taper_core::RequestedAction;

    use super::*;
    use crate::Error;

    fn failure<T>() -> Result<T> {
        Err(Error::model("no"))
    }

    #[test]
    fn of_several_at_once_one_makes_the_value() {
        let (cache, made, start) = (Cache::new(1), AtomicU32::new(0), Barrier::new(4));
        let get = || {
            start.wait();
            let make = || {
                made.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(50));
                Ok(7)
            };
            cache.get_or_make("key", &Control::new(), make).unwrap()
        };
        let got = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(get)).collect();
            let joined = threads.into_iter().map(|thread| thread.join().unwrap());
            joined.collect::<Vec<_>>()
        });
        assert_eq!(made.load(Ordering::Relaxed), 1);
        assert!(got.iter().all(|value| Arc::ptr_eq(value, &got[0])));
    }

    #[test]
    fn who_waits_lives_with_the_maker_and_leaves_when_told() {
        let (cache, maker, waiter) = (Cache::new(1), Control::new(), Control::new());
        let make = || {
            maker.heartbeat();
            let left = thread::scope(|scope| {
                let waiting = scope.spawn(|| cache.get_or_make("key", &waiter, || Ok(1)));
                while waiter.heartbeats() == 0 {
                    thread::yield_now();
                }
                waiter.request(RequestedAction::Cancel);
                waiting.join().unwrap()
            });
            assert!(matches!(left, Err(Error::Stopped(_))));
            Ok(2)
        };
        assert_eq!(*cache.get_or_make("key", &maker, make).unwrap(), 2);
        assert_eq!(waiter.heartbeats(), 1);
    }

    #[test]
    fn a_failure_is_tried_again() {
        let (cache, control) = (Cache::new(1), Control::new());
        assert!(cache.get_or_make("key", &control, failure).is_err());
        assert_eq!(*cache.get_or_make("key", &control, || Ok(2)).unwrap(), 2);
    }

    #[test]
    fn the_values_used_last_stay() {
        let cache = Cache::new(2);
        let control = Control::new();
        let get = |key: &str, value| *cache.get_or_make(key, &control, || Ok(value)).unwrap();
        get("a", 1);
        get("b", 2);
        get("a", 3);
        get("c", 4);
        assert_eq!((get("a", 5), get("b", 6)), (1, 6));
    }
}
