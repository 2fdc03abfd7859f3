use serde::Serialize;
use utoipa::ToSchema;

/// A page of a list. The next page is the same query with `after` set to `last_id`.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// Always `list`.
    pub object: &'static str,
    pub data: Vec<T>,
    /// Tells whether there are more elements after this page.
    pub has_more: bool,
    /// Id of the first element of this page.
    pub first_id: Option<String>,
    /// Id of the last element of this page.
    pub last_id: Option<String>,
}
