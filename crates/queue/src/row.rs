//! The byte form of a queued message.

use bytes::Bytes;
use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{AccountId, Address, BlobId, QueueId, ReversePath, Timestamp};
use nightmail_engine::{RowKey, Space};

use crate::destination::RelayName;
use crate::rank::Rank;
use crate::record::{
    Attempt, BodyType, DeliverBy, Demands, Notify, QueueMessage, Recipient, RecipientState, Ret,
    Source, Unrouted, Waiting,
};

/// Version 1 ends with the recipients: no demands, nothing held back. Version 2 has no rank, and its recipients
/// neither wait for anything but a time nor are they held or rerouted.
const VERSION: u8 = 3;

const REQUIRE_TLS: u8 = 1;
const DELIVER_BY: u8 = 1 << 1;
const DELIVER_BY_NOTIFY: u8 = 1 << 2;
const DELIVER_BY_TRACE: u8 = 1 << 3;
const HOLD: u8 = 1 << 4;
const UNROUTED: u8 = 1 << 5;
const TLS_OPTIONAL: u8 = 1 << 6;

/// The key of a message's row.
pub(crate) fn message_key(id: QueueId) -> RowKey {
    RowKey::new(Space::Queue, id.to_be_bytes())
}

/// Reads a key of the `Queue` space.
pub(crate) fn parse_message_key(key: &[u8]) -> Result<QueueId, RowError> {
    let raw = key.try_into().map_err(|_| RowError::Invalid("queue id"))?;
    Ok(QueueId::new(u64::from_be_bytes(raw)))
}

impl QueueMessage {
    /// The byte form.
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.encode_as(VERSION)
    }

    /// The byte form of a version, as far as that can say what there is to say.
    fn encode_as(&self, version: u8) -> Vec<u8> {
        let mut row = RowWriter::new(version);
        row.i64(self.created.millis());
        write_option(
            &mut row,
            self.reverse_path
                .address()
                .map(Address::to_string)
                .as_deref(),
        );
        row.fixed(self.blob.as_bytes())
            .bytes(&self.prefix)
            .varint(self.blob_size);
        row.u8(body_number(self.body))
            .u8(u8::from(self.smtputf8))
            .u8(ret_number(self.ret));
        write_option(&mut row, self.envid.as_deref());
        write_source(&mut row, self.source);
        row.varint(self.recipients.len() as u64);
        for recipient in &self.recipients {
            write_recipient(&mut row, recipient);
            if version >= 3 {
                write_waiting(&mut row, recipient);
            }
        }
        if version >= 2 {
            write_demands(&mut row, &self.demands, self.unrouted);
        }
        if version >= 3 {
            row.u8(self.rank.band).i64(self.rank.key);
        }
        row.finish()
    }

    /// Reads the byte form.
    pub(crate) fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut row, version) = RowReader::new(row, VERSION)?;
        let row = &mut row;
        let mut message = Self {
            created: read_time(row)?,
            reverse_path: read_reverse_path(row)?,
            blob: BlobId::new(row.array()?),
            prefix: Bytes::copy_from_slice(row.bytes()?),
            blob_size: row.varint()?,
            body: read_body(row)?,
            smtputf8: row.u8()? != 0,
            ret: read_ret(row)?,
            envid: read_option(row)?,
            source: read_source(row)?,
            recipients: read_recipients(row, version)?,
            demands: Demands::default(),
            unrouted: None,
            rank: Rank::new(Rank::NORMAL, Timestamp::default(), 0),
        };
        if version >= 2 {
            (message.demands, message.unrouted) = read_demands(row)?;
        }
        message.rank = match version {
            ..3 => Rank::new(Rank::NORMAL, message.created, 0),
            _ => Rank {
                band: row.u8()?,
                key: row.i64()?,
            },
        };
        Ok(message)
    }
}

fn write_demands(row: &mut RowWriter, demands: &Demands, unrouted: Option<Unrouted>) {
    let by = demands.deliver_by;
    let flags = [
        (demands.require_tls, REQUIRE_TLS),
        (by.is_some(), DELIVER_BY),
        (by.is_some_and(|by| by.notify), DELIVER_BY_NOTIFY),
        (by.is_some_and(|by| by.trace), DELIVER_BY_TRACE),
        (demands.hold_until.is_some(), HOLD),
        (unrouted.is_some(), UNROUTED),
        (demands.tls_optional, TLS_OPTIONAL),
    ];
    let set = flags.into_iter().filter(|(is_set, _)| *is_set);
    row.u8(demands.priority as u8)
        .u8(set.fold(0, |all, (_, flag)| all | flag));
    if let Some(by) = by {
        row.i64(by.deadline.millis());
    }
    if let Some(until) = demands.hold_until {
        row.i64(until.millis());
    }
    if let Some(unrouted) = unrouted {
        row.u32(unrouted.sealed_octets)
            .varint(unrouted.missing_line_ends);
    }
}

