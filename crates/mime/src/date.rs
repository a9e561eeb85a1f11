//! The date a message says it was sent (RFC 5322 §3.3, obsolete forms of §4.3, and what else is met).

use nightmail_core::Timestamp;
use nightmail_core::time::{Civil, month_number};

use crate::lex;

/// A point in time with the zone it was written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SentDate {
    /// The point in time, in whole seconds.
    pub time: Timestamp,
    /// Minutes east of UTC.
    pub offset_minutes: i16,
}

impl SentDate {
    /// Days since 1970-01-01 in the zone it was written in: what `SENTSINCE` compares (RFC 3501 §6.4.4).
    pub const fn local_days(self) -> i64 {
        self.time
            .plus_millis(self.offset_minutes as i64 * 60_000)
            .days()
    }
}

const OBSOLETE_ZONES: [(&str, i16); 8] = [
    ("EST", -300),
    ("EDT", -240),
    ("CST", -360),
    ("CDT", -300),
    ("MST", -420),
    ("MDT", -360),
    ("PST", -480),
    ("PDT", -420),
];

/// More words than this are no date.
const WORDS_MAX: usize = 16;

/// Parses a Date value. Day, month and year are needed; a missing time is midnight, an unknown zone is UTC.
pub fn parse(value: &[u8]) -> Option<SentDate> {
    let mut fields = DateFields::default();
    for word in words(value) {
        fields.word(&word);
    }
    fields.finish()
}

#[derive(Default)]
struct DateFields {
    day: Option<u8>,
    month: Option<u8>,
    year: Option<i64>,
    time: Option<[u8; 3]>,
    offset_minutes: Option<i16>,
}

impl DateFields {
    fn word(&mut self, word: &[u8]) {
        let Ok(word) = std::str::from_utf8(word) else {
            return;
        };
        match word.as_bytes().first() {
            Some(b'+' | b'-') => self.zone(numeric_zone(word)),
            Some(b'0'..=b'9') if word.contains(':') => self.time = self.time.or(time_of_day(word)),
            Some(b'0'..=b'9') => self.number(word),
            _ => self.name(word),
        }
    }

    fn zone(&mut self, offset_minutes: Option<i16>) {
        if self.time.is_some() && self.offset_minutes.is_none() {
            self.offset_minutes = offset_minutes;
        }
    }

    fn number(&mut self, word: &str) {
        let Ok(number) = word.parse::<i64>() else {
            return;
        };
        if self.day.is_none() && word.len() <= 2 && (1..=31).contains(&number) {
            self.day = Some(number as u8);
        } else if self.year.is_none() {
            self.year = Some(match (word.len(), number) {
                (..=2, ..50) => 2000 + number,
                (..=2, _) | (3, _) => 1900 + number,
                _ => number,
            });
        }
    }

    fn name(&mut self, word: &str) {
        let month = word.get(..3).and_then(month_number);
        if self.month.is_none() && month.is_some() {
            self.month = month;
            return;
        }
        let zone = OBSOLETE_ZONES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word));
        self.zone(zone.map(|(_, offset)| *offset));
    }

    fn finish(self) -> Option<SentDate> {
        let [hour, minute, second] = self.time.unwrap_or_default();
        let civil = Civil {
            year: self.year?,
            month: self.month?,
            day: self.day?,
            hour,
            minute,
            second,
        };
        let offset_minutes = self.offset_minutes.unwrap_or(0);
        Some(SentDate {
            time: Timestamp::from_civil(civil, i32::from(offset_minutes))?,
            offset_minutes,
        })
    }
}

