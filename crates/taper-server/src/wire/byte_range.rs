use std::ops::Range;

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ByteRange {
    Whole,
    /// Bytes `start..end`, not empty.
    Part(Range<u64>),
    /// Nothing that there is.
    Unsatisfiable,
}

/// Reads a `Range` header for something of `length` bytes. Several ranges at once are answered with the whole, which is allowed and
/// simpler than a multipart answer.
pub(crate) fn parse(header: Option<&str>, length: u64) -> ByteRange {
    let Some(spec) = header.and_then(|value| value.trim().strip_prefix("bytes=")) else {
        return ByteRange::Whole;
    };
    if spec.contains(',') {
        return ByteRange::Whole;
    }
    match single(spec.trim(), length) {
        Some(range) if !range.is_empty() => ByteRange::Part(range),
        _ => ByteRange::Unsatisfiable,
    }
}

fn single(spec: &str, length: u64) -> Option<Range<u64>> {
    match spec.split_once('-')? {
        ("", suffix) => Some(length.saturating_sub(number(suffix)?)..length),
        (first, "") => Some(number(first)?..length),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            Some(first..last.saturating_add(1).min(length))
        }
    }
}

/// Digits alone; more of them than fit count as the greatest number.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let part = |start, end| ByteRange::Part(start..end);
        let many = format!("bytes={}", vec!["0-1"; 1000].join(","));
        for (header, expected) in [
            ("bytes=0-3", part(0, 4)),
            ("bytes=0-0", part(0, 1)),
            ("bytes=4-", part(4, 10)),
            ("bytes=9-9", part(9, 10)),
            ("bytes=5-99", part(5, 10)),
            ("bytes=0-18446744073709551615", part(0, 10)),
            ("bytes=0-99999999999999999999999", part(0, 10)),
            ("bytes=-3", part(7, 10)),
            ("bytes=-10", part(0, 10)),
            ("bytes=-99", part(0, 10)),
            ("bytes=-0", ByteRange::Unsatisfiable),
            ("bytes=10-", ByteRange::Unsatisfiable),
            ("bytes=10-12", ByteRange::Unsatisfiable),
            ("bytes=5-2", ByteRange::Unsatisfiable),
            ("bytes=", ByteRange::Unsatisfiable),
            ("bytes=-", ByteRange::Unsatisfiable),
            ("bytes=a-b", ByteRange::Unsatisfiable),
            ("bytes=+1-2", ByteRange::Unsatisfiable),
            ("bytes=0-1,3-4", ByteRange::Whole),
            (&many, ByteRange::Whole),
            ("lines=1-2", ByteRange::Whole),
            ("", ByteRange::Whole),
        ] {
            assert_eq!(parse(Some(header), 10), expected, "{header}");
        }
        assert_eq!(parse(None, 10), ByteRange::Whole);
        assert_eq!(parse(Some("bytes=0-"), 0), ByteRange::Unsatisfiable);
        assert_eq!(parse(Some("bytes=-1"), 0), ByteRange::Unsatisfiable);
    }
}
