//! Results of a search and how they are told: the plain responses, and ESEARCH with its options (RFC 4731, RFC 5182,
//! RFC 9394; for SORT RFC 5267).

use std::fmt;

use bytes::{BufMut, BytesMut};
use nightmail_core::{ModSeq, Uid, UidValidity};

use crate::name::MailboxName;
use crate::parse::{ParseError, Parser, Result};
use crate::set::UidSet;
use crate::write;

/// What of the results is wanted: the options of RETURN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Returns {
    /// The first.
    pub min: bool,
    /// The last.
    pub max: bool,
    /// All.
    pub all: bool,
    /// How many.
    pub count: bool,
    /// Keep them as `$` (RFC 5182).
    pub save: bool,
    /// Some, by their place among all (RFC 9394).
    pub partial: Option<Places>,
}

/// Places in a list of results.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Places {
    /// Counted from the end.
    pub from_end: bool,
    /// The nearer end, from 1.
    pub first: u32,
    /// The farther end.
    pub last: u32,
}

impl Places {
    /// Reads `1:500` or `-1:-500`.
    pub(crate) fn parse(parser: &mut Parser<'_>) -> Result<Self> {
        let from_end = parser.eat(b'-');
        let first = parser.nz_number()?;
        parser.expect(b':', "expected two places")?;
        if from_end {
            parser.expect(b'-', "both places count from the same end")?;
        }
        let second = parser.nz_number()?;
        Ok(Self {
            from_end,
            first: first.min(second),
            last: first.max(second),
        })
    }

    /// Those of the results that lie there.
    pub(crate) fn of<T>(self, results: &[T]) -> &[T] {
        let (first, last) = (self.first as usize - 1, self.last as usize);
        let len = results.len();
        let (start, end) = match self.from_end {
            true => (len.saturating_sub(last), len.saturating_sub(first)),
            false => (first.min(len), last.min(len)),
        };
        results.get(start..end).unwrap_or_default()
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.from_end { "-" } else { "" };
        write!(f, "{sign}{}:{sign}{}", self.first, self.last)
    }
}

impl Returns {
    /// RETURN (ALL).
    pub const ALL: Self = Self {
        min: false,
        max: false,
        all: true,
        count: false,
        save: false,
        partial: None,
    };

    /// Reads the parenthesized options after RETURN and its space.
    pub(crate) fn parse(parser: &mut Parser<'_>) -> Result<Self> {
        let mut returns = Self::default();
        parser.expect(b'(', "expected a parenthesis")?;
        if !parser.eat(b')') {
            returns.option(parser)?;
            while !parser.eat(b')') {
                parser.space()?;
                returns.option(parser)?;
            }
        }
        if returns.all && returns.partial.is_some() {
            return Err(ParseError::Syntax("ALL and PARTIAL exclude each other"));
        }
        if returns == Self::default() {
            return Ok(Self::ALL);
        }
        Ok(returns)
    }

    fn option(&mut self, parser: &mut Parser<'_>) -> Result<()> {
        match parser.atom()?.to_ascii_uppercase().as_str() {
            "MIN" => self.min = true,
            "MAX" => self.max = true,
            "ALL" => self.all = true,
            "COUNT" => self.count = true,
            "SAVE" => self.save = true,
            "PARTIAL" if self.partial.is_none() => {
                parser.space()?;
                self.partial = Some(Places::parse(parser)?);
            }
            _ => return Err(ParseError::Syntax("no such return option")),
        }
        Ok(())
    }

    /// Whether the results are kept and nothing of them is told.
    pub(crate) fn is_save_alone(&self) -> bool {
        self.save
            && *self
                == Self {
                    save: true,
                    ..Self::default()
                }
    }

    /// What `$` becomes (RFC 5182 §2.4, RFC 9394 §3.3): all, unless only some were asked for.
    pub(crate) fn saved(&self, rows: &[Row]) -> UidSet {
        let some = self.min || self.max || self.partial.is_some();
        let chosen = if some && !self.all && !self.count {
            self.chosen(rows)
        } else {
            rows.iter().map(|row| row.uid).collect()
        };
        UidSet::from_ranges(chosen.into_iter().map(|uid| (uid, uid)))
    }

    fn chosen(&self, rows: &[Row]) -> Vec<Uid> {
        let partial = self.partial.map_or(&[][..], |places| places.of(rows));
        let first = rows.first().filter(|_| self.min);
        let last = rows.last().filter(|_| self.max);
        let all = partial.iter().chain(first).chain(last);
        all.map(|row| row.uid).collect()
    }

    /// The highest modification sequence of what is told (RFC 7162 §3.1.10).
    fn modseq(&self, rows: &[Row]) -> Option<ModSeq> {
        if self.all || self.count {
            return highest(rows);
        }
        let partial = self.partial.and_then(|places| highest(places.of(rows)));
        let end = |row: Option<&Row>, wanted: bool| row.filter(|_| wanted)?.modseq;
        let first = end(rows.first(), self.min);
        let last = end(rows.last(), self.max);
        [partial, first, last].into_iter().flatten().max()
    }
}

/// A message found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    pub(crate) uid: Uid,
    /// What it is told by: its sequence number or its UID.
    pub(crate) number: u32,
    pub(crate) modseq: Option<ModSeq>,
}

