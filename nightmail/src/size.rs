//! Bounds on the command line: `5G`, `500M`, `1000`, or `none`.

use std::str::FromStr;

/// A bound, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bound(pub(crate) Option<u64>);

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("none") || text.eq_ignore_ascii_case("unlimited") {
            return Ok(Self(None));
        }
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (digits, unit) = text.split_at_checked(end).unwrap_or((text, ""));
        let unit = unit.trim().to_ascii_lowercase();
        let shift = match unit.trim_end_matches("ib").trim_end_matches('b') {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => return Err(expected(text)),
        };
        let number: u64 = digits.parse().map_err(|_| expected(text))?;
        number
            .checked_mul(1 << shift)
            .map(|bound| Self(Some(bound)))
            .ok_or_else(|| expected(text))
    }
}

fn expected(text: &str) -> String {
    format!("{text:?} is no bound; expected a number such as 5G, 500M or 1000, or none")
}

/// A number of bytes for people: `1.5 GiB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024_in_any_case() {
        for (text, bound) in [
            ("0", Some(0)),
            ("1000", Some(1000)),
            ("5G", Some(5 << 30)),
            ("5 gib", Some(5 << 30)),
            ("64kb", Some(64 << 10)),
            ("none", None),
        ] {
            assert_eq!(text.parse(), Ok(Bound(bound)), "{text}");
        }
    }

    #[test]
    fn what_is_no_bound_is_refused() {
        for text in ["", "G", "-1", "5X", "1.5G", "99999999999T", "5 5"] {
            assert!(text.parse::<Bound>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn bytes_are_shown_in_the_unit_that_fits() {
        assert_eq!(show_bytes(1023), "1023 B");
        assert_eq!(show_bytes(1536), "1.5 KiB");
        assert_eq!(show_bytes(5 << 40), "5.0 TiB");
    }
}
