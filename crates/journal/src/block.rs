//! The form of a block: events column by column, packed.
//!
//! Each column begins with a version byte, as rows do. Times and queue ids are differences to those before; a text that
//! is the same as the one before in its column takes one octet.

use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{QueueId, Timestamp};
use nightmail_engine::{RowKey, Value};

use crate::error::BlockError;
use crate::event::{Event, EventKind};
use crate::filter;
use crate::key::BlockId;
use crate::term::{bare, clip, each_term, hash};

const VERSION: u8 = 1;
/// Set in the octet of a kind: there is a queue id.
const HAS_QUEUE_ID: u8 = 0x80;
/// In place of a text's length: there is none; it is the one before. Lengths are greater by [`LENGTH_BASE`].
const ABSENT: u64 = 0;
const SAME: u64 = 1;
const LENGTH_BASE: u64 = 2;
/// What an event takes beside its texts, roughly.
const EVENT_OCTETS: usize = 24;
/// Fast, and little worse than the higher ones on texts like these.
const LEVEL: i32 = 3;
/// Octets of a block unpacked; what says it is larger is damaged.
const PLAIN_OCTETS_MAX: usize = 64 << 20;

/// Events on their way into a block.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    events: u32,
    octets: usize,
    time: i64,
    queue_id: u64,
    kinds: Column,
    times: Column,
    queue_ids: Column,
    message_ids: Column,
    senders: Column,
    recipients: Column,
    hosts: Column,
    statuses: Column,
    texts: Column,
}

#[derive(Debug)]
struct Column {
    row: RowWriter,
    last: String,
}

impl Default for Column {
    fn default() -> Self {
        Self {
            row: RowWriter::new(VERSION),
            last: String::new(),
        }
    }
}

impl Column {
    fn text(&mut self, text: Option<&str>) {
        match text.map(clip) {
            None => {
                self.row.varint(ABSENT);
            }
            Some(text) if text == self.last => {
                self.row.varint(SAME);
            }
            Some(text) => {
                self.row.varint(text.len() as u64 + LENGTH_BASE);
                self.row.fixed(text.as_bytes());
                self.last.clear();
                self.last.push_str(text);
            }
        }
    }
}

/// What an event takes in memory while it waits, roughly, in octets.
pub(crate) fn octets(event: &Event) -> usize {
    let texts = [
        &event.message_id,
        &event.sender,
        &event.recipient,
        &event.host,
        &event.status,
        &event.text,
    ];
    let long = texts.into_iter().flatten().map(|text| clip(text).len());
    EVENT_OCTETS + long.sum::<usize>()
}

impl Draft {
    /// How many events there are.
    pub(crate) const fn events(&self) -> u32 {
        self.events
    }

    /// What they take in memory, roughly, in octets.
    pub(crate) const fn octets(&self) -> usize {
        self.octets
    }

    /// Adds an event, which takes so many octets.
    pub(crate) fn push(&mut self, event: &Event, octets: usize) {
        let queue_flag = match event.queue_id {
            Some(_) => HAS_QUEUE_ID,
            None => 0,
        };
        self.kinds.row.u8(event.kind.code() | queue_flag);
        let time = event.at.millis();
        self.times.row.varint(zigzag(time.wrapping_sub(self.time)));
        self.time = time;
        if let Some(id) = event.queue_id {
            let step = id.get().wrapping_sub(self.queue_id) as i64;
            self.queue_ids.row.varint(zigzag(step));
            self.queue_id = id.get();
        }
        self.message_ids.text(event.message_id.as_deref().map(bare));
        self.senders.text(event.sender.as_deref().map(bare));
        self.recipients.text(event.recipient.as_deref().map(bare));
        self.hosts.text(event.host.as_deref());
        self.statuses.text(event.status.as_deref());
        self.texts.text(event.text.as_deref());
        self.events += 1;
        self.octets += octets;
    }

    /// The columns behind one another.
    pub(crate) fn finish(mut self) -> Plain {
        let mut row = RowWriter::new(VERSION);
        for column in [
            &mut self.kinds,
            &mut self.times,
            &mut self.queue_ids,
            &mut self.message_ids,
            &mut self.senders,
            &mut self.recipients,
            &mut self.hosts,
            &mut self.statuses,
            &mut self.texts,
        ] {
            row.bytes(&column.row.finish());
        }
        Plain(row.finish())
    }
}

/// A block as it is in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plain(Vec<u8>);

