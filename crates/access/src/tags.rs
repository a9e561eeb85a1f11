//! Tags: what rules and checks say about a session or a message, for later rules and for the header.

use std::collections::BTreeSet;

/// The tags that checks give.
pub mod tag {
    /// The client spoke before the greeting.
    pub const EARLY_TALKER: &str = "early-talker";
    /// The client sent commands ahead before it was allowed to.
    pub const PIPELINING: &str = "pipelining";
    /// The client's address has no name, or none that leads back to it.
    pub const REVERSE_DNS: &str = "reverse-dns";
    /// The name given in HELO or EHLO cannot be the client's.
    pub const HELO: &str = "helo";
    /// The sender's domain takes no mail.
    pub const SENDER_DOMAIN: &str = "sender-domain";
    /// DNS lists have given it points.
    pub const DNS_LIST: &str = "dns-list";
    /// SPF says that the client may not send for the domain.
    pub const SPF_FAIL: &str = "spf-fail";
    /// SPF says that it probably may not.
    pub const SPF_SOFTFAIL: &str = "spf-softfail";
    /// A DKIM signature does not hold.
    pub const DKIM_FAIL: &str = "dkim-fail";
    /// Neither SPF nor DKIM speaks for the author's domain, which has a policy.
    pub const DMARC_FAIL: &str = "dmarc-fail";
}

/// A set of tags, in the order of the alphabet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(BTreeSet<Box<str>>);

impl Tags {
    /// The longest tag that a rule may give, in octets.
    pub const TAG_OCTETS_MAX: usize = 64;

    /// Adds a tag; whether it was new.
    pub fn insert(&mut self, tag: &str) -> bool {
        !self.contains(tag) && self.0.insert(tag.into())
    }

    /// Whether the tag has been given.
    pub fn contains(&self, tag: &str) -> bool {
        self.0.contains(tag)
    }

    /// Whether none has been given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many have been given.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The tags, in the order of the alphabet.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|tag| &**tag)
    }

    /// Whether text can be a tag: letters, digits, hyphens, dots and underscores, so that it can stand in a header.
    pub(crate) fn is_tag(text: &str) -> bool {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        (1..=Self::TAG_OCTETS_MAX).contains(&text.len()) && text.bytes().all(is_allowed)
    }
}

impl<'a> FromIterator<&'a str> for Tags {
    fn from_iter<I: IntoIterator<Item = &'a str>>(tags: I) -> Self {
        Self(tags.into_iter().map(Into::into).collect())
    }
}
