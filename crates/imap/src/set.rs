//! Sets of messages (RFC 3501 §9 `sequence-set`).
//!
//! [`SeqSet`] and [`UidSetSpec`] are what a client wrote and may hold `*`; a [`UidSet`] is what a view made of one.

use std::fmt;

use nightmail_core::Uid;

/// One end of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// A number; never zero.
    Number(u32),
    /// `*`: the last message.
    Last,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Last => f.write_str("*"),
        }
    }
}

/// The ranges of a set in the order written; a single number is a range to itself.
type Ranges = Vec<(Bound, Bound)>;

macro_rules! written_set {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct $name(Ranges);

        impl $name {
            /// Parses a whole text, such as `1:3,7,9:*`; `None` where it is no set.
            pub fn parse(text: &[u8]) -> Option<Self> {
                parse_ranges(text).map(Self)
            }

            /// The ranges as written: either end may be the greater.
            pub fn ranges(&self) -> impl Iterator<Item = (Bound, Bound)> + '_ {
                self.0.iter().copied()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_ranges(f, self.ranges())
            }
        }
    };
}

written_set!(
    /// A set of message sequence numbers as a client wrote it.
    SeqSet
);
written_set!(
    /// A set of UIDs as a client wrote it.
    UidSetSpec
);

impl UidSetSpec {
    /// The set where it names no `*`.
    pub fn exact(&self) -> Option<UidSet> {
        let uid = |bound| match bound {
            Bound::Number(number) => Uid::new(number),
            Bound::Last => None,
        };
        let ranges = self
            .ranges()
            .map(|(low, high)| Some((uid(low)?, uid(high)?)));
        ranges.collect::<Option<Vec<_>>>().map(UidSet::from_ranges)
    }

    /// Every UID that the set may mean where the greatest that a message has is `last`: `*` reaches to the greatest
    /// there can be.
    pub fn reach(&self, last: Option<Uid>) -> UidSet {
        let last = last.unwrap_or(Uid::FIRST);
        let top = Uid::new(u32::MAX).unwrap_or(Uid::FIRST);
        let ranges = self.ranges().filter_map(|range| match range {
            (Bound::Number(low), Bound::Number(high)) => Some((Uid::new(low)?, Uid::new(high)?)),
            (Bound::Number(end), Bound::Last) | (Bound::Last, Bound::Number(end)) => {
                Some((Uid::new(end)?.min(last), top))
            }
            (Bound::Last, Bound::Last) => Some((last, top)),
        });
        UidSet::from_ranges(ranges)
    }
}

fn parse_ranges(text: &[u8]) -> Option<Ranges> {
    text.split(|b| *b == b',').map(parse_range).collect()
}

fn parse_range(text: &[u8]) -> Option<(Bound, Bound)> {
    let mut ends = text.splitn(2, |b| *b == b':');
    let first = parse_bound(ends.next()?)?;
    let second = match ends.next() {
        Some(end) => parse_bound(end)?,
        None => first,
    };
    Some((first, second))
}

fn parse_bound(text: &[u8]) -> Option<Bound> {
    if text == b"*" {
        return Some(Bound::Last);
    }
    if !text.first().is_some_and(|b| matches!(b, b'1'..=b'9')) {
        return None;
    }
    text.iter()
        .try_fold(0u32, |number, b| {
            let digit = b.is_ascii_digit().then(|| u32::from(b - b'0'))?;
            number.checked_mul(10)?.checked_add(digit)
        })
        .map(Bound::Number)
}

fn write_ranges<B: fmt::Display + PartialEq>(
    f: &mut fmt::Formatter<'_>,
    ranges: impl Iterator<Item = (B, B)>,
) -> fmt::Result {
    for (index, (low, high)) in ranges.enumerate() {
        if index > 0 {
            f.write_str(",")?;
        }
        low.fmt(f)?;
        if high != low {
            f.write_str(":")?;
            high.fmt(f)?;
        }
    }
    Ok(())
}

/// UIDs as ascending ranges that neither touch nor overlap. A range may cover UIDs that no message has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UidSet(Vec<(Uid, Uid)>);

impl UidSet {
    /// The set of one range; its ends may come in either order.
    pub fn range(first: Uid, second: Uid) -> Self {
        Self(vec![(first.min(second), first.max(second))])
    }

