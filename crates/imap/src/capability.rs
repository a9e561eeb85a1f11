//! The capabilities (RFC 3501 §7.2.1): one table of what is announced, and when.
//!
//! **Invariant:** a row is here only when all of what it promises is there.

use bytes::{BufMut, BytesMut};

use crate::limits::Config;
use crate::write;

/// Literals that come without leave, of every length; and of up to 4096 octets (RFC 7888). One of them is announced.
const LITERAL_PLUS: &str = "LITERAL+";
const LITERAL_MINUS: &str = "LITERAL-";
/// Announced with the length (RFC 7889).
const APPEND_LIMIT: &str = "APPENDLIMIT";
/// RFC 9738; announced where there is a limit.
const MESSAGE_LIMIT: &str = "MESSAGELIMIT";

/// When a capability is announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum When {
    /// In every state.
    Always,
    /// After login: before it, the name would be of no use.
    AfterLogin,
}

/// A row of the table.
struct Capability {
    name: &'static str,
    when: When,
}

const fn always(name: &'static str) -> Capability {
    Capability {
        name,
        when: When::Always,
    }
}

const fn after_login(name: &'static str) -> Capability {
    Capability {
        name,
        when: When::AfterLogin,
    }
}

/// Every capability that follows from the program alone; those of logins and TLS follow from the connection.
static TABLE: &[Capability] = &[
    always("IMAP4rev1"),
    always("IMAP4rev2"),
    always(LITERAL_PLUS),
    always(LITERAL_MINUS),
    always("SASL-IR"),
    always("ID"),
    after_login("ENABLE"),
    after_login("IDLE"),
    after_login("NAMESPACE"),
    after_login("UIDPLUS"),
    after_login("UNSELECT"),
    after_login("CHILDREN"),
    after_login("LIST-EXTENDED"),
    after_login("LIST-STATUS"),
    after_login("LIST-MYRIGHTS"),
    after_login("LIST-METADATA"),
    after_login("STATUS=SIZE"),
    after_login("SPECIAL-USE"),
    after_login("CREATE-SPECIAL-USE"),
    after_login("NOTIFY"),
    after_login("MOVE"),
    after_login("ACL"),
    after_login("RIGHTS=kxte"),
    after_login("QUOTA"),
    after_login("QUOTA=RES-STORAGE"),
    after_login("QUOTA=RES-MESSAGE"),
    after_login("QUOTA=RES-MAILBOX"),
    after_login("QUOTASET"),
    after_login("METADATA"),
    after_login("METADATA-SERVER"),
    after_login("CONDSTORE"),
    after_login("QRESYNC"),
    after_login("OBJECTID"),
    after_login("SAVEDATE"),
    after_login("PREVIEW"),
    after_login("BINARY"),
    after_login("UIDONLY"),
    after_login("UTF8=ACCEPT"),
    after_login("MULTIAPPEND"),
    after_login("CATENATE"),
    after_login("REPLACE"),
    after_login("ESEARCH"),
    after_login("SEARCHRES"),
    after_login("WITHIN"),
    after_login("PARTIAL"),
    after_login("SORT"),
    after_login("SORT=DISPLAY"),
    after_login("ESORT"),
    after_login("THREAD=ORDEREDSUBJECT"),
    after_login("THREAD=REFERENCES"),
    after_login("MULTISEARCH"),
    after_login("UIDBATCHES"),
    after_login("INPROGRESS"),
    after_login(MESSAGE_LIMIT),
    after_login(APPEND_LIMIT),
    after_login("URLAUTH"),
    after_login("COMPRESS=DEFLATE"),
    after_login("UNAUTHENTICATE"),
];

/// Writes the names that hold before or after login, with a space between them, without those that are `hidden`.
/// Limits are those of `config`.
pub(crate) fn write(out: &mut BytesMut, logged_in: bool, config: &Config, hidden: &[String]) {
    let bounded = config.limits.unasked_octets_max != u64::MAX;
    let other_literal = if bounded { LITERAL_PLUS } else { LITERAL_MINUS };
    let mut first = true;
    for row in TABLE {
        let untimely = row.when == When::AfterLogin && !logged_in;
        let unlimited = row.name == MESSAGE_LIMIT && config.limits.messages_max.is_none();
        if untimely || unlimited || row.name == other_literal || is_hidden(hidden, row.name) {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.put_u8(b' ');
        }
        out.put_slice(row.name.as_bytes());
        if row.name == APPEND_LIMIT {
            out.put_u8(b'=');
            write::number(out, config.limits.message_octets_max);
        }
        if let (MESSAGE_LIMIT, Some(limit)) = (row.name, config.limits.messages_max) {
            out.put_u8(b'=');
            write::number(out, u64::from(limit));
        }
    }
}

/// Whether a capability is in the table and not kept from this client.
pub(crate) fn is_offered(hidden: &[String], name: &str) -> bool {
    TABLE.iter().any(|row| row.name == name) && !is_hidden(hidden, name)
}

/// Whether a capability is kept from this client.
pub(crate) fn is_hidden(hidden: &[String], name: &str) -> bool {
    hidden
        .iter()
        .any(|hidden| hidden.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(logged_in: bool, hidden: &[&str]) -> String {
        let hidden: Vec<String> = hidden.iter().map(|name| (*name).to_owned()).collect();
        let mut out = BytesMut::new();
        write(&mut out, logged_in, &Config::default(), &hidden);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn what_is_hidden_is_not_announced() {
        assert!(written(true, &[]).contains(" MOVE"));
        assert!(!written(true, &["move"]).contains("MOVE"));
        assert!(!written(false, &[]).contains("MOVE"));
        assert!(written(false, &["IMAP4rev1"]).starts_with("IMAP4rev2 "));
    }

    #[test]
    fn no_name_is_there_twice() {
        let mut names: Vec<_> = TABLE.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
    }
}
