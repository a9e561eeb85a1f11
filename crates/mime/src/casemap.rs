//! Comparing text without regard to case and presentation: the collation `i;unicode-casemap` (RFC 5051).
//!
//! A character becomes its capital where that is one character, and is then taken apart into its compatibility
//! decomposition; equality, substrings and order are those of the octets of what comes out.

use std::borrow::Cow;

use unicode_normalization::char::decompose_compatible;

/// The form of a text in which equal texts have equal octets.
pub fn fold(text: &str) -> Cow<'_, str> {
    if text
        .bytes()
        .all(|b| b.is_ascii() && !b.is_ascii_lowercase())
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .bytes()
            .position(|b| !b.is_ascii())
            .unwrap_or(rest.len());
        let (ascii, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let start = out.len();
        out.push_str(ascii);
        if let Some(pushed) = out.get_mut(start..) {
            pushed.make_ascii_uppercase();
        }
        let mut others = after.chars();
        rest = after;
        while let Some(c) = others.next().filter(|c| !c.is_ascii()) {
            push_folded(c, &mut out);
            rest = others.as_str();
        }
    }
    Cow::Owned(out)
}

fn push_folded(c: char, out: &mut String) {
    decompose_compatible(capital(c), |part| {
        // Some signs decompose into small letters although they have no capital of their own.
        let part = capital(part);
        match part.is_ascii() {
            true => out.push(part),
            false => decompose_compatible(part, |part| out.push(part)),
        }
    });
}

/// The capital, where it is one character.
fn capital(c: char) -> char {
    let mut capitals = c.to_uppercase();
    match (capitals.next(), capitals.next()) {
        (Some(capital), None) => capital,
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn case_and_composition_make_no_difference() {
        for (left, right) in [
            ("Hello", "hELLO"),
            ("Köln", "KO\u{308}LN"),
            ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
            ("Привет", "ПРИВЕТ"),
            ("ｆｕｌｌ", "FULL"),
            ("\u{fb01}n", "FIN"),
            ("\u{1c4}", "\u{1c6}"),
        ] {
            assert_eq!(fold(left), fold(right), "{left} {right}");
        }
        assert_ne!(fold("Grüße"), fold("GRÜSSE"));
        assert_eq!(fold("A b-1"), "A B-1");
        assert!(matches!(fold("SAME 1"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn what_is_folded_stays(text: String) {
            let once = fold(&text).into_owned();
            prop_assert_eq!(fold(&once), once.as_str());
        }

        #[test]
        fn folding_keeps_the_order_of_parts(left: String, right: String) {
            let whole = format!("{left}{right}");
            prop_assert_eq!(fold(&whole), format!("{}{}", fold(&left), fold(&right)));
        }
    }
}
