//! What an account may do with a mailbox (RFC 4314 §2.1).

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use thiserror::Error;

/// Why text names no rights.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("{0:?} is no right of a mailbox")]
pub struct UnknownRight(pub char);

/// A set of rights.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rights(u16);

impl Rights {
    /// No right.
    pub const NONE: Self = Self(0);
    /// `l`: the mailbox is seen.
    pub const LOOKUP: Self = Self(1);
    /// `r`: it may be opened and read.
    pub const READ: Self = Self(1 << 1);
    /// `s`: `\Seen` may be changed.
    pub const SEEN: Self = Self(1 << 2);
    /// `w`: other flags and keywords may be changed.
    pub const WRITE: Self = Self(1 << 3);
    /// `i`: messages may be put into it.
    pub const INSERT: Self = Self(1 << 4);
    /// `p`: mail may be sent to it.
    pub const POST: Self = Self(1 << 5);
    /// `k`: mailboxes may be made below it.
    pub const CREATE: Self = Self(1 << 6);
    /// `x`: it may be deleted or renamed.
    pub const DELETE_MAILBOX: Self = Self(1 << 7);
    /// `t`: `\Deleted` may be changed.
    pub const DELETE: Self = Self(1 << 8);
    /// `e`: messages may be expunged.
    pub const EXPUNGE: Self = Self(1 << 9);
    /// `a`: these rights may be given and taken.
    pub const ADMINISTER: Self = Self(1 << 10);
    /// `s`, `w`, `t` and `e`: those that change what is in a mailbox that is open.
    pub const CHANGES: Self = Self(Self::SEEN.0 | Self::WRITE.0 | Self::DELETE.0 | Self::EXPUNGE.0);
    /// `r`, `s`, `w`, `i` and `p`: with any of them one may annotate a mailbox (RFC 5464 §3.3).
    pub const ANNOTATES: Self =
        Self(Self::READ.0 | Self::SEEN.0 | Self::WRITE.0 | Self::INSERT.0 | Self::POST.0);
    /// Every right: what an owner has.
    pub const ALL: Self = Self((1 << 11) - 1);

    /// The rights and their letters, in the order in which they are written.
    const LETTERS: [(Self, char); 11] = [
        (Self::LOOKUP, 'l'),
        (Self::READ, 'r'),
        (Self::SEEN, 's'),
        (Self::WRITE, 'w'),
        (Self::INSERT, 'i'),
        (Self::POST, 'p'),
        (Self::CREATE, 'k'),
        (Self::DELETE_MAILBOX, 'x'),
        (Self::DELETE, 't'),
        (Self::EXPUNGE, 'e'),
        (Self::ADMINISTER, 'a'),
    ];

    /// What the obsolete letters stand for (RFC 4314 §2.1.1).
    const OBSOLETE: [(Self, char); 2] = [
        (Self(Self::CREATE.0 | Self::DELETE_MAILBOX.0), 'c'),
        (Self(Self::DELETE.0 | Self::EXPUNGE.0), 'd'),
    ];

    /// Reads letters in any order, the obsolete `c` and `d` among them.
    pub fn parse(letters: &str) -> Result<Self, UnknownRight> {
        letters.chars().try_fold(Self::NONE, |rights, letter| {
            let known = Self::LETTERS.iter().chain(&Self::OBSOLETE);
            let found = known.into_iter().find(|(_, known)| *known == letter);
            let (right, _) = found.ok_or(UnknownRight(letter))?;
            Ok(rights | *right)
        })
    }

    /// From stored bits; bits without a meaning are dropped.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// As bits, to store.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether all of `other` are among these.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is among these.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// These without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The letters with the obsolete ones behind them: one stands where any of what it means is granted.
    pub fn with_obsolete(self) -> String {
        let obsolete = Self::OBSOLETE.iter();
        let obsolete = obsolete.filter(|(meant, _)| self.intersects(*meant));
        self.letters().chain(obsolete.map(|(_, c)| *c)).collect()
    }

    fn letters(self) -> impl Iterator<Item = char> {
        let granted = Self::LETTERS
            .iter()
            .filter(move |(right, _)| self.contains(*right));
        granted.map(|(_, letter)| *letter)
    }
}

impl BitOr for Rights {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Rights {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The letters of RFC 4314, without the obsolete ones.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.letters()
            .try_for_each(|letter| fmt::Write::write_char(f, letter))
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rights({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn obsolete_letters_are_read_and_written_beside_what_they_mean() {
        assert_eq!(Rights::parse("cd").unwrap().to_string(), "kxte");
        let some = Rights::parse("lrt").unwrap();
        assert_eq!(some.to_string(), "lrt");
        assert_eq!(some.with_obsolete(), "lrtd");
        assert_eq!(Rights::ALL.with_obsolete(), "lrswipkxteacd");
        assert_eq!(Rights::parse("lq"), Err(UnknownRight('q')));
        assert_eq!(Rights::parse("L"), Err(UnknownRight('L')));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bits: u16) {
            let rights = Rights::from_bits(bits);
            prop_assert_eq!(Rights::parse(&rights.to_string()), Ok(rights));
            prop_assert_eq!(Rights::from_bits(rights.bits()), rights);
            prop_assert!(rights.without(rights).is_empty());
        }
    }
}