impl Plain {
    /// The block as it is stored.
    pub(crate) fn pack(&self) -> Result<Vec<u8>, BlockError> {
        let packed = zstd::bulk::compress(&self.0, LEVEL)?;
        let mut row = RowWriter::new(VERSION);
        Ok(row.varint(self.0.len() as u64).fixed(&packed).finish())
    }

    /// A stored block, unpacked.
    pub(crate) fn unpack(stored: &[u8]) -> Result<Self, BlockError> {
        let (mut row, _) = RowReader::new(stored, VERSION)?;
        let size = usize::try_from(row.varint()?).ok();
        let size = size.filter(|size| *size <= PLAIN_OCTETS_MAX);
        let size = size.ok_or(RowError::Invalid("size"))?;
        Ok(Self(zstd::bulk::decompress(row.rest(), size)?))
    }

    /// Its events, in the order in which they were noted.
    pub(crate) fn events(&self) -> Result<Events<'_>, BlockError> {
        let (mut row, _) = RowReader::new(&self.0, VERSION)?;
        let mut column = || Ok::<_, RowError>(RowReader::new(row.bytes()?, VERSION)?.0);
        Ok(Events {
            kinds: column()?,
            times: column()?,
            queue_ids: column()?,
            message_ids: Texts::new(column()?),
            senders: Texts::new(column()?),
            recipients: Texts::new(column()?),
            hosts: Texts::new(column()?),
            statuses: Texts::new(column()?),
            texts: Texts::new(column()?),
            time: 0,
            queue_id: 0,
        })
    }

    /// The filter of its terms.
    pub(crate) fn filter(&self) -> Result<Vec<u8>, BlockError> {
        let mut hashes = Vec::new();
        let mut room = String::new();
        let mut events = self.events()?;
        while let Some(event) = events.next()? {
            each_term(&event, &mut room, |term| hashes.push(hash(term)));
        }
        let mut row = RowWriter::new(VERSION);
        Ok(row.fixed(&filter::build(hashes)).finish())
    }
}

/// The rows of a block: itself and its filter.
pub(crate) fn rows(id: BlockId, draft: Draft) -> Result<[(RowKey, Value); 2], BlockError> {
    let plain = draft.finish();
    Ok([
        (id.block(), plain.pack()?.into()),
        (id.filter(), plain.filter()?.into()),
    ])
}

/// A filter as it is stored, without its version byte.
pub(crate) fn stored_filter(stored: &[u8]) -> Result<&[u8], BlockError> {
    Ok(RowReader::new(stored, VERSION)?.0.rest())
}

/// An event in a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventRef<'a> {
    pub(crate) at: Timestamp,
    pub(crate) kind: EventKind,
    pub(crate) queue_id: Option<QueueId>,
    pub(crate) message_id: Option<&'a str>,
    pub(crate) sender: Option<&'a str>,
    pub(crate) recipient: Option<&'a str>,
    host: Option<&'a str>,
    status: Option<&'a str>,
    text: Option<&'a str>,
}

impl EventRef<'_> {
    /// The event by itself.
    pub(crate) fn to_event(self) -> Event {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Event {
            at: self.at,
            kind: self.kind,
            queue_id: self.queue_id,
            message_id: owned(self.message_id),
            sender: owned(self.sender),
            recipient: owned(self.recipient),
            host: owned(self.host),
            status: owned(self.status),
            text: owned(self.text),
        }
    }
}

/// Reads the events of a block.
pub(crate) struct Events<'a> {
    kinds: RowReader<'a>,
    times: RowReader<'a>,
    queue_ids: RowReader<'a>,
    message_ids: Texts<'a>,
    senders: Texts<'a>,
    recipients: Texts<'a>,
    hosts: Texts<'a>,
    statuses: Texts<'a>,
    texts: Texts<'a>,
    time: i64,
    queue_id: u64,
}

struct Texts<'a> {
    column: RowReader<'a>,
    last: &'a str,
}

impl<'a> Texts<'a> {
    const fn new(column: RowReader<'a>) -> Self {
        Self { column, last: "" }
    }

    fn next(&mut self) -> Result<Option<&'a str>, RowError> {
        match self.column.varint()? {
            ABSENT => return Ok(None),
            SAME => {}
            length => {
                let length = usize::try_from(length - LENGTH_BASE);
                let text = self.column.fixed(length.map_err(|_| RowError::Short)?)?;
                self.last = std::str::from_utf8(text).map_err(|_| RowError::Invalid("utf-8"))?;
            }
        }
        Ok(Some(self.last))
    }
}

