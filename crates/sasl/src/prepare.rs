//! SASLprep (RFC 4013), so that a name or a password is the same from every keyboard.

use std::borrow::Cow;

/// The prepared form of a name or a password: compatible forms are made one (NFKC), odd spaces become a space,
/// invisible characters go.
///
/// What SASLprep does not allow, such as control characters or characters newer than its Unicode 3.2, is kept as it
/// is: a password of emoji works, and is compared octet by octet.
pub fn prepare(text: &str) -> Cow<'_, str> {
    match stringprep::saslprep(text) {
        Ok(prepared) if !prepared.is_empty() => prepared,
        _ => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4013 §3, and what this crate keeps where that gives an error.
    #[test]
    fn compatible_forms_are_one() {
        assert_eq!(prepare("I\u{ad}X"), "IX");
        assert_eq!(prepare("user"), "user");
        assert_eq!(prepare("USER"), "USER");
        assert_eq!(prepare("\u{aa}"), "a");
        assert_eq!(prepare("\u{2168}"), "IX");
        assert_eq!(prepare("a\u{a0}b"), "a b");
        assert_eq!(prepare("\u{7}"), "\u{7}");
        assert_eq!(prepare("\u{1f511}"), "\u{1f511}");
        assert_eq!(prepare("\u{ad}"), "\u{ad}", "never empty");
    }
}
