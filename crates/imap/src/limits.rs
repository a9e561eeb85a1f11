//! What bounds a session, and what the operator sets for all of them.

use std::time::Duration;

use nightmail_sasl::{Mechanism, MechanismSet};

/// Every bound of one IMAP session. Octets unless the name says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One command with its literals, after login. RFC 2683 §3.2.1.5 asks for at least 8000; a set of 100,000 UIDs
    /// that lie apart takes 700,000. Held only while such a command comes.
    pub command_octets_max: usize,
    /// One command with its literals, before login; also one SASL response, which may hold a token.
    pub command_octets_login_max: usize,
    /// Input that may wait while a question is open, after which reading stops.
    pub pipeline_octets_max: usize,
    /// Output above which reading and row delivery should pause.
    pub output_octets_high: usize,
    /// The message of APPEND.
    pub message_octets_max: u64,
    /// A literal that comes without leave: with LITERAL- 4096, with LITERAL+ no bound of its own (RFC 7888 §4, §5).
    pub unasked_octets_max: u64,
    /// Messages of one APPEND (RFC 3502).
    pub append_messages_max: usize,
    /// Parts of one message put together by APPEND (RFC 4469).
    pub append_parts_max: usize,
    /// The text of an APPEND before, between and after its messages, where literals are part of it.
    pub append_text_octets_max: usize,
    /// How much of a refused non-synchronizing literal is read and thrown away before the connection is closed.
    pub discard_octets_max: u64,
    /// A command's tag.
    pub tag_octets_max: usize,
    /// A mailbox name, as modified UTF-7.
    pub mailbox_octets_max: usize,
    /// A keyword.
    pub keyword_octets_max: usize,
    /// Flags and keywords named in one command.
    pub flags_count_max: usize,
    /// Items of one FETCH.
    pub fetch_items_max: usize,
    /// Numbers in one body part path.
    pub section_depth_max: usize,
    /// Field names in one HEADER.FIELDS list.
    pub header_fields_max: usize,
    /// Nesting of NOT, OR and parentheses in one SEARCH.
    pub search_depth_max: usize,
    /// Keys of one SEARCH.
    pub search_keys_max: usize,
    /// Messages that one command may look at or change; none: as many as there are (RFC 9738).
    pub messages_max: Option<u32>,
    /// Groups of events in one NOTIFY.
    pub notify_groups_max: usize,
    /// Mailboxes named in one group of events.
    pub notify_names_max: usize,
    /// Patterns of one LIST.
    pub list_patterns_max: usize,
    /// Annotations named in one command.
    pub annotations_max: usize,
    /// The value of an annotation.
    pub annotation_octets_max: usize,
    /// Pairs in one ID (RFC 2971 §3.3 allows 30).
    pub id_pairs_max: usize,
    /// Commands answered BAD before login, after which the connection is closed.
    pub bad_commands_max: u32,
    /// Refused logins, after which the connection is closed.
    pub login_failures_max: u32,
    /// From the greeting to a login.
    pub login_time_max: Duration,
    /// Silence after login. RFC 3501 §5.4 asks for at least 30 minutes.
    pub idle_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            command_octets_max: 1024 * 1024,
            command_octets_login_max: 16 * 1024,
            pipeline_octets_max: 64 * 1024,
            output_octets_high: 64 * 1024,
            message_octets_max: 50 * 1024 * 1024,
            unasked_octets_max: u64::MAX,
            append_messages_max: 500,
            append_parts_max: 200,
            append_text_octets_max: 64 * 1024,
            discard_octets_max: 128 * 1024 * 1024,
            tag_octets_max: 128,
            mailbox_octets_max: 1024,
            keyword_octets_max: 255,
            flags_count_max: 200,
            fetch_items_max: 100,
            section_depth_max: 100,
            header_fields_max: 200,
            search_depth_max: 32,
            search_keys_max: 1000,
            messages_max: None,
            notify_groups_max: 100,
            notify_names_max: 1000,
            list_patterns_max: 50,
            annotations_max: 100,
            annotation_octets_max: 32 * 1024,
            id_pairs_max: 30,
            bad_commands_max: 20,
            login_failures_max: 5,
            login_time_max: Duration::from_secs(180),
            idle_time_max: Duration::from_secs(30 * 60),
        }
    }
}

/// What every session of a listener shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The bounds.
    pub limits: Limits,
    /// The text of the greeting, after the capabilities.
    pub greeting: String,
    /// Whether STARTTLS is offered where the connection is not yet private.
    pub starttls: bool,
    /// Whether a password may be sent where the connection is not private.
    pub plaintext_login: bool,
    /// The mechanisms of AUTHENTICATE; those that the connection is good for are offered.
    pub mechanisms: MechanismSet,
    /// The fields of the ID response (RFC 2971), name and value; none answers NIL.
    pub id: Vec<(String, String)>,
    /// Capabilities that are not announced to anybody.
    pub hidden: Vec<String>,
    /// Clients from which some are kept that they cannot handle.
    pub clients: Vec<ClientRule>,
}

/// What is kept from a client that names itself by ID (RFC 2971).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientRule {
    /// Its name: `*` stands for anything, `?` for one character; letters have no case.
    pub name: String,
    /// Its version in the same way.
    pub version: String,
    /// The capabilities that it is not told of.
    pub hide: Vec<String>,
}

impl ClientRule {
    /// Whether a client is meant. A client that does not tell its version has an empty one.
    pub fn applies_to(&self, name: &str, version: &str) -> bool {
        resembles(&self.name, name) && resembles(&self.version, version)
    }
}

/// Whether a text is of the form of a pattern. What `*` took is taken back one character at a time, for the last `*`
/// only, which is enough.
fn resembles(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let text: Vec<char> = text.to_lowercase().chars().collect();
    let (mut at, mut read) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while read < text.len() {
        match (pattern.get(at), text.get(read)) {
            (Some('*'), _) => {
                at += 1;
                retry = Some((at, read));
            }
            (Some(wanted), Some(found)) if *wanted == '?' || wanted == found => {
                at += 1;
                read += 1;
            }
            _ => match retry {
                Some((after, taken)) => {
                    at = after;
                    read = taken + 1;
                    retry = Some((after, read));
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|left| *left == '*')
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            greeting: "Nightmail ready".into(),
            starttls: true,
            plaintext_login: false,
            mechanisms: [Mechanism::Plain, Mechanism::Login].into_iter().collect(),
            id: vec![("name".into(), "Nightmail".into())],
            hidden: Vec::new(),
            clients: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_apart_by_name_and_version() {
        let rule = |name: &str, version: &str| ClientRule {
            name: name.into(),
            version: version.into(),
            hide: Vec::new(),
        };
        assert!(rule("*Mail*", "*").applies_to("Apple mail", ""));
        assert!(rule("mail", "1.?.*").applies_to("MAIL", "1.2.3"));
        assert!(!rule("mail", "1.?.*").applies_to("mail", "1.22"));
        assert!(!rule("mail", "").applies_to("mail", "2"));
        assert!(rule("a*b*c", "*").applies_to("aXbbYc", "1"));
        assert!(!rule("a*b*c", "*").applies_to("aXc", "1"));
        assert!(!rule("?", "*").applies_to("", ""));
    }
}
