use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use crate::Result;

/// Keeps the few values made last.
pub(crate) struct Cache<V> {
    entries: Mutex<VecDeque<(String, Arc<V>)>>,
    most: usize,
}

impl<V> Cache<V> {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            entries: Mutex::default(),
            most,
        }
    }

    /// The value under `key`, made now if it is not here. Two callers at once may both make it.
    pub(crate) fn get_or_make(
        &self,
        key: &str,
        make: impl FnOnce() -> Result<V>,
    ) -> Result<Arc<V>> {
        let found = self
            .lock()
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.clone());
        if let Some(value) = found {
            return Ok(value);
        }
        let value = Arc::new(make()?);
        let mut entries = self.lock();
        entries.push_front((key.to_owned(), value.clone()));
        entries.truncate(self.most);
        Ok(value)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(String, Arc<V>)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
