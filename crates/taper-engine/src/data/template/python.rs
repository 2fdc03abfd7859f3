//! Methods of Python's strings that templates call, and how Python prints numbers.

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Kwargs, ValueKind, from_args},
};
use minijinja_contrib::pycompat;

/// A number as `repr` of a float writes it: the shortest digits that mean it, with an exponent from 1e16 on and below 1e-4.
pub(crate) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let size = number.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(rest) => ('-', rest),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let text = number.to_string();
    if text.contains('.') {
        text
    } else {
        format!("{text}.0")
    }
}

/// A value as `str` prints it where that differs from the engine's own way.
pub(super) fn printed(value: &Value) -> Option<String> {
    (value.kind() == ValueKind::Number && !value.is_integer())
        .then(|| f64::try_from(value.clone()).ok().map(float))
        .flatten()
}

/// White space as Python's `str.strip` and `str.split` have it.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// What templates call on values that the engine has no method for.
pub(super) fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str()
        && let Some(result) = text_method(text, name, arguments)?
    {
        state.consume_fuel(text.len() as u64 / 64)?;
        return Ok(result);
    }
    pycompat::unknown_method_callback(state, value, name, arguments).map_err(|error| {
        if error.kind() == ErrorKind::UnknownMethod {
            let message = format!("{} has no method '{name}' here", value.kind());
            return Error::new(ErrorKind::UnknownMethod, message);
        }
        error
    })
}

fn text_method(text: &str, name: &str, arguments: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match name {
        "strip" | "lstrip" | "rstrip" => {
            let (letters,): (Option<String>,) = from_args(arguments)?;
            let gone = |c: char| letters.as_ref().map_or(is_space(c), |l| l.contains(c));
            Value::from(match name {
                "strip" => text.trim_matches(gone),
                "lstrip" => text.trim_start_matches(gone),
                _ => text.trim_end_matches(gone),
            })
        }
        "partition" | "rpartition" => {
            let (mark,): (&str,) = from_args(arguments)?;
            let parts = match name {
                "partition" => text.split_once(mark),
                _ => text.rsplit_once(mark),
            };
            let parts = match parts {
                Some((before, after)) => [before, mark, after],
                None if name == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Value::from(minijinja::value::Tuple::from(parts.map(Value::from)))
        }
        "split" | "rsplit" => split(text, name, arguments)?,
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "isspace" => Value::from(!text.is_empty() && text.chars().all(is_space)),
        "zfill" | "ljust" | "rjust" => {
            let (width, fill): (usize, Option<String>) = from_args(arguments)?;
            padded(text, name, width.min(4096), fill)
        }
        "index" => {
            let (part,): (&str,) = from_args(arguments)?;
            let place = text
                .find(part)
                .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "substring not found"))?;
            Value::from(text[..place].chars().count())
        }
        _ => return Ok(None),
    }))
}

fn split(text: &str, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (rest, options): (&[Value], Kwargs) = from_args(arguments)?;
    let given = |place: usize, name: &str| -> Result<Option<Value>, Error> {
        let named: Option<Value> = options.get(name)?;
        Ok(rest
            .get(place)
            .cloned()
            .or(named)
            .filter(|value| !value.is_none()))
    };
    let mark = given(0, "sep")?;
    let most = match given(1, "maxsplit")?.map(i64::try_from).transpose()? {
        Some(most) if most >= 0 => usize::try_from(most).unwrap_or(usize::MAX),
        _ => usize::MAX,
    }
    .saturating_add(1);
    options.assert_all_used()?;
    let Some(mark) = mark else {
        return Ok(Value::from_iter(words(text, most, name == "rsplit")));
    };
    let mark = mark.as_str().filter(|mark| !mark.is_empty());
    let mark = mark.ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidOperation,
            "split takes a text to split at",
        )
    })?;
    Ok(if name == "split" {
        Value::from_iter(text.splitn(most, mark).map(Value::from))
    } else {
        let mut parts: Vec<&str> = text.rsplitn(most, mark).collect();
        parts.reverse();
        Value::from_iter(parts.into_iter().map(Value::from))
    })
}

/// The words of a text; of the last allowed one on it stays as it is.
fn words(text: &str, most: usize, from_the_end: bool) -> Vec<Value> {
    let mut rest = text.trim_matches(is_space);
    let mut words = Vec::new();
    while !rest.is_empty() {
        if words.len() + 1 >= most {
            words.push(rest);
            break;
        }
        let parts = if from_the_end {
            rest.rsplit_once(is_space).map(|(rest, word)| (word, rest))
        } else {
            rest.split_once(is_space)
        };
        let (word, next) = parts.unwrap_or((rest, ""));
        words.push(word);
        rest = next.trim_matches(is_space);
    }
    if from_the_end {
        words.reverse();
    }
    words.into_iter().map(Value::from).collect()
}

fn padded(text: &str, name: &str, width: usize, fill: Option<String>) -> Value {
    let missing = width.saturating_sub(text.chars().count());
    let fill = match (name, fill) {
        ("zfill", _) => "0".to_owned(),
        (_, fill) => fill.unwrap_or_else(|| " ".to_owned()),
    };
    let padding = fill.repeat(missing);
    Value::from(match name {
        "ljust" => format!("{text}{padding}"),
        "zfill" if text.starts_with(['-', '+']) => {
            format!("{}{padding}{}", &text[..1], &text[1..])
        }
        _ => format!("{padding}{text}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `repr` gives them in CPython.
    #[test]
    fn numbers_are_written_as_in_python() {
        for (number, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.2345e120, "1.2345e+120"),
            (1e-300, "1e-300"),
        ] {
            assert_eq!(float(number), text);
        }
    }
}
