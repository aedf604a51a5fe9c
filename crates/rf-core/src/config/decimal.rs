//! Decimal numbers times a unit, without the rounding of floats.

/// More digits behind the point than this do not matter to any unit.
const MAX_FRACTION_DIGITS: usize = 18;

/// Splits `1.5h30m` into `1.5` and `h30m`.
pub(super) fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

/// `number` (digits with at most one point, at least one digit) times `unit`, rounded down.
pub(super) fn times(number: &str, unit: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole = digits(whole)?.checked_mul(unit.into())?;
    let (scale, fraction) = match fraction.char_indices().nth(MAX_FRACTION_DIGITS) {
        Some((cut, _)) => {
            (10_u128.pow(u32::try_from(MAX_FRACTION_DIGITS).ok()?), fraction.split_at(cut).0)
        }
        None => (10_u128.pow(u32::try_from(fraction.len()).ok()?), fraction),
    };
    whole.checked_add(digits(fraction)?.checked_mul(unit.into())? / scale)
}

fn digits(text: &str) -> Option<u128> {
    text.chars().try_fold(0_u128, |value, c| {
        let digit = c.to_digit(10)?;
        value.checked_mul(10)?.checked_add(digit.into())
    })
}

#[cfg(test)]
mod tests {
    use super::{split_number, times};

    #[test]
    fn multiplies_exactly() {
        for (number, unit, expected) in [
            ("0", 7, Some(0)),
            ("12", 1024, Some(12_288)),
            ("4.25", 1_048_576, Some(4_456_448)),
            (".5", 60, Some(30)),
            ("5.", 60, Some(300)),
            ("0.1", 10, Some(1)),
            ("0.19", 10, Some(1)),
            ("0.33333333333333333333333333333", 3_000, Some(999)),
            (".", 1, None),
            ("", 1, None),
            ("1.2.3", 1, None),
            ("٣", 1, None),
            ("999999999999999999999999999999999999999999", 1, None),
        ] {
            assert_eq!(times(number, unit), expected, "{number} x {unit}");
        }
    }

    #[test]
    fn splits() {
        assert_eq!(split_number("1.5h30m"), ("1.5", "h30m"));
        assert_eq!(split_number("10"), ("10", ""));
        assert_eq!(split_number("µs"), ("", "µs"));
    }
}
