//! Delivery windows: at which times of the week mail may leave.

use std::fmt;
use std::str::FromStr;

use nightmail_core::Timestamp;
use thiserror::Error;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
const WEEK: i64 = 7 * DAY;
/// Minutes of a day.
const DAY_MINUTES: u16 = 24 * 60;

/// A day of the week.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Weekday {
    /// Monday.
    Monday,
    /// Tuesday.
    Tuesday,
    /// Wednesday.
    Wednesday,
    /// Thursday.
    Thursday,
    /// Friday.
    Friday,
    /// Saturday.
    Saturday,
    /// Sunday.
    Sunday,
}

/// What is wrong with a part of a schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ScheduleError {
    /// Not a window.
    #[error("expected a window such as \"08:00-18:00\" or \"22:00-06:00\", not empty")]
    Window,
    /// Not a weekday.
    #[error("expected a day such as \"saturday\" or \"sat\"")]
    Weekday,
    /// Not an offset.
    #[error("expected an offset from UTC such as \"+01:00\"")]
    Offset,
}

impl Weekday {
    /// The days in their order, Monday first.
    pub const ALL: [Self; 7] = [
        Self::Monday,
        Self::Tuesday,
        Self::Wednesday,
        Self::Thursday,
        Self::Friday,
        Self::Saturday,
        Self::Sunday,
    ];

    /// The English name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Monday => "monday",
            Self::Tuesday => "tuesday",
            Self::Wednesday => "wednesday",
            Self::Thursday => "thursday",
            Self::Friday => "friday",
            Self::Saturday => "saturday",
            Self::Sunday => "sunday",
        }
    }
}

impl fmt::Display for Weekday {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Weekday {
    type Err = ScheduleError;

    /// A name, or its first three letters, in any case.
    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let fits = |day: &Self| {
            let name = day.as_str();
            let short = name.split_at_checked(3).map(|(short, _)| short);
            text.eq_ignore_ascii_case(name)
                || short.is_some_and(|short| text.eq_ignore_ascii_case(short))
        };
        Self::ALL
            .into_iter()
            .find(fits)
            .ok_or(ScheduleError::Weekday)
    }
}

/// A part of a day, which may reach into the next: `08:00-18:00`, `22:00-06:00`, `00:00-24:00`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Window {
    /// Minutes from the beginning of the day, below 1440.
    from: u16,
    /// Minutes from the beginning of the same day: up to 1440, or beyond where the window reaches into the next day.
    to: u16,
}

impl Window {
    /// A whole day.
    pub const DAY: Self = Self {
        from: 0,
        to: DAY_MINUTES,
    };
}

impl FromStr for Window {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let (from, to) = text.split_once('-').ok_or(ScheduleError::Window)?;
        let from = time_of_day(from.trim()).filter(|from| *from < DAY_MINUTES);
        let to = time_of_day(to.trim());
        let (Some(from), Some(to)) = (from, to) else {
            return Err(ScheduleError::Window);
        };
        match from.cmp(&to) {
            std::cmp::Ordering::Less => Ok(Self { from, to }),
            std::cmp::Ordering::Equal => Err(ScheduleError::Window),
            std::cmp::Ordering::Greater => Ok(Self {
                from,
                to: to + DAY_MINUTES,
            }),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = match self.to > DAY_MINUTES {
            true => self.to - DAY_MINUTES,
            false => self.to,
        };
        let (from_hour, from_minute) = (self.from / 60, self.from % 60);
        write!(
            f,
            "{from_hour:02}:{from_minute:02}-{:02}:{:02}",
            to / 60,
            to % 60
        )
    }
}

/// `HH:MM` from 00:00 to 24:00, in minutes.
fn time_of_day(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |digits: &str| {
        let plain = digits.len() == 2 && digits.bytes().all(|octet| octet.is_ascii_digit());
        plain.then(|| digits.parse::<u16>().ok()).flatten()
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let minutes = hour * 60 + minute;
    (minute < 60 && minutes <= DAY_MINUTES).then_some(minutes)
}

/// A fixed distance from UTC: `+01:00`, `-03:30`, `+00:00`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Offset {
    /// Minutes east of UTC.
    minutes: i16,
}

impl FromStr for Offset {
    type Err = ScheduleError;

    /// Up to 15 hours either way.
    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let (sign, rest) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(rest), _) => (1, rest),
            (_, Some(rest)) => (-1, rest),
            _ => return Err(ScheduleError::Offset),
        };
        let minutes = time_of_day(rest).filter(|minutes| *minutes <= 15 * 60);
        let minutes = minutes.and_then(|minutes| i16::try_from(minutes).ok());
        let minutes = sign * minutes.ok_or(ScheduleError::Offset)?;
        Ok(Self { minutes })
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.minutes < 0 { '-' } else { '+' };
        let minutes = self.minutes.unsigned_abs();
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// When mail may leave, by the local time of a fixed offset from UTC. Windows belong to the day they begin on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    offset: i64,
    /// Open times in milliseconds of local time, from the beginning of the week before a Monday to the end of the week
    /// behind it: three weeks alike, so that whatever is open in the middle one has its true beginning and end. Sorted,
    /// apart from each other.
    open: Vec<(i64, i64)>,
}

