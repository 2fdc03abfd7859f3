//! Schemas that generators of clients can name: what `allOf` puts together becomes one object, and every alternative of a `oneOf` an
//! object with a name of its own, told apart by its `type`. Most generators leave out what is composed within a composition.

use std::collections::BTreeMap;

use utoipa::openapi::{
    Components, Object, OneOf, OpenApi, RefOr, Schema,
    schema::{Discriminator, SchemaType, Type},
};

use super::reference;

type Schemas = BTreeMap<String, RefOr<Schema>>;

/// Names what is composed, and drops the parts that it was composed of, where nothing else names them.
pub(super) fn flatten(api: &mut OpenApi) {
    let schemas = &mut api.components.get_or_insert_with(Components::new).schemas;
    let composed: Vec<_> = schemas.iter().filter(|(_, it)| is_composed(it)).collect();
    let composed: Vec<(String, Vec<Object>)> = composed
        .into_iter()
        .filter_map(|(name, schema)| Some((name.clone(), objects(schemas, schema)?)))
        .collect();
    for (name, objects) in composed {
        let description = description(&schemas[&name]).map(str::to_owned);
        let schema = match <[Object; 1]>::try_from(objects) {
            Ok([object]) => Schema::Object(described(object, description)),
            Err(objects) => Schema::OneOf(alternatives(schemas, &name, objects, description)),
        };
        schemas.insert(name, RefOr::T(schema));
    }
    drop_unnamed(api);
}

fn is_composed(schema: &RefOr<Schema>) -> bool {
    match schema {
        RefOr::T(Schema::AllOf(_)) => true,
        RefOr::T(Schema::OneOf(one)) => one.items.iter().any(|it| matches!(it, RefOr::T(_))),
        _ => false,
    }
}

/// The objects that a schema has the choice between; `None` where not all of them are objects.
fn objects(schemas: &Schemas, schema: &RefOr<Schema>) -> Option<Vec<Object>> {
    let found = match schema {
        RefOr::Ref(reference) => {
            let name = reference.ref_location.rsplit('/').next()?;
            objects(schemas, schemas.get(name)?)?
        }
        RefOr::T(Schema::Object(object)) if !object.properties.is_empty() => vec![object.clone()],
        RefOr::T(Schema::OneOf(one)) => {
            let found = one.items.iter().map(|it| objects(schemas, it));
            found.collect::<Option<Vec<_>>>()?.concat()
        }
        RefOr::T(Schema::AllOf(all)) => {
            let nothing = Object::with_type(SchemaType::Type(Type::Object));
            let parts = all.items.iter().map(|it| objects(schemas, it));
            parts
                .collect::<Option<Vec<_>>>()?
                .into_iter()
                .fold(vec![nothing], |made, part| {
                    let with = |object: &Object| part.iter().map(|it| joined(object, it)).collect();
                    made.iter().flat_map::<Vec<_>, _>(with).collect()
                })
        }
        RefOr::T(_) => return None,
    };
    // The description of a choice is not that of its alternatives.
    match <[Object; 1]>::try_from(found) {
        Ok([object]) => Some(vec![described(
            object,
            description(schema).map(str::to_owned),
        )]),
        Err(found) => Some(found),
    }
}

fn joined(one: &Object, other: &Object) -> Object {
    let mut joined = one.clone();
    joined.properties.extend(other.properties.clone());
    let new = other
        .required
        .iter()
        .filter(|name| !one.required.contains(name));
    joined.required.extend(new.cloned());
    described(joined, other.description.clone())
}

fn description(schema: &RefOr<Schema>) -> Option<&str> {
    let description = match schema {
        RefOr::Ref(reference) => Some(reference.description.as_str()),
        RefOr::T(Schema::Object(object)) => object.description.as_deref(),
        RefOr::T(Schema::OneOf(one)) => one.description.as_deref(),
        RefOr::T(Schema::AllOf(all)) => all.description.as_deref(),
        RefOr::T(_) => None,
    };
    description.filter(|text| !text.is_empty())
}

fn described(mut object: Object, description: Option<String>) -> Object {
    object.description = description.or(object.description);
    object
}

/// Names each object after its `type`, or where it has none after its first field, and refers to them.
fn alternatives(
    schemas: &mut Schemas,
    name: &str,
    objects: Vec<Object>,
    description: Option<String>,
) -> OneOf {
    let mut one = OneOf::new();
    let (count, mut mapping) = (objects.len(), BTreeMap::new());
    for object in objects {
        let tag = tag(&object);
        let kind = tag.as_ref().or(object.required.first());
        let own = format!("{name}{}", kind.map_or_else(String::new, |it| camel(it)));
        if let Some(tag) = tag {
            mapping.insert(tag, format!("#/components/schemas/{own}"));
        }
        one.items.push(reference(&own));
        schemas.insert(own, RefOr::T(Schema::Object(object)));
    }
    one.description = description;
    if mapping.len() == count {
        one.discriminator = Some(Discriminator::with_mapping("type", mapping));
    }
    one
}

/// The one value that a `type` can have.
fn tag(object: &Object) -> Option<String> {
    let RefOr::T(Schema::Object(kind)) = object.properties.get("type")? else {
        return None;
    };
    match kind.enum_values.as_deref()? {
        [value] => value.as_str().map(str::to_owned),
        _ => None,
    }
}

fn camel(name: &str) -> String {
    let words = name.split('_').filter_map(|word| {
        let (first, rest) = word.split_at_checked(1)?;
        Some(first.to_uppercase() + rest)
    });
    words.collect()
}

fn drop_unnamed(api: &mut OpenApi) {
    loop {
        let text = serde_json::to_string(&api);
        let text = text.expect("a description made of strings and maps is always JSON");
        let Some(components) = &mut api.components else {
            return;
        };
        let before = components.schemas.len();
        let is_named = |name: &String| text.contains(&format!("\"#/components/schemas/{name}\""));
        components.schemas.retain(|name, _| is_named(name));
        if components.schemas.len() == before {
            return;
        }
    }
}
