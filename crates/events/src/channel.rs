//! The name under which the nodes of one cluster find each other on a bus.

use thiserror::Error;

const PREFIX: &str = "nightmail.events.";

/// A cluster's channel: the same on all of its nodes, and another for every other cluster on the same bus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Channel(String);

/// A name that no channel can have.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum ChannelError {
    /// Empty, or longer than [`Channel::NAME_BYTES_MAX`].
    #[error("a cluster's name has 1 to {} bytes", Channel::NAME_BYTES_MAX)]
    Length,
    /// Something else than letters and digits of ASCII, `-` and `_`.
    #[error("a cluster's name has only letters, digits, - and _")]
    Character,
}

impl Channel {
    /// Bytes of a cluster's name at most: with what goes before it, it fits into an identifier of PostgreSQL.
    pub const NAME_BYTES_MAX: usize = 40;

    /// The channel of a cluster.
    pub fn parse(cluster: &str) -> Result<Self, ChannelError> {
        if cluster.is_empty() || cluster.len() > Self::NAME_BYTES_MAX {
            return Err(ChannelError::Length);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !cluster.bytes().all(allowed) {
            return Err(ChannelError::Character);
        }
        Ok(Self(format!("{PREFIX}{cluster}")))
    }

    /// The channel of PostgreSQL and the subject of NATS.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_fits_into_an_identifier_and_is_one_token() {
        let longest = "x".repeat(Channel::NAME_BYTES_MAX);
        assert!(Channel::parse(&longest).unwrap().as_str().len() <= 63);
        assert_eq!(
            Channel::parse("mail-1").unwrap().as_str(),
            "nightmail.events.mail-1"
        );
        let too_long = "x".repeat(Channel::NAME_BYTES_MAX + 1);
        assert_eq!(Channel::parse(&too_long), Err(ChannelError::Length));
        assert_eq!(Channel::parse(""), Err(ChannelError::Length));
        for name in ["a.b", "a*", ">", "a b", "a\"", "ä"] {
            assert_eq!(Channel::parse(name), Err(ChannelError::Character));
        }
    }
}
