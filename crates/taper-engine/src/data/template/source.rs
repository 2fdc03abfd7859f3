//! What a template's source says in Python's own way, written so that the engine reads it.

/// The filter that marks what stands in `{% generation %}`, and the function that formats as Python's `%` does.
pub(super) const GENERATION: &str = "_generation";
pub(super) const PERCENT: &str = "_percent";

/// Turns `{% generation %}` … `{% endgeneration %}`, by which templates mark the assistant's part for transformers, into a block that
/// notes where it stands, and `'…' % value` into a call.
pub(super) fn translated(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = opening(rest) {
        let (before, tag) = rest.split_at(start);
        text.push_str(before);
        let end = end_of(tag);
        let (tag, after) = tag.split_at(end);
        match &tag[..2] {
            "{#" => text.push_str(tag),
            "{%" => text.push_str(&with_percent(&block(tag))),
            _ => text.push_str(&with_percent(tag)),
        }
        rest = after;
        if is_raw(tag) {
            let end = rest.find("endraw").unwrap_or(rest.len());
            text.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    text.push_str(rest);
    text
}

/// Whether something is added to a text that was called safe; Jinja2 escapes it then.
pub(super) fn escapes(source: &str) -> bool {
    source.match_indices("safe").any(|(place, word)| {
        let behind = source[place + word.len()..].trim_start();
        source[..place].trim_end().ends_with('|') && behind.starts_with(['+', '~'])
    })
}

fn opening(text: &str) -> Option<usize> {
    ["{%", "{{", "{#"].iter().filter_map(|o| text.find(o)).min()
}

/// Where a tag ends, its closing mark included; strings in it may hold such a mark.
fn end_of(tag: &str) -> usize {
    let close = match &tag[..2] {
        "{#" => return tag.find("#}").map_or(tag.len(), |place| place + 2),
        "{%" => "%}",
        _ => "}}",
    };
    let mut place = 2;
    let mut depth = 0_usize;
    while place < tag.len() {
        let rest = &tag[place..];
        // A dictionary that ends the expression closes before the tag does.
        if rest.starts_with(close) && (depth == 0 || close == "%}") {
            return place + 2;
        }
        match rest.as_bytes()[0] {
            b'\'' | b'"' => place += string(rest),
            b'{' => {
                depth += 1;
                place += 1;
            }
            b'}' => {
                depth = depth.saturating_sub(1);
                place += 1;
            }
            _ => place += char_at(rest),
        }
    }
    tag.len()
}

fn char_at(text: &str) -> usize {
    text.chars().next().map_or(1, char::len_utf8)
}

/// Bytes of the string that `text` begins with, quotes included.
fn string(text: &str) -> usize {
    let quote = text.as_bytes()[0];
    let mut bytes = text.bytes().enumerate().skip(1);
    while let Some((place, byte)) = bytes.next() {
        if byte == b'\\' {
            bytes.next();
        } else if byte == quote {
            return place + 1;
        }
    }
    text.len()
}

fn inner(tag: &str) -> &str {
    tag[2..]
        .trim_end_matches("%}")
        .trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+')
}

fn is_raw(tag: &str) -> bool {
    tag.starts_with("{%") && inner(tag) == "raw"
}

fn block(tag: &str) -> String {
    match inner(tag) {
        "generation" => tag.replacen("generation", &format!("filter {GENERATION}"), 1),
        "endgeneration" => tag.replacen("endgeneration", "endfilter", 1),
        _ => tag.to_owned(),
    }
}

/// `'…' % operand` as `_percent('…', operand)`: only where a literal stands on the left is it known before it is run that texts are meant.
fn with_percent(tag: &str) -> String {
    let mut text = String::with_capacity(tag.len());
    let mut place = 0;
    // The tag's own marks are no operators.
    let end = tag.len().saturating_sub(2);
    while place < end {
        let rest = &tag[place..end];
        if !matches!(rest.as_bytes()[0], b'\'' | b'"') {
            let width = char_at(rest);
            text.push_str(&rest[..width]);
            place += width;
            continue;
        }
        let width = string(rest);
        let literal = &rest[..width];
        place += width;
        let behind = &tag[place..end];
        let space = behind.len() - behind.trim_start().len();
        match behind[space..].strip_prefix('%') {
            Some(operand) => {
                let width = self::operand(operand);
                let inner = with_percent(&format!("{{{{{}}}}}", &operand[..width]));
                text.push_str(&format!(
                    "{PERCENT}({literal}, {})",
                    inner[2..inner.len() - 2].trim()
                ));
                place += space + 1 + width;
            }
            None => text.push_str(literal),
        }
    }
    text.push_str(&tag[place.min(tag.len())..]);
    text
}

/// Bytes of the operand that `text` begins with: a name, number, literal or bracket, with what is called, looked up or filtered of it.
fn operand(text: &str) -> usize {
    let mut place = text.len() - text.trim_start().len();
    let mut filtered = true;
    while place < text.len() {
        let rest = &text[place..];
        let byte = rest.as_bytes()[0];
        if byte == b'-' && filtered {
            place += 1;
        } else if matches!(byte, b'\'' | b'"') {
            place += string(rest);
        } else if matches!(byte, b'(' | b'[' | b'{') {
            place += bracket(rest);
        } else if is_word(rest) || byte == b'.' {
            place += char_at(rest);
        } else {
            let next = rest.trim_start();
            let Some(filter) = next.strip_prefix('|') else {
                break;
            };
            place += rest.len() - filter.len();
            place += filter.len() - filter.trim_start().len();
        }
        filtered = false;
    }
    place
}

fn is_word(text: &str) -> bool {
    text.chars()
        .next()
        .is_some_and(|c| c.is_alphanumeric() || c == '_')
}

fn bracket(text: &str) -> usize {
    let (mut place, mut depth) = (0, 0);
    while place < text.len() {
        let rest = &text[place..];
        match rest.as_bytes()[0] {
            b'\'' | b'"' => {
                place += string(rest);
                continue;
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        place += char_at(rest);
        if depth == 0 {
            break;
        }
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_python_writes_otherwise_is_changed() {
        for same in [
            "plain {{ a % b }} text %",
            "{% if loop.index0 % 2 == 0 %}'a' % b{% endif %}",
            "{# '%s' % x #}{{ {'a': {'b': 1}} }}",
            "{% raw %}{% generation %}{% endraw %}",
            "{{ 'a }} b' }} {{ \"it's\" }}",
        ] {
            assert_eq!(translated(same), same);
        }
        for (python, ours) in [
            ("{{ '%s' % x }}", "{{ _percent('%s', x) }}"),
            (
                "{{- '%d %s' % (a, b.c['%']) ~ 'd' -}}",
                "{{- _percent('%d %s', (a, b.c['%'])) ~ 'd' -}}",
            ),
            (
                "{% set x = '%s' % y.z | trim %}",
                "{% set x = _percent('%s', y.z | trim) %}",
            ),
            (
                "{%- generation -%}a{%- endgeneration %}",
                "{%- filter _generation -%}a{%- endfilter %}",
            ),
        ] {
            assert_eq!(translated(python), ours);
        }
    }
}
