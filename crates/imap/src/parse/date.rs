//! Dates (RFC 3501 §9 `date`, `date-time`).

use nightmail_core::Timestamp;
use nightmail_core::time::{Civil, month_number};

use super::{ParseError, Parser, Result};

/// A calendar day, as days since 1970-01-01. SEARCH compares days without regard to time and zone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Day(i64);

impl Day {
    /// From days since 1970-01-01.
    pub const fn new(days: i64) -> Self {
        Self(days)
    }

    /// Days since 1970-01-01.
    pub const fn get(self) -> i64 {
        self.0
    }
}

const BAD_DATE: ParseError = ParseError::Syntax("expected a date such as 1-Feb-2026");
const BAD_DATE_TIME: ParseError =
    ParseError::Syntax("expected a date and time such as \" 1-Feb-2026 13:05:00 +0100\"");

fn number<T: std::str::FromStr>(
    digits: &str,
    lengths: std::ops::RangeInclusive<usize>,
) -> Option<T> {
    let valid = lengths.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    valid.then(|| digits.parse().ok()).flatten()
}

/// `1-Feb-2026`, at midnight.
fn civil_day(text: &str) -> Option<Civil> {
    let mut fields = text.split('-');
    let civil = Civil {
        day: number(fields.next()?, 1..=2)?,
        month: month_number(fields.next()?)?,
        year: number(fields.next()?, 4..=4)?,
        hour: 0,
        minute: 0,
        second: 0,
    };
    fields.next().is_none().then_some(civil)
}

/// `1-Feb-2026 13:05:00 +0100`.
fn timestamp(text: &str) -> Option<Timestamp> {
    let mut fields = text.split(' ');
    let day = civil_day(fields.next()?)?;
    let mut time = fields.next()?.split(':');
    let civil = Civil {
        hour: number(time.next()?, 2..=2)?,
        minute: number(time.next()?, 2..=2)?,
        second: number(time.next()?, 2..=2)?,
        ..day
    };
    let offset = zone_minutes(fields.next()?)?;
    let ended = time.next().is_none() && fields.next().is_none();
    ended
        .then(|| Timestamp::from_civil(civil, offset))
        .flatten()
}

/// Minutes east of UTC of `+hhmm` or `-hhmm`.
fn zone_minutes(zone: &str) -> Option<i32> {
    let (sign, digits) = zone.split_at_checked(1)?;
    let hhmm: i32 = number(digits, 4..=4)?;
    let minutes = (hhmm % 100 < 60).then_some(hhmm / 100 * 60 + hhmm % 100)?;
    match sign {
        "+" => Some(minutes),
        "-" => Some(-minutes),
        _ => None,
    }
}

/// `2026-02-01T13:05:00+01:00` (RFC 3339 §5.6); a fraction of a second is passed over.
pub(crate) fn rfc3339(text: &str) -> Option<Timestamp> {
    let (day, time) = text.split_once(['T', 't'])?;
    let mut day = day.split('-');
    let at = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at_checked(at)?;
    let time = time.split_once('.').map_or(time, |(time, _)| time);
    let mut time = time.split(':');
    let civil = Civil {
        year: number(day.next()?, 4..=4)?,
        month: number(day.next()?, 2..=2)?,
        day: number(day.next()?, 2..=2)?,
        hour: number(time.next()?, 2..=2)?,
        minute: number(time.next()?, 2..=2)?,
        second: number(time.next()?, 2..=2)?,
    };
    let offset = match zone.eq_ignore_ascii_case("Z") {
        true => 0,
        false => zone_minutes(&zone.replacen(':', "", 1))?,
    };
    let ended = day.next().is_none() && time.next().is_none();
    ended
        .then(|| Timestamp::from_civil(civil, offset))
        .flatten()
}

impl Parser<'_> {
    /// A day, with or without quotes.
    pub fn day(&mut self) -> Result<Day> {
        let text = self.astring()?;
        std::str::from_utf8(&text)
            .ok()
            .and_then(civil_day)
            .and_then(|civil| Timestamp::from_civil(civil, 0))
            .map(|midnight| Day(midnight.days()))
            .ok_or(BAD_DATE)
    }

    /// A quoted date, time and zone; the day may be padded by a space.
    pub fn date_time(&mut self) -> Result<Timestamp> {
        if self.peek() != Some(b'"') {
            return Err(BAD_DATE_TIME);
        }
        let text = self.string()?;
        let text = std::str::from_utf8(&text).map_err(|_| BAD_DATE_TIME)?;
        timestamp(text.strip_prefix(' ').unwrap_or(text)).ok_or(BAD_DATE_TIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use proptest::prelude::*;

    fn date_time(text: &str) -> Option<Timestamp> {
        Parser::new(text.as_bytes(), &Limits::default())
            .date_time()
            .ok()
    }

    #[test]
    fn zones_are_taken_off() {
        let noon = date_time("\"22-Nov-2026 12:00:00 +0000\"");
        assert!(noon.is_some());
        assert_eq!(date_time("\"22-nov-2026 14:30:00 +0230\""), noon);
        assert_eq!(date_time("\"22-NOV-2026 04:00:00 -0800\""), noon);
        assert_eq!(
            date_time("\" 1-Feb-2026 00:00:00 +0000\""),
            date_time("\"01-Feb-2026 00:00:00 +0000\"")
        );
    }

    #[test]
    fn dates_that_are_none_are_refused() {
        for text in [
            "22-Nov-2026 12:00:00 +0000",
            "\"22-Nov-26 12:00:00 +0000\"",
            "\"31-Feb-2026 12:00:00 +0000\"",
            "\"22-Nov-2026 12:00 +0000\"",
            "\"22-Nov-2026 12:00:00\"",
            "\"22-Nov-2026 12:00:00 0000\"",
            "\"22-Nov-2026 12:00:00 +0060\"",
            "\"22-Nov-2026 12:00:00:00 +0000\"",
            "\"22-Nov-2026-1 12:00:00 +0000\"",
            "\"+2-Nov-2026 12:00:00 +0000\"",
            "\"22-Nov-2026 12:00:00 +0000 \"",
        ] {
            assert_eq!(date_time(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_fetch_writes_append_reads(secs in 0i64..253_000_000_000) {
            let time = Timestamp::from_secs(secs);
            prop_assert_eq!(date_time(&format!("\"{}\"", time.imap_date_time())), Some(time));
        }
    }
}