impl Schedule {
    /// Open in the `weekend` windows on the days of `weekend_days`, and in the `weekdays` windows on all others. A profile
    /// without windows is closed for all of its days.
    pub fn new(
        weekdays: &[Window],
        weekend: &[Window],
        weekend_days: &[Weekday],
        offset: Offset,
    ) -> Self {
        let mut open = Vec::new();
        for (day, begin) in [-WEEK, 0, WEEK]
            .into_iter()
            .flat_map(|week| Weekday::ALL.into_iter().zip((week..).step_by(DAY as usize)))
        {
            let windows = match weekend_days.contains(&day) {
                true => weekend,
                false => weekdays,
            };
            open.extend(windows.iter().map(|window| {
                let at = |minutes: u16| begin + i64::from(minutes) * MINUTE;
                (at(window.from), at(window.to))
            }));
        }
        Self {
            offset: i64::from(offset.minutes) * MINUTE,
            open: joined(open),
        }
    }

    /// Whether mail may leave now.
    pub fn is_open(&self, now: Timestamp) -> bool {
        let at = self.of_week(now);
        self.open
            .iter()
            .any(|(from, to)| (*from..*to).contains(&at))
    }

    /// When mail may leave: `now` where it may, `None` where it never may.
    pub fn next_open(&self, now: Timestamp) -> Option<Timestamp> {
        let at = self.of_week(now);
        let (from, _) = self.open.iter().find(|(_, to)| *to > at)?;
        Some(now.plus_millis((from - at).max(0)))
    }

    /// When what is open now closes; `None` where nothing is open, or nothing ever closes.
    pub fn closes(&self, now: Timestamp) -> Option<Timestamp> {
        let at = self.of_week(now);
        let (from, to) = self
            .open
            .iter()
            .find(|(from, to)| (*from..*to).contains(&at))?;
        (to - from < WEEK).then(|| now.plus_millis(to - at))
    }

    /// Milliseconds since Monday, 00:00 local time.
    fn of_week(&self, now: Timestamp) -> i64 {
        // The epoch began on a Thursday.
        (now.millis()
            .saturating_add(self.offset)
            .saturating_add(3 * DAY))
        .rem_euclid(WEEK)
    }
}

