use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, TryLockError},
    thread,
    time::Duration,
};

use crate::Result;

/// The time between two looks at what another is making.
const LOOK: Duration = Duration::from_millis(10);

/// Keeps the few values used last.
pub(crate) struct Cache<V> {
    /// The one used last first.
    entries: Mutex<VecDeque<(String, Arc<Slot<V>>)>>,
    most: usize,
}

/// The place of a value; locked while it is made.
type Slot<V> = Mutex<Option<Arc<V>>>;

impl<V> Cache<V> {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            entries: Mutex::default(),
            most,
        }
    }

    /// The value under `key`, made now if it is not here. Of several callers at once one makes it and the others wait for it.
    pub(crate) fn get_or_make(
        &self,
        key: &str,
        make: impl FnOnce() -> Result<V>,
    ) -> Result<Arc<V>> {
        self.get_or_make_while(key, || Ok(()), make)
    }

    /// The same, for a caller that waits only as long as `goes_on` lets it.
    pub(crate) fn get_or_make_while(
        &self,
        key: &str,
        goes_on: impl Fn() -> Result<()>,
        make: impl FnOnce() -> Result<V>,
    ) -> Result<Arc<V>> {
        let slot = self.slot(key);
        let mut value = loop {
            match slot.try_lock() {
                Ok(value) => break value,
                // Who broke down while it made the value has left none.
                Err(TryLockError::Poisoned(broken)) => break broken.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    goes_on()?;
                    thread::sleep(LOOK);
                }
            }
        };
        if let Some(value) = &*value {
            return Ok(value.clone());
        }
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
            cache.get_or_make("key", make).unwrap()
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
    fn who_may_not_wait_leaves_and_a_failure_is_tried_again() {
        let cache = Cache::new(1);
        let slot = cache.slot("key");
        let making = slot.lock().unwrap();
        let left = cache.get_or_make_while("key", failure, || Ok(1));
        assert!(left.is_err());
        drop(making);
        assert!(cache.get_or_make("key", failure).is_err());
        assert_eq!(*cache.get_or_make("key", || Ok(2)).unwrap(), 2);
    }

    #[test]
    fn the_values_used_last_stay() {
        let cache = Cache::new(2);
        let get = |key: &str, value| *cache.get_or_make(key, || Ok(value)).unwrap();
        get("a", 1);
        get("b", 2);
        get("a", 3);
        get("c", 4);
        assert_eq!((get("a", 5), get("b", 6)), (1, 6));
    }
}
