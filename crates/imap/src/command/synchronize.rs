//! The parameters by which a client synchronizes: of SELECT (RFC 7162 §3.1.8, §3.2.5), FETCH (§3.1.4, RFC 9394 §3.3) and
//! STORE (§3.1.3).

use nightmail_core::{ModSeq, Uid, UidValidity};

use super::fetch::PartialRange;
use super::select::Select;
use crate::io::{MatchedRun, Resync};
use crate::parse::{ParseError, Parser, Result};
use crate::set::{UidSet, UidSetSpec};

/// Modification sequences have 63 bits (RFC 7162 §1).
const MODSEQ_MAX: u64 = i64::MAX as u64;
/// Parameters of one command.
const PARAMETERS_MAX: usize = 8;

/// A modification sequence that may be zero.
pub(super) fn modseq(parser: &mut Parser<'_>) -> Result<ModSeq> {
    match parser.number64()? {
        raw if raw <= MODSEQ_MAX => Ok(ModSeq::new(raw)),
        _ => Err(ParseError::Syntax("the number is too great")),
    }
}

/// What stands after the mailbox of SELECT.
pub(super) fn select_parameters(parser: &mut Parser<'_>, select: &mut Select) -> Result<()> {
    parser.list(PARAMETERS_MAX, "parameters", |parser| {
        if parser.eat_word("CONDSTORE") {
            select.condstore = true;
            return Ok(());
        }
        if !parser.eat_word("QRESYNC") {
            return Err(ParseError::Syntax("no such parameter"));
        }
        parser.space()?;
        parser.expect(b'(', "expected a parenthesis")?;
        select.resync = Some(Box::new(resync(parser)?));
        Ok(())
    })?;
    Ok(())
}

fn resync(parser: &mut Parser<'_>) -> Result<Resync> {
    let uid_validity = UidValidity::new(parser.nz_number()?);
    let uid_validity = uid_validity.ok_or(ParseError::Syntax("not a UIDVALIDITY"))?;
    parser.space()?;
    let mut resync = Resync {
        uid_validity,
        modseq: modseq(parser)?,
        known: None,
        matched: Vec::new(),
    };
    while !parser.eat(b')') {
        parser.space()?;
        if parser.eat(b'(') {
            resync.matched = matched(parser)?;
            parser.expect(b')', "expected a parenthesis")?;
            break;
        }
        if resync.known.is_some() {
            return Err(ParseError::Syntax("expected a parenthesis"));
        }
        resync.known = Some(exact(&parser.uid_set()?)?);
    }
    Ok(resync)
}

fn exact(spec: &UidSetSpec) -> Result<UidSet> {
    spec.exact()
        .ok_or(ParseError::Syntax("* is not allowed here"))
}

/// Sequence numbers and as many UIDs, both ascending, up to the closing parenthesis.
fn matched(parser: &mut Parser<'_>) -> Result<Vec<MatchedRun>> {
    let numbers = exact(&parser.uid_set()?)?;
    parser.space()?;
    let uids = exact(&parser.uid_set()?)?;
    parser.expect(b')', "expected a parenthesis")?;
    pair(&numbers, &uids).ok_or(ParseError::Syntax("the sets are not equally long"))
}

/// Pairs the members of two sets by their order.
fn pair(numbers: &UidSet, uids: &UidSet) -> Option<Vec<MatchedRun>> {
    let mut runs = Vec::new();
    let mut seqs = numbers.ranges().map(|(low, high)| (low.get(), high.get()));
    let mut left: Option<(u32, u32)> = None;
    for (low, high) in uids.ranges() {
        let (mut uid, last) = (low.get(), high.get());
        loop {
            let (seq, seq_last) = left.take().or_else(|| seqs.next())?;
            let steps = (last - uid).min(seq_last - seq);
            runs.push(MatchedRun {
                seq,
                uid: Uid::new(uid)?,
                count: steps.saturating_add(1),
            });
            if seq + steps < seq_last {
                left = Some((seq + steps + 1, seq_last));
            }
            if uid + steps == last {
                break;
            }
            uid += steps + 1;
        }
    }
    (left.is_none() && seqs.next().is_none()).then_some(runs)
}

/// What stands after the items of FETCH.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FetchModifiers {
    /// `CHANGEDSINCE`: only messages that changed after this.
    pub changed_since: Option<ModSeq>,
    /// `VANISHED`: also UIDs that were expunged after it.
    pub vanished: bool,
    /// `PARTIAL`: only so many of those found.
    pub partial: Option<PartialRange>,
}

pub(super) fn fetch_modifiers(parser: &mut Parser<'_>, by_uid: bool) -> Result<FetchModifiers> {
    let mut modifiers = FetchModifiers::default();
    if parser.is_at_end() {
        return Ok(modifiers);
    }
    parser.space()?;
    parser.list(PARAMETERS_MAX, "modifiers", |parser| {
        if parser.eat_word("CHANGEDSINCE") {
            parser.space()?;
            modifiers.changed_since = Some(modseq(parser)?);
        } else if by_uid && parser.eat_word("VANISHED") {
            modifiers.vanished = true;
        } else if by_uid && parser.eat_word("PARTIAL") {
            parser.space()?;
            modifiers.partial = Some(PartialRange::parse(parser)?);
        } else {
            return Err(ParseError::Syntax("no such modifier"));
        }
        Ok(())
    })?;
    if modifiers.vanished && modifiers.changed_since.is_none() {
        return Err(ParseError::Syntax("VANISHED needs CHANGEDSINCE"));
    }
    Ok(modifiers)
}

/// What stands before the item of STORE, and the space after it.
pub(super) fn unchanged_since(parser: &mut Parser<'_>) -> Result<Option<ModSeq>> {
    if parser.peek() != Some(b'(') {
        return Ok(None);
    }
    let found = parser.list(1, "modifiers", |parser| {
        if !parser.eat_word("UNCHANGEDSINCE") {
            return Err(ParseError::Syntax("no such modifier"));
        }
        parser.space()?;
        modseq(parser)
    })?;
    parser.space()?;
    Ok(found.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(uids: &[u32]) -> UidSet {
        uids.iter().filter_map(|raw| Uid::new(*raw)).collect()
    }

    #[test]
    fn sets_of_different_length_are_no_pairs() {
        assert_eq!(pair(&set(&[1, 2]), &set(&[1])), None);
        assert_eq!(pair(&set(&[1]), &set(&[1, 5])), None);
        let top = UidSet::range(Uid::FIRST, Uid::new(u32::MAX).unwrap());
        assert_eq!(pair(&top, &top).unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn pairs_are_those_of_the_members(
            pairs in proptest::collection::btree_map(1u32..50, 1u32..4, 1..30)
        ) {
            let numbers: Vec<u32> = pairs.keys().copied().collect();
            let uids: Vec<u32> = pairs.values().scan(0, |uid, step| {
                *uid += step;
                Some(*uid)
            }).collect();
            let runs = pair(&set(&numbers), &set(&uids)).unwrap();
            let members = runs.iter().flat_map(|run| {
                (0..run.count).map(|step| (run.seq + step, run.uid.get() + step))
            });
            prop_assert!(members.eq(numbers.into_iter().zip(uids)));
        }
    }
}
