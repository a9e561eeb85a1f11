//! Flags as clients name them (RFC 3501 §2.3.2): system flags as bits, keywords as text.

use std::fmt;
use std::sync::Arc;

use nightmail_core::Flags;

use crate::parse::is_atom_char;

/// A keyword: a flag that is an atom. Shared, so that a row of a fetch costs no copy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Keyword(Arc<str>);

impl Keyword {
    /// A keyword, unless the text is no atom.
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty() && text.bytes().all(is_atom_char)).then(|| Self(text.into()))
    }

    /// The text in the case in which it was first written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Keyword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The names of flags and keywords, in this order.
pub(crate) fn named(flags: Flags, keywords: &[Keyword]) -> impl Iterator<Item = &str> {
    let system = flags.names().map(|name| -> &str { name });
    system.chain(keywords.iter().map(Keyword::as_str))
}

/// The flags and keywords that a command names. No keyword comes twice, whatever its case.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlagList {
    /// System flags.
    pub flags: Flags,
    /// Keywords in the order written.
    pub keywords: Vec<Keyword>,
}

impl FlagList {
    /// All names, system flags first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        named(self.flags, &self.keywords)
    }

    pub(crate) fn add_keyword(&mut self, keyword: Keyword) {
        let known = self
            .keywords
            .iter()
            .any(|other| other.as_str().eq_ignore_ascii_case(keyword.as_str()));
        if !known {
            self.keywords.push(keyword);
        }
    }
}

/// In parentheses, as FLAGS writes them.
impl fmt::Display for FlagList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (index, name) in self.names().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(name)?;
        }
        f.write_str(")")
    }
}