fn highest(rows: &[Row]) -> Option<ModSeq> {
    rows.iter().filter_map(|row| row.modseq).max()
}

/// What an ESEARCH response begins with.
pub(crate) struct Head<'a> {
    pub(crate) tag: Box<str>,
    pub(crate) mailbox: Option<(&'a MailboxName, UidValidity)>,
    pub(crate) by_uid: bool,
    /// Whether names are written in UTF-8.
    pub(crate) utf8: bool,
}

/// `* SEARCH 2 84 882` and `* SORT 882 84 2`.
pub(crate) fn write_plain(out: &mut BytesMut, name: &str, rows: &[Row]) {
    out.put_slice(b"* ");
    out.put_slice(name.as_bytes());
    for row in rows {
        out.put_u8(b' ');
        write::number(out, u64::from(row.number));
    }
    if let Some(modseq) = highest(rows) {
        write::display(out, format_args!(" (MODSEQ {modseq})"));
    }
    out.put_slice(b"\r\n");
}

/// An ESEARCH response. The rows are in the order in which they are to be told.
pub(crate) fn write(
    out: &mut BytesMut,
    head: &Head<'_>,
    returns: &Returns,
    rows: &[Row],
    sorted: bool,
) {
    write_head(out, head);
    let mut one = |name: &str, row: Option<&Row>| {
        if let Some(row) = row {
            write::display(out, format_args!(" {name} {}", row.number));
        }
    };
    one("MIN", rows.first().filter(|_| returns.min));
    one("MAX", rows.last().filter(|_| returns.max));
    if returns.count {
        write::display(out, format_args!(" COUNT {}", rows.len()));
    }
    if returns.all && !rows.is_empty() {
        out.put_slice(b" ALL ");
        write_numbers(out, rows, sorted);
    }
    if let Some(places) = returns.partial {
        write::display(out, format_args!(" PARTIAL ({places} "));
        match places.of(rows) {
            [] => out.put_slice(b"NIL"),
            some => write_numbers(out, some, sorted),
        }
        out.put_u8(b')');
    }
    if let Some(modseq) = returns.modseq(rows) {
        write::display(out, format_args!(" MODSEQ {modseq}"));
    }
    out.put_slice(b"\r\n");
}

fn write_head(out: &mut BytesMut, head: &Head<'_>) {
    out.put_slice(b"* ESEARCH (TAG ");
    write::quoted(out, &head.tag);
    if let Some((name, validity)) = head.mailbox {
        out.put_slice(b" MAILBOX ");
        write::mailbox(out, name, head.utf8);
        write::display(out, format_args!(" UIDVALIDITY {validity}"));
    }
    out.put_u8(b')');
    if head.by_uid {
        out.put_slice(b" UID");
    }
}

/// Numbers as a sequence set. Neighbours become a range, in a sorted list only where they ascend one by one: there the
/// order says something.
fn write_numbers(out: &mut BytesMut, rows: &[Row], sorted: bool) {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for row in rows {
        match runs.last_mut() {
            Some((_, end)) if row.number == end.wrapping_add(1) => *end = row.number,
            _ => runs.push((row.number, row.number)),
        }
    }
    debug_assert!(sorted || runs.is_sorted());
    for (index, (first, last)) in runs.into_iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        write::number(out, u64::from(first));
        if last != first {
            out.put_u8(b':');
            write::number(out, u64::from(last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use proptest::prelude::*;

    fn returns(text: &str) -> Result<Returns> {
        let limits = Limits::default();
        Returns::parse(&mut Parser::new(text.as_bytes(), &limits))
    }

    #[test]
    fn options_come_in_any_order_and_not_without_sense() {
        assert_eq!(returns("()"), Ok(Returns::ALL));
        assert!(returns("(SAVE)").unwrap().is_save_alone());
        let both = returns("(max PARTIAL -5:-1)").unwrap();
        assert!(both.max && !both.all && !both.is_save_alone());
        assert_eq!(both.partial.unwrap().to_string(), "-1:-5");
        for text in [
            "(FOO)",
            "(MIN MAX",
            "MIN",
            "( MIN)",
            "(PARTIAL)",
            "(PARTIAL 0:1)",
            "(PARTIAL -1:5)",
            "(PARTIAL 1:-5)",
            "(PARTIAL 1:2 PARTIAL 3:4)",
            "(ALL PARTIAL 1:2)",
        ] {
            assert!(returns(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn places_are_those_of_the_list(first in 1u32..12, last in 1u32..12, from_end: bool, len in 0usize..10) {
            let sign = if from_end { "-" } else { "" };
            let text = format!("{sign}{first}:{sign}{last}");
            let limits = Limits::default();
            let places = Places::parse(&mut Parser::new(text.as_bytes(), &limits)).unwrap();
            let results: Vec<u32> = (1..=len as u32).collect();
            let lies_there = |place: &u32| (first.min(last)..=first.max(last)).contains(place);
            let place = |index: usize| if from_end { len - index } else { index + 1 } as u32;
            let model: Vec<u32> = (0..len).filter(|index| lies_there(&place(*index))).map(|index| results[index]).collect();
            prop_assert_eq!(places.of(&results), model);
        }
    }
}
