//! The byte form of a structure, kept as blob metadata.
//!
//! Ranges are written as distances and absent values take no octet but a bit, so that a usual message needs a
//! few hundred octets, most of them the envelope.

use nightmail_core::Timestamp;
use nightmail_core::codec::{RowError, RowReader, RowWriter};

use crate::address::{ListItem, Mailbox};
use crate::content::{Disposition, MediaType, Parameter};
use crate::date::SentDate;
use crate::envelope::Envelope;
use crate::scanner::DEPTH_MAX;
use crate::structure::{Content, Message, Part, Structure};
use crate::trace::Trace;

const VERSION: u8 = 1;

impl Structure {
    /// The byte form.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.varint(self.octets);
        row.varint(u64::from(self.trace.bits()));
        row.varint(u64::from(self.trace.received_count));
        write_list(&mut row, &self.trace.delivered_to, |row, value| {
            row.bytes(value);
        });
        write_message(&mut row, &self.message, 0);
        row.finish()
    }

    /// Reads the byte form. Fails where it is cut, of a newer version, or holds ranges beyond the message.
    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (row, _) = RowReader::new(row, VERSION)?;
        let mut reader = Reader {
            row,
            octets: 0,
            depth: 0,
        };
        reader.octets = reader.row.varint()?;
        let trace = Trace::from_bits(reader.u32()?);
        let structure = Self {
            octets: reader.octets,
            trace: Trace {
                received_count: reader.u32()?,
                delivered_to: reader.list(Reader::bytes)?,
                ..trace
            },
            message: reader.message(0)?,
        };
        if reader.row.rest().is_empty() {
            Ok(structure)
        } else {
            Err(RowError::Invalid("octets after the structure"))
        }
    }
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn write_list<T>(row: &mut RowWriter, list: &[T], mut write: impl FnMut(&mut RowWriter, &T)) {
    row.varint(list.len() as u64);
    for item in list {
        write(row, item);
    }
}

/// Bit `index` of a set of flags, where the value is there.
const fn bit(is_there: bool, index: u32) -> u64 {
    (is_there as u64) << index
}

fn write_options<const N: usize>(row: &mut RowWriter, values: [&Option<Vec<u8>>; N]) {
    for value in values.into_iter().flatten() {
        row.bytes(value);
    }
}

fn write_message(row: &mut RowWriter, message: &Message, base: u64) {
    write_envelope(row, &message.envelope);
    write_part(row, &message.root, base);
}

fn write_envelope(row: &mut RowWriter, envelope: &Envelope) {
    let lists = envelope_lists(envelope);
    let mut flags = bit(envelope.date.is_some(), 0)
        | bit(envelope.subject.is_some(), 1)
        | bit(envelope.in_reply_to.is_some(), 2)
        | bit(envelope.message_id.is_some(), 3)
        | bit(envelope.sent.is_some(), 4);
    for (index, list) in (5..).zip(lists) {
        flags |= bit(!list.is_empty(), index);
    }
    row.varint(flags);
    write_options(
        row,
        [
            &envelope.date,
            &envelope.subject,
            &envelope.in_reply_to,
            &envelope.message_id,
        ],
    );
    if let Some(sent) = envelope.sent {
        row.varint(zigzag(sent.time.secs()));
        row.varint(zigzag(i64::from(sent.offset_minutes)));
    }
    for list in lists.into_iter().filter(|list| !list.is_empty()) {
        write_list(row, list, write_item);
    }
}

fn envelope_lists(envelope: &Envelope) -> [&[ListItem]; 6] {
    [
        &envelope.from,
        &envelope.header_sender,
        &envelope.header_reply_to,
        &envelope.to,
        &envelope.cc,
        &envelope.bcc,
    ]
}

const GROUP_START: u8 = 1;
const GROUP_END: u8 = 2;
const MAILBOX: u8 = 8;