/// Cuts a value into words at white space, commas, comments and the hyphens of `22-Nov-2026`. A sign that
/// follows a time of day begins a word of its own.
fn words(value: &[u8]) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut word = Vec::new();
    let mut rest = value;
    while let Some((&byte, after)) = rest.split_first() {
        let is_sign = matches!(byte, b'+' | b'-');
        let ends_word = lex::is_space(byte) || byte == b',' || byte == b'(';
        if (ends_word || is_sign) && !word.is_empty() {
            let sign_of_zone = is_sign && word.contains(&b':');
            words.push(std::mem::take(&mut word));
            if sign_of_zone {
                word.push(byte);
            }
        } else if !ends_word {
            word.push(byte);
        }
        rest = if byte == b'(' {
            lex::comment(rest).1
        } else {
            after
        };
        if words.len() >= WORDS_MAX {
            break;
        }
    }
    words.push(word);
    words
}

/// `hh:mm`, `hh:mm:ss`, and fractions of a second, which are dropped.
fn time_of_day(word: &str) -> Option<[u8; 3]> {
    let mut parts = word.split([':', '.']);
    let hour = parts.next()?.parse().ok()?;
    let minute = parts.next()?.parse().ok()?;
    let second = parts.next().map_or(Some(0), |second| second.parse().ok())?;
    Some([hour, minute, second])
}

/// `+hhmm`, with or without a colon.
fn numeric_zone(word: &str) -> Option<i16> {
    let digits: String = word.chars().filter(char::is_ascii_digit).collect();
    let (hours, minutes) = digits.split_at_checked(2)?;
    let minutes = minutes.get(..2).unwrap_or("0");
    let offset = hours.parse::<i16>().ok()? * 60 + minutes.parse::<i16>().ok()?;
    if offset >= 24 * 60 {
        return None;
    }
    Some(if word.starts_with('-') {
        -offset
    } else {
        offset
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> String {
        parse(value.as_bytes()).map_or("-".into(), |sent| {
            format!("{} {}", sent.time, sent.offset_minutes)
        })
    }

    #[test]
    fn dates_are_read_as_software_writes_them() {
        for (value, expected) in [
            (
                "Sun, 22 Nov 2026 16:22:00 +0000",
                "2026-11-22T16:22:00.000Z 0",
            ),
            (
                "Mon, 23 Nov 2026 01:00:00 +0900 (JST)",
                "2026-11-22T16:00:00.000Z 540",
            ),
            ("22 Nov 2026 16:22 -0530", "2026-11-22T21:52:00.000Z -330"),
            ("1 Jan 98 00:00:00 EST", "1998-01-01T05:00:00.000Z -300"),
            ("1 Jan 03 00:00:00 GMT", "2003-01-01T00:00:00.000Z 0"),
            ("1 Jan 103 00:00:00 Z", "2003-01-01T00:00:00.000Z 0"),
            ("Sun Nov 22 16:22:00 2026", "2026-11-22T16:22:00.000Z 0"),
            ("22-Nov-2026 16:22:00+0100", "2026-11-22T15:22:00.000Z 60"),
            ("Wed,02 September 2026 1:2:3", "2026-09-02T01:02:03.000Z 0"),
            ("2 Sep 2026", "2026-09-02T00:00:00.000Z 0"),
            (
                "2 Sep 2026 10:00:00.123 PDT",
                "2026-09-02T17:00:00.000Z -420",
            ),
            (
                "(c) 2 (x (y)) Sep\r\n 2026 10:00:00 -0000",
                "2026-09-02T10:00:00.000Z 0",
            ),
        ] {
            assert_eq!(shown(value), expected, "{value:?}");
        }
    }

    #[test]
    fn what_names_no_day_is_no_date() {
        for value in [
            "",
            "now",
            "31 Feb 2026 00:00:00 +0000",
            "1 Jan",
            "1 Jan 2026 25:00:00",
            "99999999999999999999 Jan 1",
        ] {
            assert_eq!(shown(value), "-", "{value:?}");
        }
    }

    #[test]
    fn the_day_of_search_is_the_senders_day() {
        let sent = parse(b"23 Nov 2026 01:00:00 +0900").unwrap();
        let same_day = parse(b"23 Nov 2026 12:00:00 +0000").unwrap();
        assert_eq!(sent.local_days(), same_day.local_days());
        assert_eq!(sent.time.days() + 1, sent.local_days());
    }
}
