//! The keys about what is done with mail in mailboxes as they fill and as time passes.

use std::time::Duration;

use toml::de::DeValue;

use super::define::section;
use super::value::{Setting, choice};

const DAY: Duration = Duration::from_secs(86_400);

choice! {
    /// What a sender is told while a mailbox is full.
    pub enum WhenFull {
        /// To try again.
        Defer = "defer",
        /// That it is full.
        Refuse = "refuse",
    }
}

section! {
    /// What is done with mail in mailboxes as they fill and as time passes. Accounts and folders may have settings of
    /// their own: see "nightmail account" and "nightmail mailbox retention".
    Mailboxes {
        /// What a sender is told while a mailbox is full: "defer", so that the mail is tried again for some days, or
        /// "refuse", so that its sender is told at once.
        over_quota: WhenFull = WhenFull::Defer;
        /// People are told by mail when their messages take up so many per cent of their quota; once for each figure that
        /// is reached, and again after it had been fallen below. Nobody is told when this is empty.
        quota_warnings: Vec<Percent> = vec![Percent(80), Percent(95)];
        /// How long messages that were deleted can be brought back with "nightmail mailbox undelete". They do not count
        /// against the quota, but take up room. 0s: they cannot.
        undelete_window: Duration = 7 * DAY, within Duration::ZERO..=365 * DAY;
        /// Days after which messages are removed from folders for deleted mail; 0: they stay.
        trash_days: u32 = 0, within 0..=36_500;
        /// Days after which messages are removed from folders for unwanted mail; 0: they stay.
        junk_days: u32 = 0, within 0..=36_500;
    }
}

/// A share, from 1 to 100 per cent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u8);

impl Percent {
    /// Of a hundred.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Setting for Percent {
    fn expected() -> String {
        "a number from 1 to 100".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        let number = u8::read(value)?;
        (1..=100).contains(&number).then_some(Self(number))
    }

    fn write(&self) -> Option<String> {
        self.0.write()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn mailboxes_have_settings() {
        let settings = Config::parse("").unwrap().mailboxes;
        assert_eq!(settings.quota_warnings, [Percent(80), Percent(95)]);
        let text = "[mailboxes]\nover_quota = \"refuse\"\nquota_warnings = []\nundelete_window = \"0s\"\ntrash_days = 30\n";
        let settings = Config::parse(text).unwrap().mailboxes;
        assert_eq!(settings.over_quota, WhenFull::Refuse);
        assert!(settings.quota_warnings.is_empty());
        assert_eq!(
            (
                settings.undelete_window,
                settings.trash_days,
                settings.junk_days
            ),
            (Duration::ZERO, 30, 0)
        );
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for line in [
            "over_quota = \"drop\"",
            "quota_warnings = [0]",
            "quota_warnings = [80, 101]",
            "quota_warnings = 80",
            "trash_days = -1",
            "undelete_window = \"400d\"",
        ] {
            let problems = Config::parse(&format!("[mailboxes]\n{line}\n")).unwrap_err();
            assert_eq!(problems.len(), 1, "{line}");
        }
    }
}
