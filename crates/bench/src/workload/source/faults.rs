//! What a source can do wrong.

use crate::odds::Fault;

/// A fault of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceFault {
    /// `mail`: closes after MAIL.
    Mail,
    /// `rcpt`: closes after the first RCPT.
    Rcpt,
    /// `cut`: closes in the middle of the message.
    Cut,
    /// `unheard`: sends the whole message and closes before the reply.
    Unheard,
    /// `rset`: names the recipients and takes it all back, then begins again.
    Rset,
    /// `drip`: sends the commands octet by octet.
    Drip,
    /// `half`: closes within a command.
    Half,
}

impl Fault for SourceFault {
    const ALL: &'static [Self] = &[
        Self::Mail,
        Self::Rcpt,
        Self::Cut,
        Self::Unheard,
        Self::Rset,
        Self::Drip,
        Self::Half,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Cut => "cut",
            Self::Unheard => "unheard",
            Self::Rset => "rset",
            Self::Drip => "drip",
            Self::Half => "half",
        }
    }
}
