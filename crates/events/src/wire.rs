//! The byte form of a message between nodes.
//!
//! A version byte; kind, node, name, number and commit; then topics in ascending order, each as its kind and the
//! distance of its id from the one before. A reader takes any bytes and never panics.

use std::fmt;

use bytes::Bytes;
use nightmail_commit::Topic;
use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{AccountId, MailboxId};
use thiserror::Error;

/// Bytes of one message at most. As base64 it has 7,467, and PostgreSQL takes fewer than 8,000.
pub const MESSAGE_BYTES_MAX: usize = 5600;

/// Bytes of a node's name at most; a longer one is cut.
pub(crate) const NAME_BYTES_MAX: usize = 64;

const VERSION: u8 = 1;
const HEARTBEAT: u8 = 0;
const TOPICS: u8 = 1;
const EVERYTHING: u8 = 2;

/// Bytes before the topics at most: version, kind, node, name with its length, two varints.
const HEADER_BYTES_MAX: usize = 1 + 1 + 8 + 1 + NAME_BYTES_MAX + 10 + 10;

/// One run of one node: drawn at random when it starts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What one node tells the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Who speaks.
    pub node: NodeId,
    /// Its name, for the operator.
    pub name: String,
    /// Counts the messages of this node that bring news, from 1 without gaps. A heartbeat repeats the last.
    pub number: u64,
    /// The node's last commit that this message or one before it speaks of.
    pub commit: u64,
    /// What it tells.
    pub news: News,
}

/// What a message tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// Nothing new: the node is there.
    Heartbeat,
    /// Something changed under each of these.
    Topics(Vec<Topic>),
    /// More changed than can be named.
    Everything,
}

/// Bytes that are no message.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// It does not read as a message of a version that this program knows.
    #[error("not a message between nodes: {0}")]
    Malformed(#[from] RowError),
}

impl Message {
    /// The byte form; topics come out sorted and each once.
    pub fn encode(&self) -> Bytes {
        let kind = match &self.news {
            News::Heartbeat => HEARTBEAT,
            News::Topics(_) => TOPICS,
            News::Everything => EVERYTHING,
        };
        let mut writer = RowWriter::new(VERSION);
        writer
            .u8(kind)
            .u64(self.node.0)
            .str(cut_name(&self.name))
            .varint(self.number)
            .varint(self.commit);
        if let News::Topics(topics) = &self.news {
            let mut before = None;
            for place in places(topics) {
                writer.u8(place.kind).varint(place.distance(before));
                before = Some(place);
            }
        }
        writer.finish().into()
    }

    /// Reads a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (mut reader, _) = RowReader::new(bytes, VERSION)?;
        let kind = reader.u8()?;
        let node = NodeId(reader.u64()?);
        let name = reader.str()?;
        if name.len() > NAME_BYTES_MAX {
            return Err(RowError::Invalid("name").into());
        }
        let number = reader.varint()?;
        let commit = reader.varint()?;
        let news = match kind {
            HEARTBEAT => News::Heartbeat,
            TOPICS => News::Topics(read_topics(&mut reader)?),
            EVERYTHING => News::Everything,
            _ => return Err(RowError::Invalid("kind").into()),
        };
        if !reader.rest().is_empty() {
            return Err(RowError::Invalid("end").into());
        }
        Ok(Self {
            node,
            name: name.into(),
            number,
            commit,
            news,
        })
    }
}

/// Parts of a set of topics, each of which fits into one message.
pub(crate) fn split(topics: &[Topic]) -> Vec<Vec<Topic>> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut room = MESSAGE_BYTES_MAX - HEADER_BYTES_MAX;
    let mut before = None;
    for place in places(topics) {
        let mut cost = 1 + varint_len(place.distance(before));
        if cost > room {
            parts.push(std::mem::take(&mut part));
            room = MESSAGE_BYTES_MAX - HEADER_BYTES_MAX;
            cost = 1 + varint_len(place.distance(None));
        }
        room -= cost;
        before = Some(place);
        part.extend(place.topic());
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// The longest beginning of a name that fits into a message.
pub(crate) fn cut_name(name: &str) -> &str {
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or_default()
}

/// A topic as kind and id, in the order of the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    kind: u8,
    id: u64,
}

impl Place {
    fn of(topic: &Topic) -> Self {
        let (kind, id) = match topic {
            Topic::Directory => (0, 0),
            Topic::Queue => (1, 0),
            Topic::Mailbox(mailbox) => (2, mailbox.get()),
            Topic::MailboxList(account) => (3, account.get()),
        };
        Self { kind, id }
    }

    fn topic(self) -> Option<Topic> {
        match (self.kind, self.id) {
            (0, 0) => Some(Topic::Directory),
            (1, 0) => Some(Topic::Queue),
            (2, id) => Some(Topic::Mailbox(MailboxId::new(id))),
            (3, id) => Some(Topic::MailboxList(AccountId::new(id))),
            _ => None,
        }
    }

