//! What a sender may ask about the way of a message: MT-PRIORITY (RFC 6710), BY (RFC 2852), HOLDFOR and HOLDUNTIL
//! (RFC 4865), as values of parameters of MAIL.

use std::fmt;

use nightmail_core::Timestamp;
use nightmail_core::time::Civil;

/// Digits of a number of seconds (RFC 2852 §4, RFC 4865 §4).
const SECONDS_DIGITS_MAX: usize = 9;
/// The priorities of RFC 6710 §3.
const PRIORITIES: std::ops::RangeInclusive<i8> = -9..=9;

/// BY: when a message is to be delivered at the latest, and what happens when it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliverBy {
    /// Seconds from now, at most nine digits. Zero or less only with [`ByMode::Notify`].
    pub seconds: i64,
    /// What happens when the time is over.
    pub mode: ByMode,
    /// Whether each hop tells the sender that it has passed the message on.
    pub trace: bool,
}

/// What happens to a message whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByMode {
    /// It is returned.
    Return,
    /// The sender is told of the delay, and delivery goes on.
    Notify,
}

/// HOLDFOR or HOLDUNTIL: how long a submitted message is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hold {
    /// For so many seconds.
    For(u32),
    /// Until this time, to the second.
    Until(Timestamp),
}

impl DeliverBy {
    /// Parses `seconds;mode[trace]`, such as `120;R` or `-5;NT`.
    pub fn parse(value: &str) -> Option<Self> {
        let (seconds, mode) = value.split_once(';')?;
        let (sign, digits) = match seconds.split_at_checked(1) {
            Some(("-", digits)) => (-1, digits),
            Some(("+", digits)) => (1, digits),
            _ => (1, seconds),
        };
        let (mode, trace) = match mode.to_ascii_uppercase().as_str() {
            "R" => (ByMode::Return, false),
            "RT" => (ByMode::Return, true),
            "N" => (ByMode::Notify, false),
            "NT" => (ByMode::Notify, true),
            _ => return None,
        };
        let seconds = sign * i64::from(number(digits)?);
        (mode == ByMode::Notify || seconds > 0).then_some(Self {
            seconds,
            mode,
            trace,
        })
    }
}

/// The value of BY.
impl fmt::Display for DeliverBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            ByMode::Return => "R",
            ByMode::Notify => "N",
        };
        let trace = if self.trace { "T" } else { "" };
        write!(f, "{};{mode}{trace}", self.seconds)
    }
}

impl Hold {
    /// Parses the value of HOLDFOR, which is never zero.
    pub(super) fn parse_for(value: &str) -> Option<Self> {
        let seconds = number(value).filter(|seconds| *seconds > 0);
        seconds.map(Self::For)
    }

    /// Parses the value of HOLDUNTIL.
    pub(super) fn parse_until(value: &str) -> Option<Self> {
        date_time(value).map(Self::Until)
    }
}

/// The parameter, with its keyword.
impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(seconds) => write!(f, "HOLDFOR={seconds}"),
            Self::Until(time) => write!(f, "HOLDUNTIL={}", rfc3339(*time)),
        }
    }
}

/// Parses the value of MT-PRIORITY.
pub(super) fn priority(value: &str) -> Option<i8> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let plain = digits.len() == 1 && value != "-0";
    let priority = value.parse().ok().filter(|_| plain)?;
    PRIORITIES.contains(&priority).then_some(priority)
}

/// A time in the form of RFC 3339 §5.6, in UTC.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let c = time.civil();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        c.year, c.month, c.day, c.hour, c.minute, c.second
    )
}

/// Reads a `date-time` of RFC 3339 §5.6; fractions of seconds are dropped.
fn date_time(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once(['T', 't'])?;
    let mut date = date.split('-');
    let (time, offset_minutes) = zone(time)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    fraction.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
    let mut time = time.split(':');
    let civil = Civil {
        year: digits_of(date.next()?, 4)?.into(),
        month: digits_of(date.next()?, 2)?.try_into().ok()?,
        day: digits_of(date.next()?, 2)?.try_into().ok()?,
        hour: digits_of(time.next()?, 2)?.try_into().ok()?,
        minute: digits_of(time.next()?, 2)?.try_into().ok()?,
        second: digits_of(time.next()?, 2)?.try_into().ok()?,
    };
    let whole = date.next().is_none() && time.next().is_none() && !fraction.is_empty();
    let time = Timestamp::from_civil(civil, offset_minutes).filter(|_| whole)?;
    // Its printed form must be one that is read again.
    (0..=9999).contains(&time.civil().year).then_some(time)
}

