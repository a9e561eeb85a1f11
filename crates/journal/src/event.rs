//! An event: something that happened to a message, or to one of its recipients.

use std::fmt;

use nightmail_core::{QueueId, Timestamp};

macro_rules! kinds {
    ($( $(#[doc = $doc:literal])* $kind:ident = $code:literal $name:literal, )*) => {
        /// What happened.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum EventKind {
            $( $(#[doc = $doc])* $kind = $code, )*
        }

        impl EventKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$( Self::$kind, )*];

            /// The word for it, as shown.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$kind => $name, )*
                }
            }

            /// The number that stands for it in blocks; at most 127, and never given to another kind.
            pub(crate) const fn code(self) -> u8 {
                self as u8
            }

            /// The kind of that number.
            pub(crate) const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $( $code => Some(Self::$kind), )*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// A message was accepted from a client; the text says how large it is.
    Accepted = 1 "accepted",
    /// A message, or one recipient of it, was refused.
    Refused = 2 "refused",
    /// A recipient elsewhere was put into the queue.
    Queued = 3 "queued",
    /// A copy was put into a mailbox here.
    Delivered = 4 "delivered",
    /// A host of another site has taken responsibility for a recipient.
    Sent = 5 "sent",
    /// An attempt failed for now.
    Deferred = 6 "deferred",
    /// A recipient was given up.
    Failed = 7 "failed",
    /// A recipient stood for others.
    Expanded = 8 "expanded",
    /// A recipient is held back.
    Held = 9 "held",
    /// It is not held back any more.
    Released = 10 "released",
    /// It goes another way, as an operator wants it.
    Rerouted = 11 "rerouted",
    /// It was taken out of the queue, or thrown away as a rule wants it; nobody was told.
    Dropped = 12 "dropped",
    /// A report about it was sent to the sender.
    Reported = 13 "reported",
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that happened.
///
/// Texts longer than [`Event::TEXT_OCTETS_MAX`] are cut. Angle brackets around addresses and Message-IDs are left out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// The message in the queue.
    pub queue_id: Option<QueueId>,
    /// Its Message-ID, or for a message without one what stands in for it.
    pub message_id: Option<String>,
    /// The reverse-path; empty for the null reverse-path.
    pub sender: Option<String>,
    /// The recipient, where it is about one.
    pub recipient: Option<String>,
    /// The client that the message came from, or the host that it was handed to.
    pub host: Option<String>,
    /// The enhanced status code, such as `4.4.1`.
    pub status: Option<String>,
    /// The reply, the reason, or what else is to be said.
    pub text: Option<String>,
}

impl Event {
    /// The longest text kept, in octets.
    pub const TEXT_OCTETS_MAX: usize = 512;

    /// An event of which nothing more is known. Fill in what is: `Event { sender, ..Event::new(at, kind) }`.
    pub const fn new(at: Timestamp, kind: EventKind) -> Self {
        Self {
            at,
            kind,
            queue_id: None,
            message_id: None,
            sender: None,
            recipient: None,
            host: None,
            status: None,
            text: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_number_of_its_own_that_leads_back_to_it() {
        for kind in EventKind::ALL {
            assert!(kind.code() < 128);
            assert_eq!(EventKind::from_code(kind.code()), Some(*kind));
        }
        assert_eq!(EventKind::from_code(0), None);
    }
}
