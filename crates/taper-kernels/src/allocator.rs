//! How soon freed memory goes back to the system. It stands here since this is the crate that may call what is not Rust.

use std::{ffi::c_long, time::Duration};

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

/// `mi_option_purge_delay` of mimalloc.h (v3); the crate has no name for it.
const PURGE_DELAY: mi_option_t = 15;

/// Lets mimalloc give freed pages back after `delay`, in the whole process and unless `MIMALLOC_PURGE_DELAY` says otherwise.
#[expect(unsafe_code, reason = "a call into mimalloc")]
pub fn give_back_after(delay: Duration) {
    let milliseconds = delay.as_millis().try_into().unwrap_or(c_long::MAX);
    // SAFETY: the option exists, any value is allowed for it, and mimalloc reads and writes options without locks at any time.
    unsafe { mi_option_set_default(PURGE_DELAY, milliseconds) }
}
