/// A part of a list; the next one begins after its last element.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    pub data: Vec<T>,
    /// Tells that the list goes on.
    pub has_more: bool,
}

impl<T> Page<T> {
    /// Makes a page of `limit` elements out of the `limit + 1` that were asked for.
    pub(crate) fn cut(mut data: Vec<T>, limit: u32) -> Self {
        let has_more = data.len() > limit as usize;
        data.truncate(limit as usize);
        Self { data, has_more }
    }
}

/// The direction of a list in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Oldest first.
    Asc,
    /// Newest first.
    #[default]
    Desc,
}
