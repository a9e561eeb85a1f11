//! Points in time, and the two forms mail writes them in.
//!
//! Civil-date arithmetic follows Howard Hinnant's "chrono-compatible low-level date algorithms".

use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z. Whoever owns a clock makes it; L0 only formats and compares.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(i64);

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

/// A date and time of day in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Civil {
    /// Year, proleptic Gregorian.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60: a leap second is read as the first second of the next minute.
    pub second: u8,
}

impl Timestamp {
    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From seconds since the epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This time and `millis` more.
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Days since the epoch, in UTC.
    pub const fn days(self) -> i64 {
        self.0.div_euclid(86_400_000)
    }

    /// The UTC date and time of day.
    pub fn civil(self) -> Civil {
        let (year, month, day) = civil_from_days(self.days());
        let second = self.secs().rem_euclid(86_400);
        Civil {
            year,
            month,
            day,
            hour: (second / 3600) as u8,
            minute: (second / 60 % 60) as u8,
            second: (second % 60) as u8,
        }
    }

    /// From a date and time in a zone `offset_minutes` east of UTC; `None` when a field is out of range.
    pub fn from_civil(civil: Civil, offset_minutes: i32) -> Option<Self> {
        let Civil {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = civil;
        let in_range = (0..=9999).contains(&year)
            && (1..=12).contains(&month)
            && day >= 1
            && day <= days_in_month(year, month)
            && hour < 24
            && minute < 60
            && second <= 60;
        if !in_range || offset_minutes.abs() >= 24 * 60 {
            return None;
        }
        let of_day = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
        let secs =
            days_from_civil(year, month, day) * 86_400 + of_day - i64::from(offset_minutes) * 60;
        Some(Self::from_secs(secs))
    }

    /// RFC 5322 §3.3 in UTC: `Sun, 22 Nov 2026 16:22:00 +0000`.
    pub fn rfc5322(self) -> String {
        let c = self.civil();
        let weekday = WEEKDAYS
            .get(self.days().rem_euclid(7) as usize)
            .copied()
            .unwrap_or("Thu");
        format!(
            "{weekday}, {} {} {:04} {:02}:{:02}:{:02} +0000",
            c.day,
            month_name(c.month),
            c.year,
            c.hour,
            c.minute,
            c.second
        )
    }

    /// RFC 3501 `date-time` in UTC, without quotes: `22-Nov-2026 16:22:00 +0000`, the day padded by a space.
    pub fn imap_date_time(self) -> String {
        let c = self.civil();
        format!(
            "{:>2}-{}-{:04} {:02}:{:02}:{:02} +0000",
            c.day,
            month_name(c.month),
            c.year,
            c.hour,
            c.minute,
            c.second
        )
    }
}

/// RFC 3339 in UTC, for logs and JSON: `2026-11-22T16:22:00.000Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.civil();
        let millis = self.0.rem_euclid(1000);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{millis:03}Z",
            c.year, c.month, c.day, c.hour, c.minute, c.second
        )
    }
}

/// The English month abbreviation of 1 to 12.
pub fn month_name(month: u8) -> &'static str {
    MONTHS
        .get(usize::from(month).wrapping_sub(1))
        .copied()
        .unwrap_or("Jan")
}

/// 1 to 12 for an English month abbreviation in any case.
pub fn month_number(name: &str) -> Option<u8> {
    MONTHS
        .iter()
        .position(|known| known.eq_ignore_ascii_case(name))
        .map(|index| index as u8 + 1)
}

fn days_in_month(year: i64, month: u8) -> u8 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_from_civil(year: i64, month: u8, day: u8) -> i64 {
    let (month, day) = (i64::from(month), i64::from(day));
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, u8, u8) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u8;
    let month = (if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    }) as u8;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_dates_format_as_the_rfcs_write_them() {
        let time = Timestamp::from_secs(1_795_364_520);
        assert_eq!(time.rfc5322(), "Sun, 22 Nov 2026 16:22:00 +0000");
        assert_eq!(time.imap_date_time(), "22-Nov-2026 16:22:00 +0000");
        assert_eq!(time.to_string(), "2026-11-22T16:22:00.000Z");
        assert_eq!(
            Timestamp::from_millis(-1).to_string(),
            "1969-12-31T23:59:59.999Z"
        );
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        let civil = Civil {
            year: 2025,
            month: 2,
            day: 29,
            hour: 0,
            minute: 0,
            second: 0,
        };
        assert_eq!(Timestamp::from_civil(civil, 0), None);
        assert!(
            Timestamp::from_civil(
                Civil {
                    year: 2024,
                    ..civil
                },
                0
            )
            .is_some()
        );
    }

    proptest! {
        #[test]
        fn civil_and_back_is_the_same_second(secs in 0i64..253_000_000_000, offset in -720i32..=840) {
            let time = Timestamp::from_secs(secs);
            let shifted = time.plus_millis(i64::from(offset) * 60_000);
            if shifted.secs() >= 0 {
                prop_assert_eq!(Timestamp::from_civil(shifted.civil(), offset), Some(time));
            }
        }
    }
}
