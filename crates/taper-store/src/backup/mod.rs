//! Backups of a data directory, also of one that a server is using. A backup is a data directory itself: a consistent copy of the
//! database, and of every file, checkpoint and result that this copy names, each checked while it is copied.

mod copy;
mod items;
mod run;

pub use self::run::{Copied, Extent, back_up, restore};
