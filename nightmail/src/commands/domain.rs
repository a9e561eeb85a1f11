//! `nightmail domain`.

use clap::{Args, Subcommand};
use nightmail_admin::{AdminRequest, DomainSettings, QuotaView};

use crate::size::Bound;

#[derive(Debug, Subcommand)]
pub(crate) enum DomainCommand {
    /// Add a domain.
    Add {
        /// Its name.
        domain: String,
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// List domains.
    List,
    /// Show a domain.
    Show {
        /// Its name.
        domain: String,
    },
    /// Change a domain's settings; what is not given stays.
    Set {
        /// Its name.
        domain: String,
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Remove a domain without accounts and aliases.
    Remove {
        /// Its name.
        domain: String,
    },
    /// Further names that mean the same addresses.
    #[command(subcommand)]
    Alias(AlternateCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum AlternateCommand {
    /// Make another name mean the same addresses.
    Add {
        /// The domain.
        domain: String,
        /// The further name.
        alternate: String,
    },
    /// Take such a name away.
    Remove {
        /// The domain.
        domain: String,
        /// The further name.
        alternate: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SettingsArgs {
    /// Where mail for unknown names goes (repeatable).
    #[arg(long, value_name = "ADDRESS")]
    catch_all: Vec<String>,
    /// Refuse mail for unknown names.
    #[arg(long, conflicts_with = "catch_all")]
    no_catch_all: bool,
    /// How user+detail is read: default, off, or the character that begins the detail.
    #[arg(long, value_name = "HOW")]
    subaddress: Option<String>,
    /// Bytes that new accounts may keep, such as 5G, or none.
    #[arg(long, value_name = "SIZE")]
    quota: Option<Bound>,
    /// Messages that new accounts may keep, or none.
    #[arg(long, value_name = "COUNT")]
    quota_messages: Option<Bound>,
    /// Take mail and logins.
    #[arg(long, conflicts_with = "disable")]
    enable: bool,
    /// Defer mail and refuse logins.
    #[arg(long)]
    disable: bool,
}

impl SettingsArgs {
    fn settings(self) -> DomainSettings {
        let given = self.quota.is_some() || self.quota_messages.is_some();
        let bound = |bound: Option<Bound>| bound.and_then(|bound| bound.0);
        DomainSettings {
            enabled: (self.enable || self.disable).then_some(self.enable),
            catch_all: (self.no_catch_all || !self.catch_all.is_empty()).then_some(self.catch_all),
            subaddress: self.subaddress,
            default_quota: given.then(|| QuotaView {
                bytes: bound(self.quota),
                messages: bound(self.quota_messages),
                mailboxes: None,
            }),
        }
    }
}

impl DomainCommand {
    pub(crate) fn request(self) -> AdminRequest {
        match self {
            Self::Add { domain, settings } => AdminRequest::DomainAdd {
                domain,
                settings: settings.settings(),
            },
            Self::List => AdminRequest::DomainList {
                after: None,
                limit: None,
            },
            Self::Show { domain } => AdminRequest::DomainShow { domain },
            Self::Set { domain, settings } => AdminRequest::DomainSet {
                domain,
                settings: settings.settings(),
            },
            Self::Remove { domain } => AdminRequest::DomainRemove { domain },
            Self::Alias(AlternateCommand::Add { domain, alternate }) => {
                AdminRequest::DomainAlternateAdd { domain, alternate }
            }
            Self::Alias(AlternateCommand::Remove { domain, alternate }) => {
                AdminRequest::DomainAlternateRemove { domain, alternate }
            }
        }
    }
}
