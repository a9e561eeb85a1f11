//! What an account wants done with its mail beyond keeping it, and how that is written in its row.

use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{Address, Timestamp};

use crate::row::{read_addresses, write_addresses};

/// An automatic reply to whoever writes while somebody is away (RFC 3834).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vacation {
    /// The subject of the reply; empty: that of the message answered, after `Auto: `.
    pub subject: String,
    /// What it says.
    pub text: String,
    /// No reply before then.
    pub from: Option<Timestamp>,
    /// No reply from then on.
    pub until: Option<Timestamp>,
    /// A sender is answered once in so many days; at least 1.
    pub interval_days: u32,
}

impl Vacation {
    /// Days between two replies to one sender, where nobody says otherwise.
    pub const INTERVAL_DAYS: u32 = 7;

    /// Whether it holds at `now`.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| now >= from) && self.until.is_none_or(|until| now < until)
    }
}

/// How messages with attachments are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum AttachmentMode {
    /// As they came.
    #[default]
    Whole,
    /// Every attachment becomes a message of its own, after one with the text.
    Apart,
}

/// What a sender is told while the mailbox is full.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OverQuota {
    /// As the server is configured.
    #[default]
    Default,
    /// To try again: a 4xx.
    Defer,
    /// That it is full: a 5xx.
    Refuse,
}

/// What an account wants done with its mail.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AccountServices {
    /// The automatic reply.
    pub vacation: Option<Vacation>,
    /// Where its mail is sent on to; empty: nowhere.
    pub forward: Vec<Address>,
    /// Whether what is sent on is kept here too.
    pub forward_keeps_copy: bool,
    /// How messages with attachments are kept.
    pub attachments: AttachmentMode,
    /// What a sender is told while the mailbox is full.
    pub over_quota: OverQuota,
    /// Whether what is submitted is kept among the sent mail.
    pub save_sent: bool,
    /// Seconds that must pass between two logins by POP3; `None`: as the server is configured.
    pub login_delay_secs: Option<u32>,
}

impl AccountServices {
    /// Whether mail is sent on and not kept.
    pub const fn passes_on(&self) -> bool {
        !self.forward.is_empty() && !self.forward_keeps_copy
    }

    pub(crate) fn write(&self, row: &mut RowWriter) {
        if *self == Self::default() {
            row.u8(0);
            return;
        }
        row.u8(1);
        match &self.vacation {
            None => row.u8(0),
            Some(vacation) => {
                row.u8(1).str(&vacation.subject).str(&vacation.text);
                write_time(row, vacation.from);
                write_time(row, vacation.until);
                row.varint(vacation.interval_days.into())
            }
        };
        write_addresses(row, &self.forward);
        row.u8(u8::from(self.forward_keeps_copy))
            .u8(u8::from(self.attachments == AttachmentMode::Apart))
            .u8(match self.over_quota {
                OverQuota::Default => 0,
                OverQuota::Defer => 1,
                OverQuota::Refuse => 2,
            })
            .u8(u8::from(self.save_sent));
        match self.login_delay_secs {
            None => row.u8(0),
            Some(seconds) => row.u8(1).u32(seconds),
        };
    }

    pub(crate) fn read(reader: &mut RowReader<'_>) -> Result<Self, RowError> {
        if reader.u8()? == 0 {
            return Ok(Self::default());
        }
        Ok(Self {
            vacation: match reader.u8()? {
                0 => None,
                _ => Some(Vacation {
                    subject: reader.str()?.to_owned(),
                    text: reader.str()?.to_owned(),
                    from: read_time(reader)?,
                    until: read_time(reader)?,
                    interval_days: u32::try_from(reader.varint()?)
                        .map_err(|_| RowError::Invalid("interval"))?,
                }),
            },
            forward: read_addresses(reader)?,
            forward_keeps_copy: reader.u8()? != 0,
            attachments: match reader.u8()? {
                0 => AttachmentMode::Whole,
                _ => AttachmentMode::Apart,
            },
            over_quota: match reader.u8()? {
                0 => OverQuota::Default,
                1 => OverQuota::Defer,
                _ => OverQuota::Refuse,
            },
            save_sent: reader.u8()? != 0,
            login_delay_secs: match reader.u8()? {
                0 => None,
                _ => Some(reader.u32()?),
            },
        })
    }
}

fn write_time(row: &mut RowWriter, time: Option<Timestamp>) {
    match time {
        None => row.u8(0),
        Some(time) => row.u8(1).i64(time.millis()),
    };
}

fn read_time(reader: &mut RowReader<'_>) -> Result<Option<Timestamp>, RowError> {
    Ok(match reader.u8()? {
        0 => None,
        _ => Some(Timestamp::from_millis(reader.i64()?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn services() -> impl Strategy<Value = AccountServices> {
        let times = any::<(Option<i64>, Option<i64>)>();
        let vacation = (any::<(String, String)>(), times, any::<u32>()).prop_map(
            |((subject, text), (from, until), interval_days)| Vacation {
                subject,
                text,
                from: from.map(Timestamp::from_millis),
                until: until.map(Timestamp::from_millis),
                interval_days,
            },
        );
        let forward = proptest::collection::vec("[a-z]{1,6}@[a-z]{1,6}[.]test", 0..3);
        let vacation = proptest::option::of(vacation);
        (
            vacation,
            forward,
            any::<(bool, bool, bool, bool, Option<u32>)>(),
        )
            .prop_map(
                |(vacation, forward, (keeps, apart, refuse, save_sent, delay))| AccountServices {
                    vacation,
                    forward: forward.iter().map(|to| to.parse().unwrap()).collect(),
                    forward_keeps_copy: keeps,
                    attachments: match apart {
                        true => AttachmentMode::Apart,
                        false => AttachmentMode::Whole,
                    },
                    over_quota: match refuse {
                        true => OverQuota::Refuse,
                        false => OverQuota::Defer,
                    },
                    save_sent,
                    login_delay_secs: delay,
                },
            )
    }

    proptest! {
        #[test]
        fn services_read_back_as_written(services in services()) {
            let mut row = RowWriter::new(1);
            services.write(&mut row);
            let row = row.finish();
            let (mut reader, _) = RowReader::new(&row, 1).unwrap();
            prop_assert_eq!(AccountServices::read(&mut reader), Ok(services));
        }
    }

    #[test]
    fn a_reply_holds_from_its_beginning_up_to_its_end() {
        let at = Timestamp::from_millis;
        let vacation = Vacation {
            subject: String::new(),
            text: String::new(),
            from: Some(at(10)),
            until: Some(at(20)),
            interval_days: 1,
        };
        let active = [9, 10, 19, 20].map(|now| vacation.is_active(at(now)));
        assert_eq!(active, [false, true, true, false]);
    }
}
