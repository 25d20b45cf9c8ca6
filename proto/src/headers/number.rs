//! Compares two JSON numbers by value, of any length, without floating point.

/// A number as `0.digits * 10^exponent`, without zeros at either end of its digits. Zero has no digits.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

/// Whether both are JSON numbers of the same value.
pub(super) fn equal(left: &str, right: &str) -> bool {
    match (parse(left), parse(right)) {
        (Some(left), Some(right)) => left == right,
        _ => false,
    }
}

/// `None` for what is no JSON number, and for an exponent that does not fit 64 bits.
fn parse(text: &str) -> Option<Decimal> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) if is_digits(fraction) => (whole, fraction),
        Some(_) => return None,
        None => (mantissa, ""),
    };
    if !is_digits(whole) || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }

    let all = [whole.as_bytes(), fraction.as_bytes()].concat();
    let leading_zeros = all.iter().take_while(|&&digit| digit == b'0').count();
    let digits = trim_zeros_end(&all[leading_zeros..]).to_vec();
    if digits.is_empty() {
        return Some(Decimal { negative: false, digits, exponent: 0 });
    }
    let point = i64::try_from(whole.len()).ok()?.checked_sub(i64::try_from(leading_zeros).ok()?)?;
    Some(Decimal { negative, digits, exponent: exponent.checked_add(point)? })
}

fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !is_digits(digits) {
        return None;
    }
    text.parse().ok()
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn trim_zeros_end(digits: &[u8]) -> &[u8] {
    let length = digits.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
    &digits[..length]
}

#[cfg(test)]
mod tests {
    use super::equal;

    #[test]
    fn numbers_are_compared_by_value() {
        let same = [("0", "-0.00e9"), ("10", "1e1"), ("10", "1E+1"), ("0.5", "5e-1"), ("100", "100.000"), ("0.010", "1e-2")];
        let different = [("1", "2"), ("1", "-1"), ("1", "10"), ("0.1", "0.01"), ("1", "1.0000000000000000000000001")];
        let no_numbers = ["", "-", "01", ".5", "5.", "1e", "1e+", "+1", "0x1", "1_0", "NaN", "1e99999999999999999999", " 1"];

        assert!(same.iter().all(|(left, right)| equal(left, right)));
        assert!(different.iter().all(|(left, right)| !equal(left, right)));
        assert!(no_numbers.iter().all(|text| !equal(text, text)), "{no_numbers:?}");
    }
}
