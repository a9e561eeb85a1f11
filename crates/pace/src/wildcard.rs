//! Text with `*` for anything.

use std::fmt;

/// Text in which `*` stands for any text, also none; the whole must fit, without regard to the case of ASCII letters.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Wildcard(Box<str>);

impl Wildcard {
    /// Every text is one.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` fits. Takes time of at most the product of both lengths.
    pub fn fits(&self, text: &str) -> bool {
        let (mut pattern, mut rest) = (self.0.as_bytes(), text.as_bytes());
        // Behind the last star: what is left of the pattern, and where the text went on then.
        let mut retry: Option<(&[u8], &[u8])> = None;
        loop {
            match (pattern.split_first(), rest.split_first()) {
                (Some((b'*', after)), _) => {
                    pattern = after;
                    retry = Some((after, rest));
                }
                (None, None) => return true,
                (Some((want, after)), Some((have, left))) if want.eq_ignore_ascii_case(have) => {
                    (pattern, rest) = (after, left);
                }
                _ => {
                    let Some((after, from)) = retry else {
                        return false;
                    };
                    let Some((_, from)) = from.split_first() else {
                        return false;
                    };
                    (pattern, rest) = (after, from);
                    retry = Some((after, from));
                }
            }
        }
    }
}

impl fmt::Display for Wildcard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_is_any_text_and_the_rest_must_stand_there() {
        for (pattern, text, expected) in [
            ("*too many*", "421 Too MANY connections", true),
            ("*too many", "too many connections", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXcXb", false),
            ("", "", true),
            ("", "x", false),
            ("**", "", true),
            ("4.7.*", "4.7.28", true),
        ] {
            assert_eq!(
                Wildcard::new(pattern).fits(text),
                expected,
                "{pattern} {text}"
            );
        }
    }

    /// The definition, word by word.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', after)) => (0..=text.len()).any(|at| slow(after, &text[at..])),
            Some((want, after)) => text
                .split_first()
                .is_some_and(|(have, rest)| want.eq_ignore_ascii_case(have) && slow(after, rest)),
        }
    }

    proptest! {
        #[test]
        fn it_fits_what_the_definition_says(pattern in "[abA*]{0,8}", text in "[abB]{0,10}") {
            let expected = slow(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(Wildcard::new(&pattern).fits(&text), expected);
        }
    }
}
