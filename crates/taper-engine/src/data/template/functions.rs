//! What chat templates expect to find beside Jinja itself, as transformers provides it.

use minijinja::{
    Environment, Error, ErrorKind, State, Value,
    value::{Kwargs, Rest, ValueKind},
};

use super::{
    json::Dump,
    python,
    source::{GENERATION, PERCENT},
};

/// The variable that asks for marks around what the assistant says.
pub(super) const MARKED: &str = "_marked";
/// What the marks are; they stand in the text until it has been rendered.
pub(super) const MARKS: [char; 2] = ['\u{f0000}', '\u{f0001}'];

pub(super) fn add(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(python::method);
    environment.set_formatter(|output, state, value| match python::printed(value) {
        Some(text) => output.write_str(&text).map_err(Error::from),
        None => minijinja::escape_formatter(output, state, value),
    });
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_function(PERCENT, percent);
    environment.add_filter(GENERATION, marked);
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", string);
    environment.add_filter("trim", trim);
    environment.add_filter("indent", indent);
    environment.add_filter("int", int);
    environment.add_filter("wordcount", wordcount);
    // As Jinja2 answers, and not as the engine does.
    environment.add_test("iterable", |value: &Value| {
        !value.is_none() && value.try_iter().is_ok()
    });
    environment.add_test("sequence", |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Undefined
        )
    });
    environment.add_test("number", |value: &Value| {
        matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
    });
}

fn raise_exception(message: Value) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_string()))
}

/// The date that Llama's templates fall back to, instead of today's: a run that goes on tomorrow must make the same tokens.
fn strftime_now(format: &str) -> Result<String, Error> {
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let mut next = letters.next();
        // Without the zero in front, which none of the numbers below has but those of the time.
        let bare = next == Some('-');
        if bare {
            next = letters.next();
        }
        text.push_str(match next {
            Some('d' | 'e') => "26",
            Some('m') if bare => "7",
            Some('m') => "07",
            Some('b' | 'h') => "Jul",
            Some('B') => "July",
            Some('Y' | 'G') => "2024",
            Some('y') => "24",
            Some('a') => "Fri",
            Some('A') => "Friday",
            Some('F') => "2024-07-26",
            Some('D' | 'x') => "07/26/24",
            Some('j') => "208",
            Some('u' | 'w') => "5",
            Some('U' | 'W') => "29",
            Some('V') => "30",
            Some('H' | 'M' | 'S') if bare => "0",
            Some('H' | 'M' | 'S') => "00",
            Some('I') => "12",
            Some('p') => "AM",
            Some('f') => "000000",
            Some('T' | 'X') => "00:00:00",
            Some('R') => "00:00",
            Some('c') => "Fri Jul 26 00:00:00 2024",
            Some('z' | 'Z') => "",
            Some('n') => "\n",
            Some('t') => "\t",
            Some('%') => "%",
            other => {
                let other = other.map_or_else(String::new, String::from);
                let message = format!("strftime_now does not know '%{other}'");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        });
    }
    Ok(text)
}

/// JSON as Python's `json.dumps(…, ensure_ascii=False)` writes it; Jinja's own filter escapes what HTML cannot take.
fn tojson(
    state: &State<'_, '_>,
    value: Value,
    rest: Rest<Value>,
    options: Kwargs,
) -> Result<String, Error> {
    if !rest.is_empty() {
        let message =
            "tojson takes its options by name: ensure_ascii, indent, separators, sort_keys";
        return Err(Error::new(ErrorKind::TooManyArguments, message));
    }
    let text = Dump::of(&options)?.text(&value)?;
    state.consume_fuel(text.len() as u64 / 64)?;
    Ok(text)
}

fn string(value: Value) -> Value {
    match (value.as_str(), python::printed(&value)) {
        (Some(_), _) => value,
        (None, Some(text)) => Value::from(text),
        (None, None) => Value::from(value.to_string()),
    }
}

fn trim(value: Value, letters: Option<String>) -> String {
    let gone = |c: char| {
        letters
            .as_ref()
            .map_or(python::is_space(c), |letters| letters.contains(c))
    };
    value.to_string().trim_matches(gone).to_owned()
}

/// Lines further to the right; a line feed at the end stays, as it does in Jinja2.
fn indent(
    state: &State<'_, '_>,
    value: &str,
    given: Rest<Value>,
    options: Kwargs,
) -> Result<String, Error> {
    let option = |place: usize, name| {
        let named = options.get::<Option<Value>>(name)?;
        Ok::<_, Error>(given.get(place).cloned().or(named))
    };
    let width = option(0, "width")?.unwrap_or(Value::from(4));
    let first = option(1, "first")?.is_some_and(|value| value.is_true());
    let blank = option(2, "blank")?.is_some_and(|value| value.is_true());
    options.assert_all_used()?;
    let space = match (width.as_str(), width.as_usize()) {
        (Some(text), _) => text.to_owned(),
        (None, width) => " ".repeat(width.unwrap_or(4).min(256)),
    };
    let mut text = String::new();
    for (place, line) in value.split('\n').enumerate() {
        if place > 0 {
            text.push('\n');
        }
        let moved = if place == 0 {
            first
        } else {
            blank || !line.is_empty()
        };
        if moved {
            text.push_str(&space);
        }
        text.push_str(line);
        state.consume_fuel((space.len() + line.len()) as u64 / 64)?;
    }
    Ok(text)
}

/// A whole number, or the default where the value says none.
fn int(value: Value, default: Option<i64>) -> Value {
    let number = match (value.as_str(), f64::try_from(value.clone())) {
        (Some(text), _) => text.trim().parse::<i64>().ok().or_else(|| {
            let number: f64 = text.trim().parse().ok()?;
            Some(number as i64)
        }),
        (None, Ok(number)) => Some(number as i64),
        (None, Err(_)) => None,
    };
    Value::from(number.or(default).unwrap_or(0))
}

fn wordcount(text: &str) -> usize {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .count()
}

/// `'…' % value`, as Python formats it.
fn percent(state: &mut State<'_, '_>, text: Value, value: Value) -> Result<Value, Error> {
    let mut arguments = vec![text];
    if value.is_tuple() {
        arguments.extend(value.try_iter()?);
    } else {
        arguments.push(value);
    }
    state.apply_filter("format", &arguments)
}

/// What stands in `{% generation %}`, between marks where they are asked for.
fn marked(state: &State<'_, '_>, text: &str) -> String {
    let [open, close] = MARKS;
    if state.lookup(MARKED).is_some_and(|value| value.is_true()) {
        format!("{open}{text}{close}")
    } else {
        text.to_owned()
    }
}
