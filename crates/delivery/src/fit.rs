//! Whether a host can be given a message: what the sender asks for, held against what the host offers.

use nightmail_queue::QueueMessage;
use nightmail_switch::report::header_of;

use crate::attempt::insists_on_tls;
use crate::connection::Connection;
use crate::content::Content;
use crate::envelope::seconds_left;
use crate::retry::TIME_OVER;
use crate::trouble::{TLS_REQUIRED, Trouble};

/// The header has UTF-8, which the host does not take (RFC 6531 §3.5).
const UTF8_HEADER: &str = "5.6.9";

impl Connection {
    /// Why this host cannot be given the message, although another might.
    pub(crate) async fn unfit(&self, message: &QueueMessage) -> Option<Trouble> {
        let offered = self.offers();
        let verified = self.tls().is_some_and(|tls| tls.peer_verified);
        let host = &self.target().host;
        if insists_on_tls(message) && !(verified && offered.requiretls) {
            let text = format!("{host} does not promise to pass the message on over TLS only");
            return Some(Trouble::permanent(TLS_REQUIRED, text));
        }
        if let Some(by) = message.demands.deliver_by.filter(|by| !by.notify) {
            let left = seconds_left(by, nightmail_commit::now());
            match offered.deliver_by {
                None => {
                    let text = format!("{host} does not keep the time in which to deliver");
                    return Some(Trouble::permanent("5.3.3", text));
                }
                Some(least) if left < i64::from(least).max(1) => {
                    let text = format!("{left} seconds are left, too few for {host}");
                    return Some(Trouble::permanent(TIME_OVER, text));
                }
                Some(_) => {}
            }
        }
        if message.smtputf8 && !offered.smtputf8 {
            return self.unfit_for_ascii(message).await;
        }
        None
    }

    /// Whether a message that may use UTF-8 in its header does. Addresses are looked at one by one (RFC 6531 §3.2).
    async fn unfit_for_ascii(&self, message: &QueueMessage) -> Option<Trouble> {
        let octets_max = self.channel().options.limits.report_header_octets_max;
        let committer = self.channel().queue.committer();
        let head = match Content::open(committer, message).await {
            Ok(content) => content.head(octets_max).await,
            Err(error) => Err(error),
        };
        match head.map(header_of) {
            Ok(header) if header.is_ascii() => None,
            Ok(_) => {
                let host = &self.target().host;
                let text = format!("{host} does not take UTF-8 in header fields");
                Some(Trouble::permanent(UTF8_HEADER, text))
            }
            Err(error) => Some(Trouble::temporary(
                "4.3.0",
                format!("the message could not be read: {error}"),
            )),
        }
    }
}
