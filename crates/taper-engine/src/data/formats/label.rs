//! The rule by which a label is read, the same in all formats: README's chapter on data states it.

use serde_json::Value;

use super::shown;

/// Whole numbers up to here are exact as floats.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The class that a label names: its text without blanks around it; a whole number however it is written, but for leading zeros; true
/// and false in small letters.
///
/// # Errors
/// What is no word and no whole number.
pub(super) fn read(value: &Value) -> Result<String, String> {
    let refuse = |value: &Value| {
        let shown = shown(value);
        Err(format!(
            "'label' must be a string or an integer, not {shown}"
        ))
    };
    let text = match value {
        Value::Null => return Err("'label' is null".to_owned()),
        Value::Bool(yes) => return Ok(yes.to_string()),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => return refuse(value),
    };
    let text = text.trim();
    if text.is_empty() {
        return Err("'label' is empty".to_owned());
    }
    if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") {
        return Ok(text.to_ascii_lowercase());
    }
    match number(text) {
        None => Ok(text.to_owned()),
        Some(Some(whole)) => Ok(whole),
        Some(None) => refuse(value),
    }
}

/// What a text that is a number says: `Some(None)` where it is not whole.
fn number(text: &str) -> Option<Option<String>> {
    let (sign, rest) = match text.as_bytes()[0] {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (rest, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (mantissa, ""),
    };
    let plain = digits(whole)
        && (fraction.is_empty() || digits(fraction))
        && exponent.is_none_or(|e| digits(e.strip_prefix(['-', '+']).unwrap_or(e)));
    // A code such as 007 is a name.
    if !plain || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    let sign = if whole == "0" { "" } else { sign };
    if exponent.is_none() {
        let even = fraction.bytes().all(|b| b == b'0');
        return Some(even.then(|| format!("{sign}{whole}")));
    }
    let number: f64 = text.parse().ok()?;
    let exact = number.fract() == 0.0 && number.abs() < EXACT;
    Some(exact.then(|| format!("{}", number as i64)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_rule_holds_for_every_way_to_write_a_label() {
        for (name, ways) in [
            (
                "1",
                vec![
                    json!(1),
                    json!(1.0),
                    json!("1"),
                    json!("1.0"),
                    json!("+1"),
                    json!(" 1 "),
                    json!("1e0"),
                ],
            ),
            ("0", vec![json!(0), json!(-0.0), json!("-0"), json!("0.00")]),
            ("-3", vec![json!(-3), json!("-3.0")]),
            (
                "true",
                vec![json!(true), json!("True"), json!("TRUE"), json!("true ")],
            ),
            ("01", vec![json!("01")]),
            ("NA", vec![json!("NA")]),
            ("1.2.3", vec![json!("1.2.3")]),
            ("-", vec![json!("-")]),
            ("18446744073709551615", vec![json!(u64::MAX)]),
        ] {
            for way in ways {
                assert_eq!(read(&way).as_deref(), Ok(name), "{way}");
            }
        }
        for (label, told) in [
            (json!(null), "'label' is null"),
            (json!(" "), "'label' is empty"),
            (
                json!(1.5),
                "'label' must be a string or an integer, not the number 1.5",
            ),
            (
                json!("1.5"),
                "'label' must be a string or an integer, not \"1.5\"",
            ),
            (json!(1e300), "'label' must be"),
            (
                json!([1]),
                "'label' must be a string or an integer, not a list",
            ),
        ] {
            let problem = read(&label).unwrap_err();
            assert!(problem.starts_with(told), "{problem}");
        }
    }
}
