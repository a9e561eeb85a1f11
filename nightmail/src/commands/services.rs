//! What an account wants done with its mail: the arguments of `nightmail account set`, `forward`, `vacation` and
//! `attachments`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use nightmail_admin::{
    AdminRequest, AttachmentsSetting, ForwardView, LoginDelaySetting, OverQuotaSetting,
    ServicesChange, VacationSetting, VacationView,
};

use crate::error::CommandError;

/// Days between two replies to one sender, where nothing else is said.
const INTERVAL_DAYS: u32 = 7;

/// A count of 1 or more, or `off`, which is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CountOrOff(pub(crate) u32);

impl FromStr for CountOrOff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let count = match text {
            "off" => Some(0),
            text => text.parse().ok().filter(|count| *count > 0),
        };
        let expected = || format!("{text:?} is no count: write a number from 1 on, or off");
        count.map(Self).ok_or_else(expected)
    }
}

#[derive(Debug, Args)]
pub(crate) struct ServicesArgs {
    /// Show its mailboxes to everybody of its domain, as far as their access lists allow.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    public: Option<bool>,
    /// What a sender is told while the mailbox is full.
    #[arg(long)]
    over_quota: Option<OverQuotaArg>,
    /// Keep what it submits among the sent mail.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    save_sent: Option<bool>,
    /// Seconds between two logins by POP3, or default.
    #[arg(long, value_name = "SECONDS", value_parser = login_delay)]
    login_delay: Option<LoginDelaySetting>,
}

impl ServicesArgs {
    pub(crate) fn change(self) -> ServicesChange {
        ServicesChange {
            public: self.public,
            over_quota: self.over_quota.map(|setting| match setting {
                OverQuotaArg::Default => OverQuotaSetting::Default,
                OverQuotaArg::Defer => OverQuotaSetting::Defer,
                OverQuotaArg::Refuse => OverQuotaSetting::Refuse,
            }),
            save_sent: self.save_sent,
            login_delay: self.login_delay,
            ..ServicesChange::default()
        }
    }
}

fn login_delay(text: &str) -> Result<LoginDelaySetting, String> {
    match text {
        "default" => Ok(LoginDelaySetting::Default),
        text => text
            .parse()
            .map(LoginDelaySetting::Secs)
            .map_err(|_| format!("{text:?} is no number of seconds")),
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OverQuotaArg {
    /// As the server is configured.
    Default,
    /// To try again.
    Defer,
    /// That it is full.
    Refuse,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum AttachmentsArg {
    /// As they came.
    Whole,
    /// Every attachment as a message of its own, after one with the text.
    Apart,
}

impl AttachmentsArg {
    pub(crate) fn request(self, account: String) -> AdminRequest {
        let attachments = match self {
            Self::Whole => AttachmentsSetting::Whole,
            Self::Apart => AttachmentsSetting::Apart,
        };
        set(
            account,
            ServicesChange {
                attachments: Some(attachments),
                ..ServicesChange::default()
            },
        )
    }
}

#[derive(Debug, Args)]
pub(crate) struct ForwardArgs {
    /// The account.
    account: String,
    /// Where its mail goes.
    to: Vec<String>,
    /// Keep its mail here too; this is so where nothing is said.
    #[arg(long, conflicts_with = "no_copy")]
    keep_copy: bool,
    /// Keep none of its mail, but what could not be sent on without going round in a circle.
    #[arg(long)]
    no_copy: bool,
}

impl ForwardArgs {
    pub(crate) fn request(self) -> AdminRequest {
        let forward = ForwardView {
            to: self.to,
            keep_copy: !self.no_copy,
        };
        set(
            self.account,
            ServicesChange {
                forward: Some(forward),
                ..ServicesChange::default()
            },
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnOff {
    On,
    Off,
}

#[derive(Debug, Args)]
pub(crate) struct VacationArgs {
    /// The account.
    account: String,
    /// Whether mail is answered.
    state: OnOff,
    /// The subject of the replies; that of the message answered, after \"Auto: \", when absent.
    #[arg(long, default_value = "")]
    subject: String,
    /// What they say.
    #[arg(long, conflicts_with = "text_file")]
    text: Option<String>,
    /// A file with what they say, in UTF-8.
    #[arg(long, value_name = "FILE")]
    text_file: Option<PathBuf>,
    /// Days in which a sender is answered once.
    #[arg(long, default_value_t = INTERVAL_DAYS, value_parser = clap::value_parser!(u32).range(1..=365))]
    days: u32,
    /// No replies before then: 2026-11-22, or 2026-11-22T16:22:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// No replies from then on.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl VacationArgs {
    pub(crate) fn request(self) -> Result<AdminRequest, CommandError> {
        let vacation = match self.state {
            OnOff::Off => VacationSetting::Off,
            OnOff::On => VacationSetting::On(VacationView {
                text: text(self.text, self.text_file)?,
                subject: self.subject,
                from: self.from,
                until: self.until,
                interval_days: self.days,
            }),
        };
        Ok(set(
            self.account,
            ServicesChange {
                vacation: Some(vacation),
                ..ServicesChange::default()
            },
        ))
    }
}

fn text(given: Option<String>, file: Option<PathBuf>) -> Result<String, CommandError> {
    match (given, file) {
        (Some(text), _) => Ok(text),
        (None, Some(path)) => {
            let says = format!("cannot read the text from {}", path.display());
            std::fs::read_to_string(&path).map_err(CommandError::io(says))
        }
        (None, None) => Err(CommandError::Usage(
            "say what is answered: --text TEXT, or --text-file FILE".to_owned(),
        )),
    }
}

fn set(account: String, services: ServicesChange) -> AdminRequest {
    AdminRequest::AccountSet {
        account,
        enabled: None,
        defer: None,
        full_name: None,
        admin: None,
        services: Box::new(services),
    }
}