impl<'a> Events<'a> {
    /// The next event; `None` behind the last.
    pub(crate) fn next(&mut self) -> Result<Option<EventRef<'a>>, BlockError> {
        if self.kinds.rest().is_empty() {
            return Ok(None);
        }
        let kind = self.kinds.u8()?;
        let step = unzigzag(self.times.varint()?);
        self.time = self.time.wrapping_add(step);
        let queue_id = match kind & HAS_QUEUE_ID {
            0 => None,
            _ => {
                let step = unzigzag(self.queue_ids.varint()?);
                self.queue_id = self.queue_id.wrapping_add(step as u64);
                Some(QueueId::new(self.queue_id))
            }
        };
        let code = kind & !HAS_QUEUE_ID;
        Ok(Some(EventRef {
            at: Timestamp::from_millis(self.time),
            kind: EventKind::from_code(code).ok_or(RowError::Invalid("kind"))?,
            queue_id,
            message_id: self.message_ids.next()?,
            sender: self.senders.next()?,
            recipient: self.recipients.next()?,
            host: self.hosts.next()?,
            status: self.statuses.next()?,
            text: self.texts.next()?,
        }))
    }
}

/// Small numbers of both signs as small numbers.
const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::term::asked;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = Option<String>> {
        proptest::option::of("[a-cA-C@.é]{0,12}")
    }

    prop_compose! {
        fn event()(
            at: i64,
            kind in proptest::sample::select(EventKind::ALL),
            queue_id in proptest::option::of(any::<u64>()),
            texts in (text(), text(), text(), text(), text(), text()),
        ) -> Event {
            let (message_id, sender, recipient, host, status, text) = texts;
            Event {
                at: Timestamp::from_millis(at),
                kind,
                queue_id: queue_id.map(QueueId::new),
                message_id,
                sender,
                recipient,
                host,
                status,
                text,
            }
        }
    }

    fn block(events: &[Event]) -> Plain {
        let mut draft = Draft::default();
        for event in events {
            draft.push(event, octets(event));
        }
        assert_eq!(draft.events() as usize, events.len());
        draft.finish()
    }

    fn all(block: &Plain) -> Result<Vec<Event>, BlockError> {
        let mut events = block.events()?;
        let mut all = Vec::new();
        while let Some(event) = events.next()? {
            all.push(event.to_event());
        }
        Ok(all)
    }

    proptest! {
        #[test]
        fn a_block_reads_back_as_written(events in proptest::collection::vec(event(), 0..40)) {
            let stored = block(&events).pack().unwrap();
            let read = all(&Plain::unpack(&stored).unwrap()).unwrap();
            prop_assert_eq!(read, events);
        }

        #[test]
        fn the_filter_holds_whatever_an_event_is_asked_for(events in proptest::collection::vec(event(), 1..40)) {
            let filter = block(&events).filter().unwrap();
            let filter = stored_filter(&filter).unwrap();
            for event in &events {
                let id = event.queue_id.map(|id| id.to_string());
                for text in [&event.sender, &event.recipient, &event.message_id, &id].into_iter().flatten() {
                    prop_assert!(text.is_empty() || filter::may_hold(filter, hash(&asked(text))), "{}", text);
                }
                for address in [&event.sender, &event.recipient].into_iter().flatten() {
                    let Some(at) = address.rfind('@') else { continue };
                    prop_assert!(filter::may_hold(filter, hash(&asked(&address[at..]))));
                }
            }
        }

        #[test]
        fn no_octets_make_the_reader_panic(stored: Vec<u8>, plain: Vec<u8>) {
            if let Ok(block) = Plain::unpack(&stored) {
                let _ = all(&block);
            }
            let _ = all(&Plain([&[VERSION][..], &plain].concat()));
            let _ = stored_filter(&stored);
        }
    }

    #[test]
    fn a_block_that_says_it_is_huge_is_refused() {
        let stored = RowWriter::new(VERSION).varint(1 << 40).finish();
        assert!(Plain::unpack(&stored).is_err());
    }

    #[test]
    fn brackets_are_left_out_and_long_texts_are_cut() {
        let event = Event {
            message_id: Some("<a@b>".to_owned()),
            sender: Some("<>".to_owned()),
            text: Some("x".repeat(2000)),
            ..Event::new(Timestamp::from_millis(5), EventKind::Accepted)
        };
        let read = all(&block(&[event])).unwrap().remove(0);
        assert_eq!(read.message_id.as_deref(), Some("a@b"));
        assert_eq!(read.sender.as_deref(), Some(""));
        assert_eq!(read.text.unwrap().len(), Event::TEXT_OCTETS_MAX);
    }
}
