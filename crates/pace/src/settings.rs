//! What holds for one destination.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::retry::Retry;
use crate::schedule::Schedule;

/// The way mail takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Via {
    /// The mail exchangers of the destination (RFC 5321 §5.1).
    Mx,
    /// The relay of this name.
    Relay(String),
    /// The mail exchangers, and the relay of this name for what cannot be routed directly: the first attempt found no host
    /// because of trouble with DNS, or could reach none. See [`Settings::relay_unknown`].
    MxThenRelay(String),
}

impl Via {
    /// The relay it names.
    pub fn relay(&self) -> Option<&str> {
        match self {
            Self::Mx => None,
            Self::Relay(name) | Self::MxThenRelay(name) => Some(name),
        }
    }
}

/// How many messages may pass in a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Messages, all of which may also pass at once.
    pub messages: u32,
    /// The time in which that many are allowed again.
    pub per: Duration,
}

/// What TLS must come to towards mail exchangers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsRule {
    /// None is used.
    Never,
    /// Where it is offered, with any certificate (RFC 7435), unless DANE or MTA-STS ask for more.
    Opportunistic,
    /// It is required, with any certificate.
    Encrypt,
    /// It is required, with a certificate that is valid for the host.
    Verify,
    /// DANE (RFC 7672) or nothing.
    Dane,
}

/// Declares settings once: what holds, with its default, and what a rule may say of it.
macro_rules! settings {
    ($( $(#[doc = $doc:literal])* $name:ident: $type:ty = $default:expr; )*) => {
        /// What holds for one destination.
        #[derive(Clone, PartialEq, Debug)]
        pub struct Settings {
            $( $(#[doc = $doc])* pub $name: $type, )*
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $( $name: $default, )* }
            }
        }

        /// What a rule says; a value that is absent is left to later rules and the default.
        #[derive(Clone, PartialEq, Debug, Default)]
        pub struct PartialSettings {
            $( $(#[doc = $doc])* pub $name: Option<$type>, )*
        }

        impl Settings {
            /// The first value that one of `rules` has for each setting, or that of `self`.
            pub(crate) fn overridden<'a>(
                &self,
                rules: impl Iterator<Item = &'a PartialSettings> + Clone,
            ) -> Self {
                Self { $(
                    $name: rules
                        .clone()
                        .find_map(|rule| rule.$name.as_ref())
                        .unwrap_or(&self.$name)
                        .clone(),
                )* }
            }
        }
    };
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

settings! {
    /// The way.
    route: Via = Via::Mx;
    /// With [`Via::MxThenRelay`]: whether the relay also gets what is for domains that do not exist or take no mail. They
    /// are failures otherwise.
    relay_unknown: bool = false;
    /// Most connections at once, to all hosts of a site together.
    connections_max: usize = 20;
    /// Connections allowed to a site that nothing is known of.
    connections_start: usize = 5;
    /// Messages sent over one connection.
    messages_per_connection: u32 = 100;
    /// A connection gets no further message when it is older than this.
    connection_lifetime: Duration = Duration::from_secs(300);
    /// How long an open connection waits for more mail.
    idle: Duration = Duration::from_secs(5);
    /// Recipients in one transaction. RFC 5321 §4.5.3.1.8 lets every server take 100.
    recipients_per_transaction: usize = 100;
    /// Messages that may be sent there in a time.
    rate: Option<Rate> = None;
    /// When failed attempts are repeated.
    retry: Retry = Retry::default();
    /// How long after acceptance a message is given up. RFC 5321 §4.5.4.1 asks for 4 to 5 days.
    lifetime: Duration = minutes(5 * 24 * 60);
    /// How long after acceptance a delay is reported; `None`: never.
    warn_after: Option<Duration> = Some(minutes(4 * 60));
    /// How long after acceptance a message with the null reverse-path is given up.
    bounce_lifetime: Duration = minutes(24 * 60);
    /// What TLS must come to. Holds for mail exchangers; a relay has its own rule.
    tls: TlsRule = TlsRule::Opportunistic;
    /// Whether TLSA records are asked for (RFC 7672).
    dane: bool = true;
    /// Whether MTA-STS policies are asked for (RFC 8461).
    mta_sts: bool = true;
    /// Addresses to connect from, the first of the family that fits; the system chooses when there is none.
    source_addresses: Vec<IpAddr> = Vec::new();
    /// The name given in EHLO; that of the server when absent.
    helo: Option<String> = None;
    /// When mail is sent; at any time when absent.
    schedule: Option<Arc<Schedule>> = None;
    /// Whether mail waits until it is asked for (ETRN, ATRN, an operator's run-now).
    on_request: bool = false;
}
