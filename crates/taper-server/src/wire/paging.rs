//! One way to ask for a part of a list, whatever is listed.

use taper_store::Page;
use utoipa::{
    IntoParams,
    openapi::{
        KnownFormat, ObjectBuilder, Required, SchemaFormat, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};

use super::{
    List,
    query::{FromPairs, Pairs},
};

/// The most elements that a page may have.
const MAX_LIMIT: u32 = 10_000;

/// The query of a list: which elements, and which part of them; `LIMIT` elements a page unless told.
pub(crate) struct Paged<const LIMIT: u32, F = ()> {
    pub(crate) filter: F,
    /// Id of the last element of the page before.
    pub(crate) after: Option<String>,
    pub(crate) limit: u32,
}

impl<const LIMIT: u32, F: FromPairs> FromPairs for Paged<LIMIT, F> {
    fn read(pairs: &mut Pairs) -> Self {
        Self {
            filter: F::read(pairs),
            after: pairs.text("after"),
            limit: pairs
                .integer("limit", 1..=u64::from(MAX_LIMIT))
                .map_or(LIMIT, |limit| limit as u32),
        }
    }
}

/// A list that has no filter.
impl FromPairs for () {
    fn read(_: &mut Pairs) -> Self {}
}

/// How `after` and `limit` stand in the description of the API; a filter describes itself.
impl<const LIMIT: u32> IntoParams for Paged<LIMIT> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let query = |name: &str, description: String, schema: ObjectBuilder| {
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .description(Some(description))
                .schema(Some(schema))
                .build()
        };
        let after = "Id of the last element of the page before.".to_owned();
        let limit = format!("Most elements of the page; {LIMIT} unless told.");
        let number = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)))
            .minimum(Some(1))
            .maximum(Some(MAX_LIMIT));
        vec![
            query(
                "after",
                after,
                ObjectBuilder::new().schema_type(Type::String),
            ),
            query("limit", limit, number),
        ]
    }
}

impl<T> List<T> {
    /// Makes a page of what the store has found; `id` is what the next page's `after` names.
    pub(crate) fn page<R>(
        page: Page<R>,
        object: impl FnMut(R) -> T,
        id: impl Fn(&T) -> &str,
    ) -> Self {
        let data: Vec<T> = page.data.into_iter().map(object).collect();
        Self {
            object: "list",
            has_more: page.has_more,
            first_id: data.first().map(|element| id(element).to_owned()),
            last_id: data.last().map(|element| id(element).to_owned()),
            data,
        }
    }

    /// Makes a list that is always given as a whole.
    pub(crate) fn whole<R>(data: Vec<R>) -> Self
    where
        T: From<R>,
    {
        Self {
            object: "list",
            data: data.into_iter().map(T::from).collect(),
            has_more: false,
            first_id: None,
            last_id: None,
        }
    }
}