/// Parts the zone from a time; the zone in minutes east of UTC.
fn zone(time: &str) -> Option<(&str, i32)> {
    if let Some(time) = time.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let (time, zone) = time.split_at_checked(time.len().checked_sub(6)?)?;
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (digits_of(hours, 2)?, digits_of(minutes, 2)?);
    let offset = i32::from(hours) * 60 + i32::from(minutes);
    match zone.bytes().next()? {
        _ if hours > 23 || minutes > 59 => None,
        b'+' => Some((time, offset)),
        b'-' => Some((time, -offset)),
        _ => None,
    }
}

/// Exactly so many digits.
fn digits_of(text: &str, count: usize) -> Option<u16> {
    let fits = text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| fits)
}

/// One to nine digits.
fn number(digits: &str) -> Option<u32> {
    let fits = (1..=SECONDS_DIGITS_MAX).contains(&digits.len());
    let all = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| fits && all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliver_by_is_read_as_it_is_written() {
        for (text, shown) in [
            ("120;R", "120;R"),
            ("+0120;rt", "120;RT"),
            ("-5;N", "-5;N"),
            ("0;nt", "0;NT"),
        ] {
            let by = DeliverBy::parse(text).unwrap();
            assert_eq!(by.to_string(), shown);
            assert_eq!(DeliverBy::parse(shown), Some(by));
        }
        for text in [
            "",
            ";R",
            "5",
            "5;",
            "5;X",
            "0;R",
            "-1;R",
            "+;R",
            "1234567890;R",
            "5;TR",
            "--5;N",
        ] {
            assert_eq!(DeliverBy::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_message_is_held_for_at_least_a_second() {
        assert_eq!(Hold::parse_for("1"), Some(Hold::For(1)));
        assert_eq!(Hold::parse_for("999999999"), Some(Hold::For(999_999_999)));
        for text in ["", "0", "00", "-1", "+1", "1000000000"] {
            assert_eq!(Hold::parse_for(text), None, "{text}");
        }
    }

    #[test]
    fn priorities_are_one_digit() {
        assert_eq!(priority("-9"), Some(-9));
        assert_eq!(priority("0"), Some(0));
        assert_eq!(priority("9"), Some(9));
        for text in ["", "-", "+1", "10", "-10", "-0", "a", "01"] {
            assert_eq!(priority(text), None, "{text}");
        }
    }

    #[test]
    fn times_of_rfc_3339_are_read() {
        let time = |text| match Hold::parse_until(text) {
            Some(Hold::Until(time)) => Some(rfc3339(time)),
            _ => None,
        };
        for (text, shown) in [
            ("2026-11-22T16:22:00Z", "2026-11-22T16:22:00Z"),
            ("2026-11-22t16:22:00.5z", "2026-11-22T16:22:00Z"),
            ("2026-11-22T16:22:00+01:30", "2026-11-22T14:52:00Z"),
            ("2026-12-31T23:30:00-01:00", "2027-01-01T00:30:00Z"),
        ] {
            assert_eq!(time(text).as_deref(), Some(shown));
        }
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T16:22Z",
            "2026-11-22T16:22:00",
            "2026-11-22T16:22:00.Z",
            "2026-11-22T16:22:00.xZ",
            "2026-02-30T16:22:00Z",
            "2026-11-22T24:22:00Z",
            "2026-11-22T16:22:00+1:30",
            "2026-11-22T16:22:00+24:00",
            "2026-11-22-1T16:22:00Z",
            "+026-11-22T16:22:00Z",
            "9999-12-31T23:59:59-23:59",
            "é",
        ] {
            assert_eq!(time(text), None, "{text}");
        }
    }
}
