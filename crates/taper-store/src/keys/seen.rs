use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, atomic::AtomicBool},
};

use crate::ground::now;

/// How exactly the last use of a key is known; each note of it is a commit.
const USE_SECONDS: i64 = 60;

/// What this process has seen of the keys.
#[derive(Debug, Default)]
pub(crate) struct SeenKeys {
    /// There are some. It stays true, since no row ever goes.
    pub(super) any: AtomicBool,
    /// When their last uses were noted.
    uses: Mutex<HashMap<String, i64>>,
}

impl SeenKeys {
    /// Tells whether a use of a key is to be noted, and takes it for noted.
    pub(super) fn is_news(&self, key: &str) -> bool {
        let mut noted = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now();
        let last = noted.get(key);
        if last.is_some_and(|last| now - last < USE_SECONDS) {
            return false;
        }
        noted.insert(key.to_owned(), now);
        true
    }
}