fn read_demands(row: &mut RowReader<'_>) -> Result<(Demands, Option<Unrouted>), RowError> {
    let priority = row.u8()? as i8;
    let flags = row.u8()?;
    let has = |flag: u8| flags & flag != 0;
    let deliver_by = match has(DELIVER_BY) {
        false => None,
        true => Some(DeliverBy {
            deadline: read_time(row)?,
            notify: has(DELIVER_BY_NOTIFY),
            trace: has(DELIVER_BY_TRACE),
        }),
    };
    let demands = Demands {
        priority,
        require_tls: has(REQUIRE_TLS),
        tls_optional: has(TLS_OPTIONAL),
        deliver_by,
        hold_until: has(HOLD).then(|| read_time(row)).transpose()?,
    };
    let unrouted = match has(UNROUTED) {
        false => None,
        true => Some(Unrouted {
            sealed_octets: row.u32()?,
            missing_line_ends: row.varint()?,
        }),
    };
    Ok((demands, unrouted))
}

fn read_time(row: &mut RowReader<'_>) -> Result<Timestamp, RowError> {
    Ok(Timestamp::from_millis(row.i64()?))
}

fn write_option(row: &mut RowWriter, text: Option<&str>) {
    match text {
        None => row.u8(0),
        Some(text) => row.u8(1).str(text),
    };
}

fn read_option(row: &mut RowReader<'_>) -> Result<Option<String>, RowError> {
    match row.u8()? {
        0 => Ok(None),
        _ => Ok(Some(row.str()?.to_owned())),
    }
}

fn read_address(text: &str) -> Result<Address, RowError> {
    Address::parse(text).map_err(|_| RowError::Invalid("address"))
}

fn read_reverse_path(row: &mut RowReader<'_>) -> Result<ReversePath, RowError> {
    match read_option(row)? {
        None => Ok(ReversePath::Null),
        Some(text) => read_address(&text).map(ReversePath::Address),
    }
}

const fn body_number(body: BodyType) -> u8 {
    match body {
        BodyType::SevenBit => 0,
        BodyType::EightBitMime => 1,
        BodyType::BinaryMime => 2,
    }
}

fn read_body(row: &mut RowReader<'_>) -> Result<BodyType, RowError> {
    match row.u8()? {
        0 => Ok(BodyType::SevenBit),
        1 => Ok(BodyType::EightBitMime),
        2 => Ok(BodyType::BinaryMime),
        _ => Err(RowError::Invalid("body type")),
    }
}

const fn ret_number(ret: Option<Ret>) -> u8 {
    match ret {
        None => 0,
        Some(Ret::Full) => 1,
        Some(Ret::Headers) => 2,
    }
}

fn read_ret(row: &mut RowReader<'_>) -> Result<Option<Ret>, RowError> {
    match row.u8()? {
        0 => Ok(None),
        1 => Ok(Some(Ret::Full)),
        2 => Ok(Some(Ret::Headers)),
        _ => Err(RowError::Invalid("ret")),
    }
}

fn write_source(row: &mut RowWriter, source: Source) {
    match source {
        Source::Submission(account) => row.u8(1).u64(account.get()),
        Source::Relay => row.u8(2),
        Source::Local => row.u8(3),
    };
}

fn read_source(row: &mut RowReader<'_>) -> Result<Source, RowError> {
    match row.u8()? {
        1 => Ok(Source::Submission(AccountId::new(row.u64()?))),
        2 => Ok(Source::Relay),
        3 => Ok(Source::Local),
        _ => Err(RowError::Invalid("source")),
    }
}

const fn notify_bits(notify: Notify) -> u8 {
    match notify {
        Notify::Unspecified => 0x80,
        Notify::Never => 0,
        Notify::On {
            success,
            failure,
            delay,
        } => 8 | success as u8 | (failure as u8) << 1 | (delay as u8) << 2,
    }
}

fn read_notify(row: &mut RowReader<'_>) -> Result<Notify, RowError> {
    match row.u8()? {
        0x80 => Ok(Notify::Unspecified),
        0 => Ok(Notify::Never),
        bits @ 8..=15 => Ok(Notify::On {
            success: bits & 1 != 0,
            failure: bits & 2 != 0,
            delay: bits & 4 != 0,
        }),
        _ => Err(RowError::Invalid("notify")),
    }
}

