//! Settings: each is declared once, in [`settings!`], with its type, default, range and sentence. The parser of requests, the
//! schemas of the API, the data that a client makes its form of, and README's tables all come from that declaration.

use std::{
    collections::BTreeMap,
    ops::{Bound, RangeBounds, RangeInclusive},
};

use serde::Serialize;
use serde_json::{Number, Value};
use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};

use crate::fields::Fields;

/// Module names, or patterns of names, in one setting.
pub(crate) const MOST_NAMES: usize = 1000;
/// Bytes of one of them.
pub(crate) const LONGEST_NAME: usize = 200;

/// A setting of a tuning method or of training.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Setting {
    pub name: &'static str,
    #[serde(rename = "type")]
    pub kind: SettingKind,
    /// What holds where the setting is absent; null where that depends on the model, the data or the method.
    pub default: Value,
    /// The smallest value that is allowed.
    #[schema(value_type = Option<f64>)]
    pub minimum: Option<Number>,
    /// The largest value that is allowed.
    #[schema(value_type = Option<f64>)]
    pub maximum: Option<Number>,
    /// Values must be greater than this.
    pub exclusive_minimum: Option<f64>,
    /// Values must be less than this.
    pub exclusive_maximum: Option<f64>,
    /// All values that are allowed, where they can be listed.
    pub values: Option<Vec<&'static str>>,
    /// What it does, in one sentence.
    pub description: String,
    /// Whether most people who tune look at it; the others are for special cases.
    pub common: bool,
    /// Whether it changes what trained weights mean, so that a run that begins with them must have the same value.
    #[serde(skip)]
    pub shapes_weights: bool,
}

/// The JSON type of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettingKind {
    Integer,
    Number,
    Boolean,
    String,
    Array,
    Object,
}

/// A group of settings, each with its value.
pub(crate) trait Settings {
    /// The name of the group in the API's schemas.
    fn schema_name(&self) -> &'static str;

    /// The settings, in the order of their declaration.
    fn settings(&self) -> Vec<Setting>;

    /// Takes over the values that an object has; what is wrong with them is noted in `fields`.
    fn read(&mut self, fields: &mut Fields<'_>);

    /// Adds the group's schema, and those that it names.
    fn add_schemas(&self, schemas: &mut Vec<(String, RefOr<Schema>)>);
}

/// A type of settings: how a value is read, and what its range is called.
pub(crate) trait SettingType: Sized + Serialize {
    /// What narrows the type down for one setting.
    type Range;

    /// The value of a field, if it has one in the range; what is wrong with it is noted.
    fn read(fields: &mut Fields<'_>, name: &'static str, range: &Self::Range) -> Option<Self>;

    /// The range, for those who write values.
    fn limits(range: &Self::Range) -> Limits;
}

/// What values a setting takes, as [`Setting`] tells it.
pub(crate) struct Limits {
    kind: SettingKind,
    low: Bound<Number>,
    high: Bound<Number>,
    values: Option<Vec<&'static str>>,
}

impl Limits {
    pub(crate) fn of(kind: SettingKind) -> Self {
        let (low, high, values) = (Bound::Unbounded, Bound::Unbounded, None);
        Self {
            kind,
            low,
            high,
            values,
        }
    }

    pub(crate) fn words<'a>(words: impl Iterator<Item = &'a &'static str>) -> Self {
        Self {
            values: Some(words.copied().collect()),
            ..Self::of(SettingKind::String)
        }
    }
}

impl Setting {
    /// A setting with its default and range; the caller says the rest.
    pub(crate) fn of<T: SettingType>(
        name: &'static str,
        default: &T,
        range: &T::Range,
        doc: &[&str],
    ) -> Self {
        let limits = T::limits(range);
        let inclusive = |bound: &Bound<Number>| match bound {
            Bound::Included(limit) => Some(limit.clone()),
            Bound::Excluded(_) | Bound::Unbounded => None,
        };
        let exclusive = |bound: &Bound<Number>| match bound {
            Bound::Excluded(limit) => limit.as_f64(),
            Bound::Included(_) | Bound::Unbounded => None,
        };
        let lines: Vec<&str> = doc.iter().map(|line| line.trim()).collect();
        Self {
            name,
            kind: limits.kind,
            default: serde_json::to_value(default).unwrap_or_default(),
            minimum: inclusive(&limits.low),
            maximum: inclusive(&limits.high),
            exclusive_minimum: exclusive(&limits.low),
            exclusive_maximum: exclusive(&limits.high),
            values: limits.values,
            description: lines.join(" "),
            common: false,
            shapes_weights: false,
        }
    }
}