fn write_item(row: &mut RowWriter, item: &ListItem) {
    match item {
        ListItem::GroupStart(name) => {
            row.u8(GROUP_START).bytes(name);
        }
        ListItem::GroupEnd => {
            row.u8(GROUP_END);
        }
        ListItem::Mailbox(mailbox) => {
            let flags = bit(mailbox.name.is_some(), 0)
                | bit(mailbox.route.is_some(), 1)
                | bit(mailbox.domain.is_some(), 2);
            row.u8(MAILBOX | flags as u8).bytes(&mailbox.local_part);
            write_options(row, [&mailbox.name, &mailbox.route, &mailbox.domain]);
        }
    }
}

fn write_part(row: &mut RowWriter, part: &Part, base: u64) {
    let has_media = part.media != MediaType::default();
    let content = match part.content {
        Content::Leaf => 0,
        Content::Multipart(_) => 1,
        Content::Message(_) => 2,
    };
    let flags = content
        | bit(has_media, 2)
        | bit(part.disposition.is_some(), 3)
        | bit(!part.languages.is_empty(), 4)
        | bit(part.encoding.is_some(), 5)
        | bit(part.id.is_some(), 6)
        | bit(part.description.is_some(), 7)
        | bit(part.location.is_some(), 8)
        | bit(part.md5.is_some(), 9);
    row.varint(flags)
        .varint(part.header.start.saturating_sub(base))
        .varint(part.header.end.saturating_sub(part.header.start))
        .varint(part.body.start.saturating_sub(part.header.end))
        .varint(part.octets())
        .varint(part.lines);
    if has_media {
        row.bytes(&part.media.main).bytes(&part.media.subtype);
        write_list(row, &part.media.parameters, write_parameter);
    }
    if let Some(disposition) = &part.disposition {
        row.bytes(&disposition.kind);
        write_list(row, &disposition.parameters, write_parameter);
    }
    if !part.languages.is_empty() {
        write_list(row, &part.languages, |row, tag| {
            row.bytes(tag);
        });
    }
    let options = [
        &part.encoding,
        &part.id,
        &part.description,
        &part.location,
        &part.md5,
    ];
    write_options(row, options);
    match &part.content {
        Content::Leaf => {}
        Content::Multipart(children) => {
            write_list(row, children, |row, child| {
                write_part(row, child, part.body.start);
            });
        }
        Content::Message(message) => write_message(row, message, part.body.start),
    }
}

fn write_parameter(row: &mut RowWriter, parameter: &Parameter) {
    row.bytes(&parameter.name).bytes(&parameter.value);
}

struct Reader<'a> {
    row: RowReader<'a>,
    octets: u64,
    depth: usize,
}

