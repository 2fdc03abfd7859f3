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

impl<T> List<T> {
    /// Makes a page of elements that have ids.
    pub(crate) fn page(data: Vec<T>, has_more: bool, id: impl Fn(&T) -> &str) -> Self {
        let (first_id, last_id) = (
            data.first().map(|item| id(item).to_owned()),
            data.last().map(|item| id(item).to_owned()),
        );
        Self {
            object: "list",
            data,
            has_more,
            first_id,
            last_id,
        }
    }

    /// Makes a list that is always given as a whole.
    pub(crate) fn whole(data: Vec<T>) -> Self {
        Self {
            object: "list",
            data,
            has_more: false,
            first_id: None,
            last_id: None,
        }
    }
}