/// Declares a group of settings: a struct, its defaults, and [`Settings`].
///
/// A setting is `name: type = default, range, common|advanced;`, and `, shapes_weights` after that where it changes what trained
/// weights mean. What stands above it as its comment is the sentence that users read.
macro_rules! settings {
    ($(#[$outer:meta])* pub struct $name:ident {
        $($(#[doc = $doc:tt])+ $field:ident: $type:ty = $default:expr, $range:expr, $level:ident $(, $mark:ident)?;)*
    }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        #[serde(default)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::settings::Settings for $name {
            fn schema_name(&self) -> &'static str {
                stringify!($name)
            }

            fn settings(&self) -> Vec<$crate::settings::Setting> {
                vec![$($crate::settings::Setting {
                    common: $crate::settings::settings!(@ $level),
                    $($mark: true,)?
                    ..$crate::settings::Setting::of::<$type>(
                        stringify!($field), &$default, &$range, &[$($doc),+],
                    )
                },)*]
            }

            #[allow(unused_variables)]
            fn read(&mut self, fields: &mut $crate::fields::Fields<'_>) {
                $(
                    let read = <$type as $crate::settings::SettingType>::read(fields, stringify!($field), &$range);
                    if let Some(value) = read {
                        self.$field = value;
                    }
                )*
            }

            fn add_schemas(
                &self,
                schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>,
            ) {
                if !self.settings().is_empty() {
                    let own = <Self as utoipa::PartialSchema>::schema();
                    schemas.push((self.schema_name().to_owned(), own));
                    <Self as utoipa::ToSchema>::schemas(schemas);
                }
            }
        }
    };
    (@ common) => { true };
    (@ advanced) => { false };
}

pub(crate) use settings;

impl<T: SettingType> SettingType for Option<T> {
    type Range = T::Range;

    fn read(fields: &mut Fields<'_>, name: &'static str, range: &Self::Range) -> Option<Self> {
        T::read(fields, name, range).map(Some)
    }

    fn limits(range: &Self::Range) -> Limits {
        T::limits(range)
    }
}

impl SettingType for bool {
    type Range = ();

    fn read(fields: &mut Fields<'_>, name: &'static str, (): &()) -> Option<Self> {
        fields.boolean(name)
    }

    fn limits((): &()) -> Limits {
        Limits::of(SettingKind::Boolean)
    }
}

fn whole_limits(range: &RangeInclusive<i64>) -> Limits {
    Limits {
        low: Bound::Included((*range.start()).into()),
        high: Bound::Included((*range.end()).into()),
        ..Limits::of(SettingKind::Integer)
    }
}

impl SettingType for u64 {
    type Range = RangeInclusive<i64>;

    fn read(fields: &mut Fields<'_>, name: &'static str, range: &Self::Range) -> Option<Self> {
        fields.integer(name, range.clone()).map(|n| n as Self)
    }

    fn limits(range: &Self::Range) -> Limits {
        whole_limits(range)
    }
}

impl SettingType for usize {
    type Range = RangeInclusive<i64>;

    fn read(fields: &mut Fields<'_>, name: &'static str, range: &Self::Range) -> Option<Self> {
        fields.integer(name, range.clone()).map(|n| n as Self)
    }

    fn limits(range: &Self::Range) -> Limits {
        whole_limits(range)
    }
}

/// The range of a count that -1 turns off.
pub(crate) struct OrOff(pub(crate) i64);

impl SettingType for i64 {
    type Range = OrOff;

    fn read(fields: &mut Fields<'_>, name: &'static str, most: &OrOff) -> Option<Self> {
        let n = fields.integer(name, -1..=most.0)?;
        if n == 0 {
            fields.reject(name, "must be -1 (off) or at least 1, not 0");
        }
        Some(n)
    }

    fn limits(most: &OrOff) -> Limits {
        whole_limits(&(-1..=most.0))
    }
}

