//! What an account wants done with its mail, and what is done with the mail of a folder, as an operator says and sees it.

use serde::{Deserialize, Serialize};

/// An automatic reply.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VacationView {
    /// The subject; empty: that of the message answered, after `Auto: `.
    #[serde(default)]
    pub subject: String,
    /// What it says.
    pub text: String,
    /// No reply before then: `2026-11-22`, or `2026-11-22T16:22:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// No reply from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// A sender is answered once in so many days.
    pub interval_days: u32,
}

/// Where an account's mail is sent on to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForwardView {
    /// The addresses; none: nowhere.
    pub to: Vec<String>,
    /// Whether it is kept too.
    pub keep_copy: bool,
}

/// An automatic reply, or none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VacationSetting {
    /// None.
    Off,
    /// This one.
    On(VacationView),
}

/// How messages with attachments are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachmentsSetting {
    /// As they came.
    Whole,
    /// Every attachment as a message of its own.
    Apart,
}

/// What a sender is told while the mailbox is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverQuotaSetting {
    /// As the server is configured.
    Default,
    /// To try again.
    Defer,
    /// That it is full.
    Refuse,
}

/// What must pass between two logins by POP3.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginDelaySetting {
    /// As the server is configured.
    Default,
    /// So many seconds.
    Secs(u32),
}

/// What to change of what an account wants done with its mail; what is absent stays.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ServicesChange {
    /// Its mailboxes are shown to everybody of its domain, as far as their access lists allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
    /// Where its mail is sent on to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<ForwardView>,
    /// The automatic reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vacation: Option<VacationSetting>,
    /// How messages with attachments are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachments: Option<AttachmentsSetting>,
    /// What a sender is told while the mailbox is full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_quota: Option<OverQuotaSetting>,
    /// Whether what is submitted is kept among the sent mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_sent: Option<bool>,
    /// What must pass between two logins by POP3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_delay: Option<LoginDelaySetting>,
}

/// What an account wants done with its mail.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServicesView {
    /// Its mailboxes are shown to everybody of its domain.
    pub public: bool,
    /// Where its mail is sent on to.
    pub forward: ForwardView,
    /// The automatic reply.
    pub vacation: Option<VacationView>,
    /// How messages with attachments are kept.
    pub attachments: AttachmentsSetting,
    /// What a sender is told while the mailbox is full.
    pub over_quota: OverQuotaSetting,
    /// Whether what is submitted is kept among the sent mail.
    pub save_sent: bool,
    /// What must pass between two logins by POP3.
    pub login_delay: LoginDelaySetting,
}

/// How long a folder keeps its messages.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RetentionView {
    /// The folder.
    pub mailbox: String,
    /// Messages that have been in it for so many days are removed; absent: as the server is configured for folders of its
    /// use.
    pub days: Option<u32>,
    /// So many messages stay however old they are, those that came last.
    pub keep: Option<u32>,
}

/// A message that was deleted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeletedView {
    /// The folder it was in.
    pub mailbox: String,
    /// The UID it had.
    pub uid: u32,
    /// When it was deleted; only where messages are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Its subject; only where messages are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The folder it is in now; only where messages were brought back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_to: Option<String>,
}
