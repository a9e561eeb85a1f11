//! UIDBATCHES (RFC 10022): the mailbox in pieces of so many messages, newest first.
//!
//! The ranges lie close to one another and reach down to the first UID, so that every UID there is lies in one of them.

use bytes::BufMut;
use nightmail_core::Uid;

use super::Command;
use crate::parse::{Parser, Result};
use crate::session::Session;
use crate::write;

/// A smaller batch is refused (RFC 10022 §3.1.5 asks for no more).
const BATCH_MESSAGES_MIN: u32 = 500;
/// More messages in a range of batches are refused.
const RANGE_MESSAGES_MAX: u64 = 100_000;

/// The arguments of UIDBATCHES.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UidBatches {
    /// Messages in a batch.
    pub size: u32,
    /// Which batches, the newest is 1; none: all.
    pub range: Option<(u32, u32)>,
}

pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Command> {
    parser.space()?;
    let size = parser.nz_number()?;
    let mut range = None;
    if parser.eat(b' ') {
        let first = parser.nz_number()?;
        parser.expect(b':', "expected a range of batches")?;
        range = Some((first, parser.nz_number()?));
    }
    parser.end()?;
    Ok(Command::UidBatches(UidBatches { size, range }))
}

pub(crate) fn run(session: &mut Session, asked: UidBatches) {
    let UidBatches { size, range } = asked;
    let (first, last) = range.unwrap_or((1, u32::MAX));
    if first > last {
        return session.bad_with("CLIENTBUG", "The range is written backwards");
    }
    if size < BATCH_MESSAGES_MIN {
        let text = format!("A batch has at least {BATCH_MESSAGES_MIN} messages");
        return session.no_with("TOOFEW", &text);
    }
    let messages = (u64::from(last - first) + 1) * u64::from(size);
    if range.is_some() && last > first && messages > RANGE_MESSAGES_MAX {
        let text = format!("A range has at most {RANGE_MESSAGES_MAX} messages");
        return session.no_with("TOOMANY", &text);
    }
    let tag = session.tag();
    let (out, view) = session.text_and_view();
    let Some(view) = view else { return };
    out.put_slice(b"* UIDBATCHES (TAG ");
    write::quoted(out, &tag);
    out.put_u8(b')');
    let skipped = (first - 1) as usize;
    let wanted = (last - first) as usize + 1;
    let ranges = batches(view.uids(), size as usize);
    for (index, (high, low)) in ranges.skip(skipped).take(wanted).enumerate() {
        out.put_u8(if index == 0 { b' ' } else { b',' });
        write::display(out, format_args!("{high}:{low}"));
    }
    out.put_slice(b"\r\n");
    session.ok("Batches told");
}

/// The highest and lowest UID of each batch, newest first. A gap below a batch belongs to it, so that ranges touch.
fn batches(uids: &[Uid], size: usize) -> impl Iterator<Item = (u32, u32)> + '_ {
    let mut rest = uids;
    std::iter::from_fn(move || {
        let high = rest.last()?.get();
        rest = rest.get(..rest.len().saturating_sub(size))?;
        let low = rest.last().map_or(1, |below| below.get() + 1);
        Some((high, low))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn batches_part_the_mailbox(raw in proptest::collection::btree_set(1u32..300, 0..60), size in 1usize..20) {
            let raw: BTreeSet<u32> = raw;
            let uids: Vec<Uid> = raw.iter().map(|raw| Uid::new(*raw).unwrap()).collect();
            let found: Vec<_> = batches(&uids, size).collect();
            prop_assert_eq!(found.len(), uids.len().div_ceil(size));
            prop_assert_eq!(found.first().map(|range| range.0), raw.last().copied());
            for (index, (high, low)) in found.iter().enumerate() {
                let count = raw.range(low..=high).count();
                let is_last = index + 1 == found.len();
                let is_right = if is_last { *low == 1 && count <= size } else { count == size };
                prop_assert!(is_right);
            }
            for pair in found.windows(2) {
                prop_assert_eq!(pair[1].0, pair[0].1 - 1);
            }
        }
    }
}