/// A range of numbers.
pub(crate) struct Numbers {
    /// The range in words, as they follow "a number".
    words: &'static str,
    low: Bound<f64>,
    high: Bound<f64>,
    /// Whether training has the number in f32, so that it must be in the range when it is rounded to that, too.
    in_f32: bool,
}

impl Numbers {
    pub(crate) const fn new(words: &'static str, low: Bound<f64>, high: Bound<f64>) -> Self {
        Self {
            words,
            low,
            high,
            in_f32: false,
        }
    }

    pub(crate) const fn in_f32(self) -> Self {
        Self {
            in_f32: true,
            ..self
        }
    }

    pub(crate) fn holds(&self, x: f64) -> bool {
        let range = (self.low, self.high);
        range.contains(&x) && (!self.in_f32 || range.contains(&f64::from(x as f32)))
    }
}

impl SettingType for f64 {
    type Range = Numbers;

    fn read(fields: &mut Fields<'_>, name: &'static str, range: &Numbers) -> Option<Self> {
        fields.number(name, range.words, |x| range.holds(x))
    }

    fn limits(range: &Numbers) -> Limits {
        let bound = |bound: Bound<f64>| match bound.map(Number::from_f64) {
            Bound::Included(Some(limit)) => Bound::Included(limit),
            Bound::Excluded(Some(limit)) => Bound::Excluded(limit),
            Bound::Included(None) | Bound::Excluded(None) | Bound::Unbounded => Bound::Unbounded,
        };
        Limits {
            low: bound(range.low),
            high: bound(range.high),
            ..Limits::of(SettingKind::Number)
        }
    }
}

/// Which texts a setting takes.
pub(crate) enum Text {
    Any,
    /// One of these words; the second of a pair is what the first one means.
    OneOf(&'static [(&'static str, &'static str)]),
}

impl SettingType for String {
    type Range = Text;

    fn read(fields: &mut Fields<'_>, name: &'static str, range: &Text) -> Option<Self> {
        match range {
            Text::Any => fields.string(name).map(str::to_owned),
            Text::OneOf(words) => fields.choice(name, words).map(str::to_owned),
        }
    }

    fn limits(range: &Text) -> Limits {
        match range {
            Text::Any => Limits::of(SettingKind::String),
            Text::OneOf(words) => {
                // Other spellings of a word need not be offered.
                let own = words.iter().filter(|(word, meaning)| word == meaning);
                Limits::words(own.map(|(word, _)| word))
            }
        }
    }
}

/// What the keys and values of an object of numbers are, in words and by a rule for the values.
pub(crate) struct Pairs {
    pub(crate) keys: &'static str,
    /// What follows the length of a key.
    pub(crate) of: &'static str,
    pub(crate) values: &'static str,
    pub(crate) holds: fn(f64) -> bool,
}

impl SettingType for BTreeMap<String, f64> {
    type Range = Pairs;

    fn read(fields: &mut Fields<'_>, name: &'static str, range: &Pairs) -> Option<Self> {
        let object = fields.object(name)?;
        let pair = |(key, value): (&String, &Value)| {
            let value = value.as_f64().filter(|x| (range.holds)(*x))?;
            (key.len() <= LONGEST_NAME).then(|| (key.clone(), value))
        };
        let pairs: Self = object.iter().filter_map(pair).collect();
        if pairs.len() < object.len() || pairs.len() > MOST_NAMES {
            let Pairs {
                keys, of, values, ..
            } = range;
            fields.reject(
                name,
                format_args!(
                    "takes at most {MOST_NAMES} pairs of {keys} of at most {LONGEST_NAME} bytes{of} and {values}"
                ),
            );
        }
        Some(pairs)
    }

    fn limits(_: &Pairs) -> Limits {
        Limits::of(SettingKind::Object)
    }
}

impl SettingType for BTreeMap<String, usize> {
    type Range = Pairs;

    fn read(fields: &mut Fields<'_>, name: &'static str, range: &Pairs) -> Option<Self> {
        let pairs = <BTreeMap<String, f64> as SettingType>::read(fields, name, range)?;
        let whole = pairs.into_iter().map(|(key, n)| (key, n as usize));
        Some(whole.collect())
    }

    fn limits(_: &Pairs) -> Limits {
        Limits::of(SettingKind::Object)
    }
}