fn write_recipient(row: &mut RowWriter, recipient: &Recipient) {
    row.str(&recipient.address.to_string())
        .u8(notify_bits(recipient.notify));
    write_option(row, recipient.orcpt.as_deref());
    match recipient.state {
        RecipientState::Pending { next_attempt } => row.u8(1).i64(next_attempt.millis()),
        RecipientState::Delivered => row.u8(2),
        RecipientState::Failed => row.u8(3),
    };
    row.varint(u64::from(recipient.attempts))
        .u8(u8::from(recipient.delay_reported));
    match &recipient.last {
        None => {
            row.u8(0);
        }
        Some(attempt) => write_attempt(row.u8(1), attempt),
    }
}

/// What the third version adds to a recipient.
fn write_waiting(row: &mut RowWriter, recipient: &Recipient) {
    row.u8(waiting_number(recipient.waiting));
    write_option(row, recipient.relay.as_ref().map(RelayName::as_str));
    write_option(row, recipient.hold.as_deref());
}

const fn waiting_number(waiting: Waiting) -> u8 {
    match waiting {
        Waiting::Fresh => 0,
        Waiting::Retry => 1,
        Waiting::Window => 2,
        Waiting::Request => 3,
        Waiting::Hurried => 4,
    }
}

fn read_waiting(row: &mut RowReader<'_>) -> Result<Waiting, RowError> {
    match row.u8()? {
        0 => Ok(Waiting::Fresh),
        1 => Ok(Waiting::Retry),
        2 => Ok(Waiting::Window),
        3 => Ok(Waiting::Request),
        4 => Ok(Waiting::Hurried),
        _ => Err(RowError::Invalid("waiting")),
    }
}

fn read_relay(row: &mut RowReader<'_>) -> Result<Option<RelayName>, RowError> {
    let name = read_option(row)?;
    let relay = |name: String| RelayName::new(&name).ok_or(RowError::Invalid("relay"));
    name.map(relay).transpose()
}

fn write_attempt(row: &mut RowWriter, attempt: &Attempt) {
    row.i64(attempt.at.millis());
    write_option(row, attempt.host.as_deref());
    row.str(&attempt.status);
    write_option(row, attempt.reply.as_deref());
    row.str(&attempt.diagnostic);
}

fn read_recipients(row: &mut RowReader<'_>, version: u8) -> Result<Vec<Recipient>, RowError> {
    let count = usize::try_from(row.varint()?).map_err(|_| RowError::Short)?;
    // A recipient takes at least ten bytes: a damaged count does not make this allocate more than the row is long.
    if count > row.rest().len() {
        return Err(RowError::Short);
    }
    (0..count).map(|_| read_recipient(row, version)).collect()
}

fn read_recipient(row: &mut RowReader<'_>, version: u8) -> Result<Recipient, RowError> {
    let mut recipient = Recipient {
        address: read_address(row.str()?)?,
        notify: read_notify(row)?,
        orcpt: read_option(row)?,
        state: match row.u8()? {
            1 => RecipientState::Pending {
                next_attempt: read_time(row)?,
            },
            2 => RecipientState::Delivered,
            3 => RecipientState::Failed,
            _ => return Err(RowError::Invalid("recipient state")),
        },
        attempts: u32::try_from(row.varint()?).map_err(|_| RowError::Invalid("attempts"))?,
        delay_reported: row.u8()? != 0,
        last: match row.u8()? {
            0 => None,
            _ => Some(read_attempt(row)?),
        },
        waiting: Waiting::Fresh,
        relay: None,
        hold: None,
    };
    if version >= 3 {
        recipient.waiting = read_waiting(row)?;
        recipient.relay = read_relay(row)?;
        recipient.hold = read_option(row)?.map(String::into_boxed_str);
    } else if recipient.attempts > 0 {
        recipient.waiting = Waiting::Retry;
    }
    Ok(recipient)
}

