//! What nodes are called and what they do.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A name that does not name a node or a role.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum NameError {
    /// Not a node name.
    #[error("{0:?} is not a node name: 1 to {max} letters, digits, '.', '-' and '_'", max = NodeName::BYTES_MAX)]
    Node(String),
    /// Not a role.
    #[error("{0:?} is not a role")]
    Role(String),
}

/// The name of a node; no two nodes of a cluster share one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeName(String);

impl NodeName {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if text.is_empty() || text.len() > Self::BYTES_MAX || !text.bytes().all(plain) {
            return Err(NameError::Node(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a node does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Takes mail from other sites.
    Mx,
    /// Takes mail from users.
    Submission,
    /// Serves mailboxes.
    Imap,
    /// Serves maildrops.
    Pop3,
    /// Sends queued mail to other sites.
    Delivery,
    /// Serves the admin API and does the periodic jobs.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] = [
        Self::Mx,
        Self::Submission,
        Self::Imap,
        Self::Pop3,
        Self::Delivery,
        Self::Admin,
    ];

    /// The name used in the configuration and in rows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mx => "mx",
            Self::Submission => "submission",
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
            Self::Delivery => "delivery",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let named = Self::ALL.into_iter().find(|role| role.name() == text);
        named.ok_or_else(|| NameError::Role(text.to_owned()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The roles of a node.
pub type Roles = BTreeSet<Role>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain_and_short() {
        for good in ["mx1", "mx1.example.org", "a_b-c", &"n".repeat(255)] {
            assert_eq!(good.parse::<NodeName>().unwrap().as_str(), good);
        }
        for bad in ["", "a/b", "a b", "ä", &"n".repeat(256)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_role_reads_back_from_its_name() {
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
        }
        assert!("Mx".parse::<Role>().is_err());
    }
}