    /// How far the id lies from the one before, where that is of the same kind.
    fn distance(self, before: Option<Self>) -> u64 {
        match before {
            Some(before) if before.kind == self.kind => self.id - before.id,
            _ => self.id,
        }
    }
}

fn places(topics: &[Topic]) -> Vec<Place> {
    let mut places: Vec<Place> = topics.iter().map(Place::of).collect();
    places.sort_unstable();
    places.dedup();
    places
}

fn read_topics(reader: &mut RowReader<'_>) -> Result<Vec<Topic>, RowError> {
    let invalid = RowError::Invalid("topic");
    let mut topics = Vec::new();
    let mut before: Option<Place> = None;
    while !reader.rest().is_empty() {
        let kind = reader.u8()?;
        let distance = reader.varint()?;
        let start = before.filter(|before| before.kind == kind);
        let id = start.map_or(0, |before| before.id).checked_add(distance);
        let place = Place {
            kind,
            id: id.ok_or(invalid)?,
        };
        topics.push(place.topic().ok_or(invalid)?);
        before = Some(place);
    }
    Ok(topics)
}

fn varint_len(value: u64) -> usize {
    let bits = u64::BITS - value.leading_zeros();
    bits.div_ceil(7).max(1) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic() -> impl Strategy<Value = Topic> {
        let id = prop_oneof![0_u64..2000, any::<u64>()];
        prop_oneof![
            1 => Just(Topic::Directory),
            1 => Just(Topic::Queue),
            6 => id.clone().prop_map(|id| Topic::Mailbox(MailboxId::new(id))),
            3 => id.prop_map(|id| Topic::MailboxList(AccountId::new(id))),
        ]
    }

    fn in_order(topics: &[Topic]) -> Vec<Topic> {
        places(topics)
            .into_iter()
            .filter_map(Place::topic)
            .collect()
    }

    fn news() -> impl Strategy<Value = News> {
        prop_oneof![
            Just(News::Heartbeat),
            Just(News::Everything),
            prop::collection::vec(topic(), 0..200)
                .prop_map(|topics| News::Topics(in_order(&topics))),
        ]
    }

    proptest! {
        #[test]
        fn a_message_reads_as_it_was_written(
            node: u64, name in "\\PC{0,16}", number: u64, commit: u64, news in news()
        ) {
            let message = Message { node: NodeId(node), name, number, commit, news };
            let bytes = message.encode();
            prop_assert_eq!(Message::decode(&bytes), Ok(message));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::decode(&bytes);
        }

        #[test]
        fn bytes_that_begin_like_a_message_do_not_either(
            kind in 0_u8..4, tail in prop::collection::vec(any::<u8>(), 0..300)
        ) {
            let bytes = [[VERSION, kind].as_slice(), &tail].concat();
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert_eq!(Message::decode(&message.encode()).map(|again| again.number), Ok(message.number));
            }
        }

        #[test]
        fn a_message_cut_short_is_never_taken_for_one_with_other_numbers(
            news in news(), number: u64, at: prop::sample::Index
        ) {
            let message = Message { node: NodeId(1), name: "a".into(), number, commit: 2, news };
            let bytes = message.encode();
            if let Ok(cut) = Message::decode(&bytes[..at.index(bytes.len())]) {
                prop_assert_eq!((cut.node, cut.number, cut.commit), (message.node, number, 2));
            }
        }

        #[test]
        fn every_part_of_a_set_fits_into_a_message(
            topics in prop::collection::vec(topic(), 0..6000)
        ) {
            let parts = split(&topics);
            for part in &parts {
                let message = Message {
                    node: NodeId(u64::MAX),
                    name: "ä".repeat(100),
                    number: u64::MAX,
                    commit: u64::MAX,
                    news: News::Topics(part.clone()),
                };
                prop_assert!(message.encode().len() <= MESSAGE_BYTES_MAX);
            }
            prop_assert_eq!(parts.concat(), in_order(&topics));
        }
    }

    #[test]
    fn neighbouring_mailboxes_share_a_message() {
        let topics: Vec<Topic> = (1_000_000..1_002_500)
            .map(|id| Topic::Mailbox(MailboxId::new(id)))
            .collect();
        assert_eq!(split(&topics).len(), 1);
        assert!(split(&[]).is_empty());
    }

    #[test]
    fn a_newer_version_is_told_apart() {
        let unknown = WireError::Malformed(RowError::Version(2));
        assert_eq!(Message::decode(&[2, 0, 0]), Err(unknown));
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let name = format!("x{}", "ä".repeat(40));
        assert_eq!(cut_name(&name).len(), 63);
        assert_eq!(cut_name("mx1"), "mx1");
    }
}