impl Reader<'_> {
    fn u32(&mut self) -> Result<u32, RowError> {
        u32::try_from(self.row.varint()?).map_err(|_| RowError::Invalid("count"))
    }

    fn bytes(&mut self) -> Result<Vec<u8>, RowError> {
        self.row.bytes().map(<[u8]>::to_vec)
    }

    /// Reads the value if bit `index` says it is there.
    fn option(&mut self, flags: u64, index: u32) -> Result<Option<Vec<u8>>, RowError> {
        if flags & bit(true, index) == 0 {
            return Ok(None);
        }
        self.bytes().map(Some)
    }

    /// Every item takes at least one octet of the row, so a false count fails soon.
    fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, RowError>,
    ) -> Result<Vec<T>, RowError> {
        let count = self.row.varint()?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(read(self)?);
        }
        Ok(list)
    }

    fn message(&mut self, base: u64) -> Result<Message, RowError> {
        Ok(Message {
            envelope: self.envelope()?,
            root: self.part(base)?,
        })
    }

    fn envelope(&mut self) -> Result<Envelope, RowError> {
        let flags = self.row.varint()?;
        let mut envelope = Envelope {
            date: self.option(flags, 0)?,
            subject: self.option(flags, 1)?,
            in_reply_to: self.option(flags, 2)?,
            message_id: self.option(flags, 3)?,
            ..Envelope::default()
        };
        if flags & bit(true, 4) != 0 {
            envelope.sent = Some(self.sent()?);
        }
        let lists = [
            &mut envelope.from,
            &mut envelope.header_sender,
            &mut envelope.header_reply_to,
            &mut envelope.to,
            &mut envelope.cc,
            &mut envelope.bcc,
        ];
        for (index, list) in (5..).zip(lists) {
            if flags & bit(true, index) != 0 {
                *list = self.list(Self::item)?;
            }
        }
        Ok(envelope)
    }

    fn sent(&mut self) -> Result<SentDate, RowError> {
        let secs = unzigzag(self.row.varint()?);
        let time = Timestamp::from_secs(secs);
        if time.secs() != secs {
            return Err(RowError::Invalid("time"));
        }
        let offset = unzigzag(self.row.varint()?);
        Ok(SentDate {
            time,
            offset_minutes: i16::try_from(offset).map_err(|_| RowError::Invalid("zone"))?,
        })
    }

    fn item(&mut self) -> Result<ListItem, RowError> {
        let kind = self.row.u8()?;
        match kind {
            GROUP_START => self.bytes().map(ListItem::GroupStart),
            GROUP_END => Ok(ListItem::GroupEnd),
            MAILBOX..=15 => {
                let flags = u64::from(kind);
                let local_part = self.bytes()?;
                Ok(ListItem::Mailbox(Mailbox {
                    name: self.option(flags, 0)?,
                    route: self.option(flags, 1)?,
                    domain: self.option(flags, 2)?,
                    local_part,
                }))
            }
            _ => Err(RowError::Invalid("list item")),
        }
    }

    /// Reads a distance from `from`, which must stay inside the message.
    fn place(&mut self, from: u64) -> Result<u64, RowError> {
        from.checked_add(self.row.varint()?)
            .filter(|&place| place <= self.octets)
            .ok_or(RowError::Invalid("range"))
    }

    fn part(&mut self, base: u64) -> Result<Part, RowError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(RowError::Invalid("depth"));
        }
        let flags = self.row.varint()?;
        let header_start = self.place(base)?;
        let header_end = self.place(header_start)?;
        let body_start = self.place(header_end)?;
        let body_end = self.place(body_start)?;
        let mut part = Part {
            header: header_start..header_end,
            body: body_start..body_end,
            lines: self.row.varint()?,
            ..Part::default()
        };
        self.fields(flags, &mut part)?;
        part.content = match flags & 3 {
            0 => Content::Leaf,
            1 => Content::Multipart(self.list(|reader| reader.part(body_start))?),
            2 => Content::Message(Box::new(self.message(body_start)?)),
            _ => return Err(RowError::Invalid("content")),
        };
        self.depth -= 1;
        Ok(part)
    }

    fn fields(&mut self, flags: u64, part: &mut Part) -> Result<(), RowError> {
        if flags & bit(true, 2) != 0 {
            part.media = MediaType {
                main: self.bytes()?,
                subtype: self.bytes()?,
                parameters: self.list(Self::parameter)?,
            };
        }
        if flags & bit(true, 3) != 0 {
            part.disposition = Some(Disposition {
                kind: self.bytes()?,
                parameters: self.list(Self::parameter)?,
            });
        }
        if flags & bit(true, 4) != 0 {
            part.languages = self.list(Self::bytes)?;
        }
        part.encoding = self.option(flags, 5)?;
        part.id = self.option(flags, 6)?;
        part.description = self.option(flags, 7)?;
        part.location = self.option(flags, 8)?;
        part.md5 = self.option(flags, 9)?;
        Ok(())
    }

    fn parameter(&mut self) -> Result<Parameter, RowError> {
        Ok(Parameter {
            name: self.bytes()?,
            value: self.bytes()?,
        })
    }
}
