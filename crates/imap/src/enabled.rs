//! What the client has enabled (RFC 5161), by name or by use (RFC 7162 §3.1).

/// Extensions that change what the server sends unasked, or how it reads and writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Extension {
    /// IMAP4rev2 (RFC 9051).
    Imap4Rev2 = 1,
    /// CONDSTORE (RFC 7162 §3.1): MODSEQ in every FETCH response that tells flags.
    Condstore = 2,
    /// QRESYNC (RFC 7162 §3.2): VANISHED instead of EXPUNGE.
    Qresync = 4,
    /// UTF8=ACCEPT (RFC 6855): UTF-8 in quoted strings and names.
    Utf8Accept = 8,
    /// UIDONLY (RFC 9586): no sequence numbers at all.
    UidOnly = 16,
}

impl Extension {
    /// Each of them, in the order of their bits.
    pub const ALL: [Self; 5] = [
        Self::Imap4Rev2,
        Self::Condstore,
        Self::Qresync,
        Self::Utf8Accept,
        Self::UidOnly,
    ];

    /// The capability that ENABLE names.
    pub const fn capability(self) -> &'static str {
        match self {
            Self::Imap4Rev2 => "IMAP4rev2",
            Self::Condstore => "CONDSTORE",
            Self::Qresync => "QRESYNC",
            Self::Utf8Accept => "UTF8=ACCEPT",
            Self::UidOnly => "UIDONLY",
        }
    }
}

/// A set of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Enabled(u8);

impl Enabled {
    /// Nothing is enabled.
    pub const NONE: Self = Self(0);

    /// Whether an extension is enabled.
    pub const fn has(self, extension: Extension) -> bool {
        self.0 & extension as u8 != 0
    }

    /// Enables an extension, and what it implies. Says whether that changed anything.
    pub const fn enable(&mut self, extension: Extension) -> bool {
        let before = self.0;
        self.0 |= extension as u8;
        if matches!(extension, Extension::Qresync) {
            self.0 |= Extension::Condstore as u8;
        }
        before != self.0
    }

    /// Whether there is `\Recent` and RECENT: IMAP4rev2 has neither.
    pub const fn tells_recent(self) -> bool {
        !self.has(Extension::Imap4Rev2)
    }

    /// Whether VANISHED tells of messages that are gone, not EXPUNGE.
    pub const fn tells_vanished(self) -> bool {
        self.has(Extension::Qresync) || self.has(Extension::UidOnly)
    }

    /// Whether names and quoted strings are UTF-8 on the wire, not modified UTF-7.
    pub const fn utf8(self) -> bool {
        self.has(Extension::Utf8Accept) || self.has(Extension::Imap4Rev2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qresync_brings_condstore() {
        let mut enabled = Enabled::NONE;
        assert!(enabled.enable(Extension::Qresync));
        assert!(enabled.has(Extension::Condstore));
        assert!(!enabled.enable(Extension::Condstore));
        assert!(!enabled.utf8());
    }
}
