//! The table of replies: every reply code and enhanced code that this program gives (RFC 5321 §4.2.3,
//! RFC 3463, RFC 4954 §6, RFC 7372).
//!
//! Each is a constant. A caller that has more to say gives the text with [`Reply::with_text`].

use crate::command::CommandError;
use crate::reply::{EnhancedCode, Reply};

macro_rules! table {
    ($($(#[$doc:meta])* $name:ident = $code:literal $(($class:literal $subject:literal $detail:literal))? $text:literal;)*) => {
        $(
            $(#[$doc])*
            pub const $name: Reply = Reply::fixed($code, table!(@enhanced $($class $subject $detail)?), $text);
        )*
        /// Every reply with its name.
        pub const ALL: &[(&str, Reply)] = &[$((stringify!($name), $name)),*];
    };
    (@enhanced) => { None };
    (@enhanced $class:literal $subject:literal $detail:literal) => {
        Some(EnhancedCode::new($class, $subject, $detail))
    };
}

table! {
    /// The greeting; its text starts with the host's name.
    GREETING = 220 "ESMTP";
    /// STARTTLS may begin (RFC 3207 §4).
    TLS_READY = 220 (2 0 0) "Ready to start TLS";
    /// QUIT.
    BYE = 221 (2 0 0) "Bye";
    /// HELP.
    HELP = 214 (2 0 0) "Commands";
    /// AUTH succeeded (RFC 4954 §4).
    AUTHENTICATED = 235 (2 7 0) "Authentication succeeded";
    /// EHLO, HELO and LHLO; the lines are host and extensions.
    HELLO = 250 "Hello";
    /// Anything else that worked.
    OK = 250 (2 0 0) "Ok";
    /// MAIL accepted.
    SENDER_OK = 250 (2 1 0) "Ok";
    /// RCPT accepted.
    RECIPIENT_OK = 250 (2 1 5) "Ok";
    /// MAIL accepted with another priority than asked for (RFC 6710 §5).
    PRIORITY_CHANGED = 250 (2 3 6) "Ok, with another priority";
    /// ETRN: waiting mail, if any, is being sent (RFC 1985 §5.3).
    ETRN_STARTED = 250 (2 0 0) "Queuing started";
    /// ETRN: no mail waits.
    ETRN_NOTHING = 251 (2 0 0) "No messages waiting";
    /// ETRN: waiting mail is being sent.
    ETRN_PENDING = 252 (2 0 0) "Pending messages started";
    /// ETRN: the number of messages being sent; the text names it.
    ETRN_COUNT = 253 (2 0 0) "Pending messages started";
    /// ATRN: the client is the server from here on (RFC 2645 §5.2.1).
    ATRN_TURNED = 250 (2 0 0) "OK now reversing the connection";
    /// VRFY, when the address is not looked up.
    CANNOT_VERIFY = 252 (2 0 0) "Cannot verify, but will try to deliver";
    /// A SASL challenge (RFC 4954 §4); the text is base64.
    CHALLENGE = 334 "";
    /// DATA may begin.
    START_DATA = 354 "End data with <CR><LF>.<CR><LF>";

    /// The server stops.
    SHUTTING_DOWN = 421 (4 3 2) "Service shutting down";
    /// More mail than can be stored now.
    BUSY_CLOSING = 421 (4 3 2) "Too busy, try later";
    /// The peer was silent for too long.
    TIMED_OUT = 421 (4 4 2) "Timeout, closing";
    /// More errors than a session may make.
    TOO_MANY_ERRORS = 421 (4 7 0) "Too many errors";
    /// More commands without mail than a session may give.
    TOO_MANY_COMMANDS = 421 (4 7 0) "Too many commands without mail";
    /// More transactions than a session may have.
    TOO_MANY_TRANSACTIONS = 421 (4 7 0) "Too many messages in this session, reconnect";
    /// More connections than the peer may have.
    TOO_MANY_CONNECTIONS = 421 (4 7 0) "Too many connections";
    /// The peer does not speak SMTP.
    NOT_SMTP = 421 (4 7 0) "This is a mail server";
    /// More octets than are worth reading after a refusal.
    TOO_MUCH_DATA = 421 (4 7 0) "Too much data after a refusal";
    /// ATRN: the client may not have what it asks for (RFC 2645 §5.2.1).
    ATRN_REFUSED = 450 (4 7 1) "ATRN request refused";
    /// The mailbox is busy or rate-limited.
    MAILBOX_BUSY = 450 (4 2 1) "Mailbox busy, try later";
    /// The sender's rate limit is reached.
    RATE_LIMITED = 450 (4 7 1) "Too much mail, try later";
    /// Something of ours failed.
    LOCAL_ERROR = 451 (4 3 0) "Local error, try later";
    /// More mail than can be stored now.
    BUSY = 451 (4 3 2) "Too busy, try later";
    /// A lookup failed for now.
    LOOKUP_FAILED = 451 (4 4 3) "Lookup failed, try later";
    /// Not yet (greylisting and the like).
    TRY_LATER = 451 (4 7 1) "Try later";
    /// The connection to a peer broke off.
    CONNECTION_LOST = 451 (4 4 2) "Connection lost";
    /// ATRN: it cannot be done for now.
    ATRN_UNABLE = 451 (4 3 0) "Unable to process ATRN request now";
    /// The mailbox is over its quota for now.
    MAILBOX_FULL = 452 (4 2 2) "Mailbox full";
    /// No room on stable storage.
    OUT_OF_SPACE = 452 (4 3 1) "Insufficient storage";
    /// More recipients than a transaction may have (RFC 5321 §4.5.3.1.10).
    TOO_MANY_RECIPIENTS = 452 (4 5 3) "Too many recipients";
    /// ATRN: no mail waits.
    ATRN_NO_MAIL = 453 (4 0 0) "You have no mail";
    /// TLS cannot be had for now (RFC 3207 §4).
    TLS_UNAVAILABLE = 454 (4 7 0) "TLS not available";
    /// Credentials cannot be checked for now (RFC 4954 §6).
    AUTH_UNAVAILABLE = 454 (4 7 0) "Authentication not available, try later";

    /// ETRN: it cannot be done for now.
    ETRN_UNABLE = 458 (4 3 0) "Unable to queue messages";
    /// ETRN: not for this node.
    ETRN_DENIED = 459 (4 7 1) "Node not allowed";

    /// No such command.
    UNKNOWN_COMMAND = 500 (5 5 1) "Command not recognized";
    /// A command line over its limit.
    LINE_TOO_LONG = 500 (5 5 2) "Line too long";
    /// A command line with control characters, a bare CR or a bare LF.
    LINE_INVALID = 500 (5 5 2) "Line has control characters or does not end in CRLF";
    /// A SASL line over its limit (RFC 4954 §6).
    SASL_LINE_TOO_LONG = 500 (5 5 6) "Authentication line too long";
    /// A command's syntax is wrong.
    SYNTAX = 501 (5 5 2) "Syntax error";
    /// Base64 or a SASL message is wrong (RFC 4954 §6).
    SASL_INVALID = 501 (5 5 2) "Cannot decode response";
    /// The client gave up AUTH with `*` (RFC 4954 §4).
    AUTH_CANCELLED = 501 (5 7 0) "Authentication cancelled";
    /// A command's arguments are wrong.
    ARGUMENTS = 501 (5 5 4) "Invalid arguments";
    /// The reverse-path's syntax is wrong.
    SENDER_SYNTAX = 501 (5 1 7) "Invalid sender address";
    /// The forward-path's syntax is wrong.
    RECIPIENT_SYNTAX = 501 (5 1 3) "Invalid recipient address";
    /// A known command that is not offered.
    NOT_IMPLEMENTED = 502 (5 5 1) "Command not implemented";
    /// No EHLO, HELO or LHLO yet.
    HELLO_FIRST = 503 (5 5 1) "Say hello first";
    /// No transaction yet.
    MAIL_FIRST = 503 (5 5 1) "MAIL first";
    /// No accepted recipient yet.
    RCPT_FIRST = 503 (5 5 1) "No valid recipients";
    /// A second MAIL in one transaction.
    NESTED_MAIL = 503 (5 5 1) "Sender already given";
    /// A command that may not come within a transaction.
    WITHIN_TRANSACTION = 503 (5 5 1) "Not within a transaction";
    /// MAIL, RCPT or DATA after BDAT (RFC 3030 §2).
    CHUNKS_BEGUN = 503 (5 5 1) "BDAT has begun";
    /// DATA for a BINARYMIME message (RFC 3030 §3).
    BINARY_NEEDS_BDAT = 503 (5 5 1) "BINARYMIME needs BDAT";
    /// A second AUTH.
    ALREADY_AUTHENTICATED = 503 (5 5 1) "Already authenticated";
    /// A second STARTTLS.
    TLS_ACTIVE = 503 (5 5 1) "TLS already active";
    /// A SASL mechanism that is not offered.
    MECHANISM_UNKNOWN = 504 (5 5 4) "Mechanism not offered";
    /// The account is disabled (RFC 5248 §2.4).
    ACCOUNT_DISABLED = 525 (5 7 13) "User account disabled";
    /// TLS is required first (RFC 3207 §4).
    TLS_REQUIRED = 530 (5 7 0) "Must issue STARTTLS first";
    /// AUTH is required first (RFC 4954 §6).
    AUTH_REQUIRED = 530 (5 7 0) "Authentication required";
    /// Wrong credentials (RFC 4954 §6).
    AUTH_FAILED = 535 (5 7 8) "Authentication credentials invalid";
    /// AUTH is not done in plain text here (RFC 4954 §6).
    ENCRYPTION_REQUIRED = 538 (5 7 11) "Encryption required for authentication";
    /// No such mailbox.
    MAILBOX_UNKNOWN = 550 (5 1 1) "No such mailbox";
    /// No such domain to deliver to.
    DOMAIN_UNKNOWN = 550 (5 1 2) "No such domain";
    /// The sender's domain cannot receive mail.
    SENDER_DOMAIN_UNKNOWN = 550 (5 1 8) "Sender domain not found";
    /// The domain declares that it takes no mail (RFC 7505).
    NULL_MX = 556 (5 1 10) "Recipient domain takes no mail";
    /// The mailbox is closed.
    MAILBOX_DISABLED = 550 (5 2 1) "Mailbox disabled";
    /// The message has bare CR or LF octets.
    BARE_NEWLINE = 550 (5 6 11) "Message has a bare CR or LF";
    /// We do not relay for this peer.
    RELAY_DENIED = 550 (5 7 1) "Relaying denied";
    /// Local policy refuses it.
    POLICY = 550 (5 7 1) "Refused by policy";
    /// XCLIENT or XFORWARD from a client that may not say such things.
    ATTRIBUTES_DENIED = 550 (5 7 0) "Not authorized";
    /// The message needs TLS all the way, and the next hop does not promise it (RFC 8689 §4.2.1).
    REQUIRETLS_NEEDED = 550 (5 7 30) "REQUIRETLS support required";
    /// No service for this client, in place of the greeting (RFC 5321 §3.1).
    NO_SERVICE = 554 (5 7 1) "No SMTP service here";
    /// A client that speaks before the greeting.
    EARLY_TALKER = 554 (5 5 0) "Talked before the greeting";
    /// The identity may not use this sender.
    SENDER_NOT_OWNED = 553 (5 7 1) "Sender not allowed for this identity";
    /// SPF failed (RFC 7372 §3.2).
    SPF_FAILED = 550 (5 7 23) "SPF validation failed";
    /// The policy of the author's domain does not allow it (RFC 7489 §10.3, RFC 7372 §3.4).
    DMARC_FAILED = 550 (5 7 26) "Rejected by the author's domain policy";
    /// The mailbox is over its quota.
    QUOTA_EXCEEDED = 552 (5 2 2) "Mailbox quota exceeded";
    /// The message is larger than the limit (RFC 1870 §6).
    MESSAGE_TOO_BIG = 552 (5 3 4) "Message exceeds size limit";
    /// A UTF-8 address without SMTPUTF8 (RFC 6531 §3.5).
    UTF8_NOT_ALLOWED = 553 (5 6 7) "UTF-8 address without SMTPUTF8";
    /// The next hop cannot take UTF-8 addresses (RFC 6531 §3.5).
    UTF8_NOT_SUPPORTED = 553 (5 6 7) "Next hop does not support SMTPUTF8";
    /// The next hop cannot take binary content (RFC 3030 §3).
    BINARY_NOT_SUPPORTED = 554 (5 6 3) "Binary content cannot be relayed";
    /// The message has passed too often.
    LOOP = 554 (5 4 6) "Mail loop";
    /// The message's content is refused.
    CONTENT_REFUSED = 554 (5 7 1) "Message content refused";
    /// A MAIL or RCPT parameter that is not offered (RFC 5321 §4.1.1.11).
    PARAMETER_UNKNOWN = 555 (5 5 4) "Parameter not recognized";
    /// A message is to be returned sooner than this server promises to deliver (RFC 2852 §4).
    TIME_TOO_SHORT = 555 (5 5 4) "Too little time to deliver in";
}

/// The reply to a command line that does not parse.
pub fn for_command_error(error: CommandError) -> Reply {
    match error {
        CommandError::Unknown => UNKNOWN_COMMAND,
        CommandError::Line => LINE_INVALID,
        CommandError::Syntax(usage) => SYNTAX.with_text(format!("Syntax: {usage}")),
        CommandError::Arguments => ARGUMENTS,
        CommandError::ReversePath => SENDER_SYNTAX,
        CommandError::ForwardPath => RECIPIENT_SYNTAX,
        CommandError::Utf8 => UTF8_NOT_ALLOWED,
        CommandError::ParameterUnknown => PARAMETER_UNKNOWN,
        CommandError::ParameterTwice => ARGUMENTS.with_text("Parameter given twice"),
        CommandError::ParameterValue => ARGUMENTS.with_text("Invalid parameter value"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enhanced_codes_are_of_the_class_of_their_reply() {
        for (name, reply) in ALL {
            let class = reply.code() / 100;
            let fits = reply
                .enhanced()
                .is_none_or(|e| u16::from(e.class()) == class);
            assert!(fits && (2..=5).contains(&class), "{name}");
        }
    }

    #[test]
    fn refusals_carry_an_enhanced_code() {
        for (name, reply) in ALL {
            assert!(reply.code() < 400 || reply.enhanced().is_some(), "{name}");
        }
    }
}