    /// The union of ranges in any order.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (Uid, Uid)>) -> Self {
        let mut sorted: Vec<_> = ranges
            .into_iter()
            .map(|(first, second)| (first.min(second), first.max(second)))
            .collect();
        sorted.sort_unstable();
        let mut set = Self(Vec::with_capacity(sorted.len()));
        for (low, high) in sorted {
            set.push_range(low, high);
        }
        set
    }

    /// Adds a range that begins no lower than the last range does.
    fn push_range(&mut self, low: Uid, high: Uid) {
        match self.0.last_mut() {
            Some((_, end)) if low.get() <= end.get().saturating_add(1) => *end = high.max(*end),
            _ => self.0.push((low, high)),
        }
    }

    /// Adds one UID; quick where UIDs come in ascending order.
    pub fn insert(&mut self, uid: Uid) {
        match self.0.last() {
            Some((low, _)) if uid < *low => {
                let ranges = std::mem::take(&mut self.0);
                *self = Self::from_ranges(ranges.into_iter().chain([(uid, uid)]));
            }
            _ => self.push_range(uid, uid),
        }
    }

    /// Whether a UID lies in a range of the set.
    pub fn contains(&self, uid: Uid) -> bool {
        let after = self.0.partition_point(|(low, _)| *low <= uid);
        after
            .checked_sub(1)
            .and_then(|index| self.0.get(index))
            .is_some_and(|(_, high)| uid <= *high)
    }

    /// What both sets hold.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::default();
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some((low, high)), Some((other_low, other_high))) = (left.peek(), right.peek()) {
            let (from, to) = (*low.max(other_low), *high.min(other_high));
            if from <= to {
                both.push_range(from, to);
            }
            if high < other_high {
                left.next();
            } else {
                right.next();
            }
        }
        both
    }

    /// What is in the set and not among `uids`, which ascend.
    pub fn without(&self, uids: &[Uid]) -> Self {
        let mut left = Self::default();
        for (low, high) in self.ranges() {
            let start = uids.partition_point(|uid| *uid < low);
            let mut next = Some(low);
            for uid in uids.get(start..).unwrap_or_default() {
                let Some(from) = next.filter(|_| *uid <= high) else {
                    break;
                };
                if from < *uid
                    && let Some(before) = Uid::new(uid.get() - 1)
                {
                    left.push_range(from, before);
                }
                next = uid.get().checked_add(1).and_then(Uid::new);
            }
            if let Some(from) = next.filter(|from| *from <= high) {
                left.push_range(from, high);
            }
        }
        left
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges, both ends included, ascending.
    pub fn ranges(&self) -> impl DoubleEndedIterator<Item = (Uid, Uid)> + ExactSizeIterator + '_ {
        self.0.iter().copied()
    }
}

impl Extend<Uid> for UidSet {
    fn extend<I: IntoIterator<Item = Uid>>(&mut self, uids: I) {
        for uid in uids {
            self.insert(uid);
        }
    }
}

impl FromIterator<Uid> for UidSet {
    fn from_iter<I: IntoIterator<Item = Uid>>(uids: I) -> Self {
        let mut set = Self::default();
        set.extend(uids);
        set
    }
}

impl fmt::Display for UidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_ranges(f, self.ranges())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn uid(raw: u32) -> Uid {
        Uid::new(raw).unwrap()
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in [
            "",
            "0",
            "01",
            "1,",
            ",1",
            "1:",
            ":1",
            "1:2:3",
            "a",
            "1 ",
            "4294967296",
            "**",
            "-1",
            "1:0",
        ] {
            assert_eq!(SeqSet::parse(text.as_bytes()), None, "{text:?}");
        }
        assert!(UidSetSpec::parse(b"4294967295,*:4,*,3:3").is_some());
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let set = UidSet::from_ranges([
            (uid(9), uid(7)),
            (uid(1), uid(2)),
            (uid(3), uid(3)),
            (uid(8), uid(12)),
        ]);
        assert_eq!(set.to_string(), "1:3,7:12");
        let top = UidSet::from_ranges([(uid(u32::MAX), uid(u32::MAX)), (uid(1), uid(u32::MAX))]);
        assert_eq!(top.to_string(), "1:4294967295");
    }

    #[test]
    fn the_star_reaches_to_the_end() {
        let reach = |text: &[u8], last| {
            let set = UidSetSpec::parse(text).unwrap();
            set.reach(Uid::new(last)).to_string()
        };
        assert_eq!(reach(b"7:*,2", 9), "2,7:4294967295");
        assert_eq!(reach(b"*:12", 9), "9:4294967295");
        assert_eq!(reach(b"*", 9), "9:4294967295");
        assert_eq!(reach(b"5:3", 0), "3:5");
        assert_eq!(UidSetSpec::parse(b"1:*").unwrap().exact(), None);
    }

    #[test]
    fn the_greatest_uid_can_be_cut_off() {
        let all = UidSet::range(uid(1), uid(u32::MAX));
        assert_eq!(
            all.without(&[uid(1), uid(u32::MAX)]).to_string(),
            "2:4294967294"
        );
    }

    fn bound() -> impl Strategy<Value = Bound> {
        prop_oneof![(1..=u32::MAX).prop_map(Bound::Number), Just(Bound::Last)]
    }

    proptest! {
        #[test]
        fn written_sets_survive_printing(ranges in proptest::collection::vec((bound(), bound()), 1..8)) {
            let set = SeqSet(ranges);
            prop_assert_eq!(SeqSet::parse(set.to_string().as_bytes()), Some(set));
        }

        #[test]
        fn sets_are_cut_as_sets_of_their_uids(
            left in proptest::collection::btree_set(1u32..60, 0..40),
            right in proptest::collection::btree_set(1u32..60, 0..40),
        ) {
            let set = |uids: &BTreeSet<u32>| uids.iter().map(|raw| uid(*raw)).collect::<UidSet>();
            let both: BTreeSet<u32> = left.intersection(&right).copied().collect();
            prop_assert_eq!(set(&left).intersection(&set(&right)), set(&both));
            let gone: Vec<Uid> = right.iter().map(|raw| uid(*raw)).collect();
            let rest: BTreeSet<u32> = left.difference(&right).copied().collect();
            prop_assert_eq!(set(&left).without(&gone), set(&rest));
        }

        #[test]
        fn a_uid_set_is_the_set_of_its_uids(uids in proptest::collection::vec(1u32..40, 0..30)) {
            let set: UidSet = uids.iter().map(|raw| uid(*raw)).collect();
            let model: BTreeSet<u32> = uids.into_iter().collect();
            for raw in 1..41 {
                prop_assert_eq!(set.contains(uid(raw)), model.contains(&raw));
            }
            let ranges: Vec<_> = set.ranges().collect();
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].1.get() + 1 < pair[1].0.get());
            }
        }
    }
}
