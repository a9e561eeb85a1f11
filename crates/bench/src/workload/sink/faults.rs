//! What a sink can do wrong, and where in a session it does.

use crate::corpus::Rng;
use crate::odds::Fault;

/// A fault of the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkFault {
    /// `drop`: closes at once, without a greeting.
    Drop,
    /// `stall`: says nothing for a while, then closes; after a whole message it may have kept it.
    Stall,
    /// `4xx`: refuses for now, a recipient or all.
    Temporary,
    /// `5xx`: refuses for ever, a recipient or all.
    Permanent,
    /// `421`: says that it closes, and does.
    Closing,
    /// `half`: writes half of a reply and closes; where that is the reply to a message, it has kept it.
    Half,
    /// `drip`: writes a reply octet by octet.
    Drip,
    /// `tls`: fails in the TLS handshake.
    Tls,
    /// `cut`: closes in the middle of a message.
    Cut,
    /// `unheard`: keeps a message and closes before its reply.
    Unheard,
    /// `bye`: keeps a message, says so, and closes.
    Bye,
}

impl Fault for SinkFault {
    const ALL: &'static [Self] = &[
        Self::Drop,
        Self::Stall,
        Self::Temporary,
        Self::Permanent,
        Self::Closing,
        Self::Half,
        Self::Drip,
        Self::Tls,
        Self::Cut,
        Self::Unheard,
        Self::Bye,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Stall => "stall",
            Self::Temporary => "4xx",
            Self::Permanent => "5xx",
            Self::Closing => "421",
            Self::Half => "half",
            Self::Drip => "drip",
            Self::Tls => "tls",
            Self::Cut => "cut",
            Self::Unheard => "unheard",
            Self::Bye => "bye",
        }
    }
}

/// Where a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    Greeting,
    Mail,
    Rcpt,
    /// The message begins.
    Data,
    /// The message is whole.
    End,
}

/// A fault that is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Strike {
    pub(super) fault: SinkFault,
    pub(super) at: Point,
}

impl Strike {
    /// Where in a mail transaction a fault strikes; `None` for those that strike connections only.
    pub(super) fn in_transaction(fault: SinkFault, rng: &mut Rng) -> Option<Self> {
        use Point::{Data, End, Mail, Rcpt};
        let places: &[Point] = match fault {
            SinkFault::Drop | SinkFault::Tls => return None,
            SinkFault::Temporary | SinkFault::Permanent => &[Mail, Rcpt, Rcpt, End],
            SinkFault::Closing | SinkFault::Half | SinkFault::Stall | SinkFault::Drip => {
                &[Mail, Rcpt, Data, End]
            }
            SinkFault::Cut => &[Data],
            SinkFault::Unheard | SinkFault::Bye => &[End],
        };
        let at = *places.get(rng.below(places.len() as u64) as usize)?;
        Some(Self { fault, at })
    }

    /// What strikes a connection as it opens; `None` for those that need a mail transaction.
    pub(super) const fn at_greeting(fault: SinkFault) -> Option<Self> {
        match fault {
            SinkFault::Drop
            | SinkFault::Stall
            | SinkFault::Closing
            | SinkFault::Half
            | SinkFault::Drip => Some(Self {
                fault,
                at: Point::Greeting,
            }),
            SinkFault::Temporary
            | SinkFault::Permanent
            | SinkFault::Tls
            | SinkFault::Cut
            | SinkFault::Unheard
            | SinkFault::Bye => None,
        }
    }
}