/// The same times, those that touch made one.
fn joined(mut times: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    times.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (from, to) in times {
        match joined.last_mut() {
            Some((_, end)) if from <= *end => *end = to.max(*end),
            _ => joined.push((from, to)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightmail_core::time::Civil;
    use proptest::prelude::*;

    const WEEKEND: [Weekday; 2] = [Weekday::Saturday, Weekday::Sunday];

    fn schedule(weekdays: &[&str], weekend: &[&str], offset: &str) -> Schedule {
        let windows = |texts: &[&str]| -> Vec<Window> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let offset = offset.parse().unwrap();
        Schedule::new(&windows(weekdays), &windows(weekend), &WEEKEND, offset)
    }

    /// A time in November 2026, whose 23rd is a Monday.
    fn at(day: u8, hour: u8, minute: u8) -> Timestamp {
        let civil = Civil {
            year: 2026,
            month: 11,
            day,
            hour,
            minute,
            second: 0,
        };
        Timestamp::from_civil(civil, 0).unwrap()
    }

    #[test]
    fn office_hours_open_and_close_and_rest_at_the_weekend() {
        let office = schedule(&["08:00-12:00", "13:00-18:00"], &[], "+00:00");
        assert!(!office.is_open(at(23, 7, 59)));
        assert_eq!(office.next_open(at(23, 7, 59)), Some(at(23, 8, 0)));
        assert!(office.is_open(at(23, 8, 0)));
        assert_eq!(office.next_open(at(23, 8, 0)), Some(at(23, 8, 0)));
        assert_eq!(office.closes(at(23, 8, 0)), Some(at(23, 12, 0)));
        assert!(!office.is_open(at(23, 12, 0)));
        assert_eq!(office.closes(at(23, 12, 30)), None);
        assert_eq!(office.next_open(at(27, 18, 0)), Some(at(30, 8, 0)));
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
        let nights = schedule(&["22:00-06:00"], &["10:00-11:00"], "+00:00");
        assert!(
            nights.is_open(at(28, 5, 59)),
            "Friday's night ends on Saturday"
        );
        assert_eq!(nights.closes(at(27, 23, 0)), Some(at(28, 6, 0)));
        assert!(
            !nights.is_open(at(28, 22, 30)),
            "Saturday has its own profile"
        );
        assert!(!nights.is_open(at(23, 5, 0)), "Sunday had no night");
        assert_eq!(nights.next_open(at(29, 11, 0)), Some(at(30, 22, 0)));
    }

    #[test]
    fn windows_that_touch_over_the_week_s_end_are_one() {
        let touching = schedule(&["00:00-10:00"], &["20:00-24:00"], "+00:00");
        assert_eq!(touching.closes(at(29, 21, 0)), Some(at(30, 10, 0)));
    }

    #[test]
    fn the_offset_moves_windows_and_days() {
        let east = schedule(&["08:00-18:00"], &[], "+01:00");
        assert!(east.is_open(at(23, 7, 0)) && !east.is_open(at(23, 17, 0)));
        let west = schedule(&["00:00-24:00"], &[], "-05:00");
        assert_eq!(west.closes(at(27, 12, 0)), Some(at(28, 5, 0)));
        assert_eq!(west.next_open(at(30, 0, 0)), Some(at(30, 5, 0)));
    }

    #[test]
    fn always_never_closes_and_never_never_opens() {
        let always = schedule(&["00:00-24:00"], &["00:00-12:00", "12:00-24:00"], "+00:00");
        assert!(always.is_open(at(29, 23, 59)) && always.is_open(at(30, 0, 0)));
        assert_eq!(always.closes(at(25, 12, 0)), None);
        let never = schedule(&[], &[], "+00:00");
        assert!(!never.is_open(at(25, 12, 0)));
        assert_eq!(never.next_open(at(25, 12, 0)), None);
    }

    #[test]
    fn parts_that_are_not_well_formed_are_refused() {
        for wrong in [
            "",
            "8:00-18:00",
            "08:00",
            "08:00-08:00",
            "24:00-01:00",
            "08:60-09:00",
            "08:00-24:01",
            "+8:00-18:00",
        ] {
            assert_eq!(
                wrong.parse::<Window>(),
                Err(ScheduleError::Window),
                "{wrong}"
            );
        }
        for wrong in ["", "01:00", "+1:00", "+15:01", "+01:60", "UTC"] {
            assert_eq!(
                wrong.parse::<Offset>(),
                Err(ScheduleError::Offset),
                "{wrong}"
            );
        }
        assert_eq!("Sat".parse(), Ok(Weekday::Saturday));
        assert_eq!("SUNDAY".parse(), Ok(Weekday::Sunday));
        assert_eq!("sa".parse::<Weekday>(), Err(ScheduleError::Weekday));
    }

    fn windows() -> impl Strategy<Value = Vec<Window>> {
        let window = (0u16..1440, 1u16..=1440).prop_map(|(from, length)| Window {
            from,
            to: from + length.min(1439),
        });
        proptest::collection::vec(window, 0..4)
    }

    proptest! {
        #[test]
        fn windows_and_offsets_read_back_as_written(window in windows(), minutes in -900i16..=900) {
            for window in window {
                prop_assert_eq!(window.to_string().parse(), Ok(window));
            }
            let offset = Offset { minutes };
            prop_assert_eq!(offset.to_string().parse(), Ok(offset));
        }

        #[test]
        fn opening_and_closing_agree_with_each_minute(
            weekdays in windows(), weekend in windows(), minutes in -900i16..=900,
            now in 0i64..2_000_000_000_000,
        ) {
            let schedule = Schedule::new(&weekdays, &weekend, &WEEKEND, Offset { minutes });
            let now = Timestamp::from_millis(now);
            let is_open = |at: Timestamp| {
                let local = at.millis() + i64::from(minutes) * MINUTE;
                let days = [0, 1].map(|back| local.div_euclid(DAY) - back);
                days.into_iter().any(|day| {
                    let is_weekend = matches!((day + 3).rem_euclid(7), 5 | 6);
                    let windows = if is_weekend { &weekend } else { &weekdays };
                    let minute = (local - day * DAY).div_euclid(MINUTE);
                    windows.iter().any(|w| (i64::from(w.from)..i64::from(w.to)).contains(&minute))
                })
            };
            prop_assert_eq!(schedule.is_open(now), is_open(now));
            let just_before = |at: Timestamp| at.plus_millis(-1);
            match schedule.next_open(now) {
                Some(at) if at == now => prop_assert!(is_open(now)),
                Some(at) => prop_assert!(is_open(at) && !is_open(just_before(at)) && !is_open(now)),
                None => prop_assert!(weekdays.is_empty() || weekend.is_empty()),
            }
            if let Some(at) = schedule.closes(now) {
                prop_assert!(is_open(now) && !is_open(at) && is_open(just_before(at)));
            }
        }
    }
}
