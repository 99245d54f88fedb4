//! Kubernetes' quantities: numbers with a unit, as in `1.5Gi` or `100m`.
//!
//! Read by hand: the crates for it bring a parser of their own and decimal arithmetic for what are
//! twenty lines here.

/// The units besides an exponent, and what one of each is.
const UNITS: [(&str, f64); 16] = [
    ("", 1.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("Ki", KIBI),
    ("Mi", KIBI * KIBI),
    ("Gi", KIBI * KIBI * KIBI),
    ("Ti", KIBI * KIBI * KIBI * KIBI),
    ("Pi", KIBI * KIBI * KIBI * KIBI * KIBI),
    ("Ei", KIBI * KIBI * KIBI * KIBI * KIBI * KIBI),
];
const KIBI: f64 = 1024.0;

/// Whether the text is a quantity as k8s.io/apimachinery/pkg/api/resource parses it.
pub fn is_quantity(text: &str) -> bool {
    number(text).is_some()
}

/// The quantity in whole units, rounded up; 0 for one below 0. `None` if the text is none.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` clamps a float")]
pub fn whole(text: &str) -> Option<u64> {
    number(text).map(|number| number.ceil() as u64)
}

/// Bytes for people and for Kubernetes: in the largest unit that leaves no more than a thousandth
/// out, rounded up.
pub fn bytes(number: u64) -> String {
    for (unit, power) in [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)] {
        let one = 1_u64 << power;
        let left_out = (one - number % one) % one;
        if number >= one && left_out <= number / 1000 {
            return format!("{}{unit}", number.div_ceil(one));
        }
    }
    number.to_string()
}

/// The quantity in its base unit, as precisely as a float is. `None` if the text is none.
pub fn number(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, unit) = unsigned.split_at(end);
    let number: f64 = number.parse().ok()?;
    let factor = match UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => *factor,
        None => exponent(unit)?,
    };
    Some(if text.starts_with('-') { -number * factor } else { number * factor })
}

fn exponent(unit: &str) -> Option<f64> {
    let exponent = unit.strip_prefix(['e', 'E'])?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    exponent.parse().ok().filter(|_| is_number).map(|exponent| 10_f64.powi(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_whole_numbers_of_their_unit_rounded_up() {
        for (text, number) in [
            ("1", 1),
            ("0.5", 1),
            ("100m", 1),
            ("1Gi", 1 << 30),
            ("1.5Gi", 3 << 29),
            ("1e3", 1000),
            ("1E", 1_000_000_000_000_000_000),
            ("-1", 0),
            ("+.5k", 500),
            ("9e99", u64::MAX),
        ] {
            assert_eq!(whole(text), Some(number), "{text}");
        }
        for text in ["", "1 Gi", "Gi", "1gi", "1.2.3", "--1", "1e", "1e+-3", "inf", "NaN", "."] {
            assert_eq!(whole(text), None, "{text}");
        }
    }

    #[test]
    fn bytes_are_shown_in_a_unit_that_fits() {
        for (number, text) in [
            (0, "0"),
            (1000, "1000"),
            (1 << 20, "1Mi"),
            (3 << 29, "1536Mi"),
            (8 << 30, "8Gi"),
            ((8 << 30) - 1, "8Gi"),
            (1_234_567_890, "1178Mi"),
        ] {
            assert_eq!(bytes(number), text);
            assert!(whole(&bytes(number)).unwrap() >= number, "never less than there is");
        }
    }
}