fn read_attempt(row: &mut RowReader<'_>) -> Result<Attempt, RowError> {
    Ok(Attempt {
        at: read_time(row)?,
        host: read_option(row)?,
        status: row.str()?.to_owned(),
        reply: read_option(row)?,
        diagnostic: row.str()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attempt() -> impl Strategy<Value = Attempt> {
        (
            any::<i64>(),
            any::<Option<String>>(),
            any::<String>(),
            any::<Option<String>>(),
            any::<String>(),
        )
            .prop_map(|(at, host, status, reply, diagnostic)| {
                let at = Timestamp::from_millis(at);
                Attempt::new(at, host.as_deref(), &status, reply.as_deref(), &diagnostic)
            })
    }

    fn recipient() -> impl Strategy<Value = Recipient> {
        let notify = prop_oneof![
            Just(Notify::Unspecified),
            Just(Notify::Never),
            any::<(bool, bool, bool)>().prop_map(|(success, failure, delay)| Notify::On {
                success,
                failure,
                delay
            }),
        ];
        let state = prop_oneof![
            any::<i64>().prop_map(|at| RecipientState::Pending {
                next_attempt: Timestamp::from_millis(at)
            }),
            Just(RecipientState::Delivered),
            Just(RecipientState::Failed),
        ];
        let last = proptest::option::of(attempt());
        (
            "[a-z]{1,9}",
            notify,
            any::<Option<String>>(),
            state,
            any::<u32>(),
            any::<bool>(),
            last,
            (0u8..5, any::<bool>(), any::<Option<String>>()),
        )
            .prop_map(
                |(local, notify, orcpt, state, attempts, delay_reported, last, more)| Recipient {
                    address: Address::parse(&format!("{local}@x.test")).unwrap(),
                    notify,
                    orcpt,
                    state,
                    attempts,
                    last,
                    delay_reported,
                    waiting: [
                        Waiting::Fresh,
                        Waiting::Retry,
                        Waiting::Window,
                        Waiting::Request,
                        Waiting::Hurried,
                    ][usize::from(more.0)],
                    relay: more.1.then(|| RelayName::new("hub").unwrap()),
                    hold: more.2.map(String::into_boxed_str),
                },
            )
    }

    fn time() -> impl Strategy<Value = Timestamp> {
        any::<i64>().prop_map(Timestamp::from_millis)
    }

    fn demands() -> impl Strategy<Value = Demands> {
        let by = (time(), any::<bool>(), any::<bool>());
        let by = by.prop_map(|(deadline, notify, trace)| DeliverBy {
            deadline,
            notify,
            trace,
        });
        (
            any::<i8>(),
            any::<(bool, bool)>(),
            proptest::option::of(by),
            proptest::option::of(time()),
        )
            .prop_map(|(priority, tls, deliver_by, hold_until)| Demands {
                priority,
                require_tls: tls.0,
                tls_optional: tls.1,
                deliver_by,
                hold_until,
            })
    }

    prop_compose! {
        fn message()(
            created in any::<i64>(),
            null in any::<bool>(),
            blob in any::<[u8; 32]>(),
            prefix in any::<Vec<u8>>(),
            blob_size in any::<u64>(),
            kind in 0usize..3,
            flags in any::<(bool, bool)>(),
            envid in any::<Option<String>>(),
            account in any::<u64>(),
            recipients in proptest::collection::vec(recipient(), 0..5),
            demands in demands(),
            unrouted in any::<Option<(u32, u64)>>(),
            rank in any::<(u8, i64)>(),
        ) -> QueueMessage {
            let sender = Address::parse("\"s p\"@[192.0.2.1]").unwrap();
            QueueMessage {
                created: Timestamp::from_millis(created),
                reverse_path: if null { ReversePath::Null } else { ReversePath::Address(sender) },
                blob: BlobId::new(blob),
                prefix: prefix.into(),
                blob_size,
                body: [BodyType::SevenBit, BodyType::EightBitMime, BodyType::BinaryMime][kind],
                smtputf8: flags.0,
                ret: flags.1.then_some(if flags.0 { Ret::Full } else { Ret::Headers }),
                envid,
                source: [Source::Submission(AccountId::new(account)), Source::Relay, Source::Local][kind],
                recipients,
                demands,
                unrouted: unrouted.map(|(sealed_octets, missing_line_ends)| Unrouted {
                    sealed_octets,
                    missing_line_ends,
                }),
                rank: Rank { band: rank.0, key: rank.1 },
            }
        }
    }

    /// What a message is once a row of an early version has been read.
    fn aged(message: QueueMessage) -> QueueMessage {
        let mut message = message;
        message.rank = Rank::new(Rank::NORMAL, message.created, 0);
        for recipient in &mut message.recipients {
            (recipient.relay, recipient.hold) = (None, None);
            recipient.waiting = match recipient.attempts {
                0 => Waiting::Fresh,
                _ => Waiting::Retry,
            };
        }
        message
    }

    proptest! {
        #[test]
        fn any_message_survives_its_row(message in message()) {
            prop_assert_eq!(QueueMessage::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn a_row_of_the_first_version_has_no_demands(message in message()) {
            let plain = QueueMessage { demands: Demands::default(), unrouted: None, ..message };
            prop_assert_eq!(QueueMessage::decode(&plain.encode_as(1)), Ok(aged(plain)));
        }

        #[test]
        fn a_row_of_the_second_version_has_no_rank(message in message()) {
            prop_assert_eq!(QueueMessage::decode(&message.encode_as(2)), Ok(aged(message)));
        }

        #[test]
        fn a_row_cut_short_is_an_error(message in message(), cut in any::<proptest::sample::Index>()) {
            let row = message.encode();
            let cut = cut.index(row.len());
            prop_assert!(QueueMessage::decode(&row[..cut]).is_err());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(row in any::<Vec<u8>>()) {
            let _ = QueueMessage::decode(&row);
        }
    }
}
