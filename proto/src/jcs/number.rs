//! Numbers as ECMAScript writes them (RFC 8785, section 3.2.2.3).

/// Digits that every double holds exactly: 10^15 < 2^53.
const EXACT_DIGITS: usize = 15;

/// Appends the canonical form; `None` when it would mean another number than `raw`, which is a JSON number.
pub(super) fn write(out: &mut Vec<u8>, raw: &str) -> Option<()> {
    if is_small_integer(raw) {
        out.extend_from_slice(raw.as_bytes());
        return Some(());
    }
    let value: f64 = raw.parse().ok().filter(|value: &f64| value.is_finite())?;
    // The shortest decimal that reads as this double, as `d.ddde-7`.
    let shortest = format!("{value:e}");
    let (meant, written) = (Decimal::read(raw)?, Decimal::read(&shortest)?);
    if meant != written || (meant.digits.is_empty() && meant.negative) {
        return None;
    }
    written.write(out);
    Some(())
}

/// What is its own canonical form: most numbers in arguments.
fn is_small_integer(raw: &str) -> bool {
    let digits = raw.strip_prefix('-').unwrap_or(raw).as_bytes();
    digits.len() <= EXACT_DIGITS && digits.iter().all(u8::is_ascii_digit) && raw != "-0"
}

/// `0.d1d2d3… * 10^point`, without zeros at either end; zero has no digits.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    point: i64,
}

impl Decimal {
    /// Reads a JSON number. `None` when its exponent is beyond anything that a double has.
    fn read(raw: &str) -> Option<Self> {
        let (negative, rest) = raw.strip_prefix('-').map_or((false, raw), |rest| (true, rest));
        let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
        let exponent: i32 = exponent.parse().ok()?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let leading = all.iter().take_while(|digit| **digit == b'0').count();
        let trailing = all[leading..].iter().rev().take_while(|digit| **digit == b'0').count();
        let digits = all[leading..all.len() - trailing].to_vec();
        let length = |count: usize| i64::try_from(count).ok();
        let point = length(whole.len())? - length(leading)? + i64::from(exponent);
        Some(Self { negative, point: if digits.is_empty() { 0 } else { point }, digits })
    }

    /// ECMA-262, Number::toString with radix 10; its `n` is `point`, its `k` the number of digits.
    fn write(&self, out: &mut Vec<u8>) {
        if self.digits.is_empty() {
            out.push(b'0');
            return;
        }
        if self.negative {
            out.push(b'-');
        }
        let zeros = |out: &mut Vec<u8>, count: usize| out.resize(out.len() + count, b'0');
        let count = self.digits.len();
        match usize::try_from(self.point) {
            Ok(point @ 1..=21) if count <= point => {
                out.extend_from_slice(&self.digits);
                zeros(out, point - count);
            }
            Ok(point @ 1..=21) => {
                out.extend_from_slice(&self.digits[..point]);
                out.push(b'.');
                out.extend_from_slice(&self.digits[point..]);
            }
            _ if (-5..=0).contains(&self.point) => {
                out.extend_from_slice(b"0.");
                zeros(out, usize::try_from(-self.point).unwrap_or(0));
                out.extend_from_slice(&self.digits);
            }
            _ => {
                out.push(self.digits[0]);
                if count > 1 {
                    out.push(b'.');
                    out.extend_from_slice(&self.digits[1..]);
                }
                out.extend_from_slice(format!("e{:+}", self.point - 1).as_bytes());
            }
        }
    }
}
