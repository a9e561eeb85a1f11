//! `nightmail account`. An ACCOUNT is an address, an id as listed, or a login name.

use clap::{Args, Subcommand};
use nightmail_admin::{AdminRequest, QuotaView};

use super::services::{AttachmentsArg, ForwardArgs, ServicesArgs, VacationArgs};
use crate::error::CommandError;
use crate::password::PasswordArgs;
use crate::size::Bound;

#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Add an account.
    Add(Box<AddArgs>),
    /// List accounts.
    List {
        /// Only those of this domain.
        #[arg(long)]
        domain: Option<String>,
    },
    /// Show an account.
    Show {
        /// The account.
        account: String,
    },
    /// Remove an account and all its mail.
    Remove {
        /// The account.
        account: String,
    },
    /// Set an account's password.
    Passwd {
        /// The account.
        account: String,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Let an account log in and get mail again.
    Enable {
        /// The account.
        account: String,
    },
    /// Refuse an account's logins and mail.
    Disable {
        /// The account.
        account: String,
        /// Ask senders to try again later instead of refusing.
        #[arg(long)]
        defer: bool,
    },
    /// Change an account's name, role or services; what is not given stays.
    Set {
        /// The account.
        account: String,
        /// The person's name.
        #[arg(long)]
        name: Option<String>,
        /// Whether it may operate the server; administrators get the postmaster's mail.
        #[arg(long)]
        admin: Option<bool>,
        #[command(flatten)]
        services: ServicesArgs,
    },
    /// Send an account's mail on to other addresses, in its name; without any, not any more.
    Forward(ForwardArgs),
    /// Answer an account's mail automatically while somebody is away.
    Vacation(Box<VacationArgs>),
    /// Keep an account's messages whole, or with every attachment as a message of its own.
    Attachments {
        /// The account.
        account: String,
        /// How.
        mode: AttachmentsArg,
    },
    /// Give an account another address.
    Rename {
        /// The account.
        account: String,
        /// The new address.
        address: String,
        /// Keep the old address as an alias.
        #[arg(long)]
        keep_old: bool,
    },
    /// Additional login names.
    #[command(subcommand)]
    Login(LoginCommand),
    /// Addresses that an account may send as although they are not its own.
    #[command(subcommand)]
    Sender(SenderCommand),
    /// Set bounds of an account's mail; the same as `quota set`.
    #[command(name = "quota")]
    Quota {
        /// The account.
        account: String,
        /// Bytes, such as 5G, or none.
        bytes: Bound,
        /// Messages, or none.
        #[arg(default_value = "none")]
        messages: Bound,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The address; also a login name.
    address: String,
    #[command(flatten)]
    password: PasswordArgs,
    /// An additional login name (repeatable).
    #[arg(long, value_name = "LOGIN")]
    login: Vec<String>,
    /// The person's name.
    #[arg(long, default_value = "")]
    name: String,
    /// Bytes it may keep, such as 5G, or none; the domain's default when absent.
    #[arg(long, value_name = "SIZE")]
    quota: Option<Bound>,
    /// Messages it may keep, or none.
    #[arg(long, value_name = "COUNT")]
    quota_messages: Option<Bound>,
    /// May operate the server and gets the postmaster's mail.
    #[arg(long)]
    admin: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LoginCommand {
    /// Give an account an additional login name.
    Add {
        /// The account.
        account: String,
        /// The login name.
        login: String,
    },
    /// Take an additional login name away.
    Remove {
        /// The account.
        account: String,
        /// The login name.
        login: String,
    },
}

/// A SENDER is an address, or @DOMAIN for every address of a domain. An account may always send as its own address, with
/// any detail, as aliases that lead to it alone, and as those of its login names that are addresses.
#[derive(Debug, Subcommand)]
pub(crate) enum SenderCommand {
    /// Let an account send as a further address.
    Add {
        /// The account.
        account: String,
        /// The address, or @DOMAIN.
        sender: String,
    },
    /// Take such an address away.
    Remove {
        /// The account.
        account: String,
        /// The address, or @DOMAIN.
        sender: String,
    },
    /// List the further addresses of an account.
    List {
        /// The account.
        account: String,
    },
}

impl SenderCommand {
    fn request(self) -> AdminRequest {
        match self {
            Self::Add { account, sender } => AdminRequest::AccountSenderAdd { account, sender },
            Self::Remove { account, sender } => {
                AdminRequest::AccountSenderRemove { account, sender }
            }
            Self::List { account } => AdminRequest::AccountSenderList { account },
        }
    }
}

impl AddArgs {
    fn request(self) -> Result<AdminRequest, CommandError> {
        let given = self.quota.is_some() || self.quota_messages.is_some();
        let bound = |bound: Option<Bound>| bound.and_then(|bound| bound.0);
        Ok(AdminRequest::AccountAdd {
            address: self.address,
            password: self.password.get()?,
            logins: self.login,
            quota: given.then(|| QuotaView {
                bytes: bound(self.quota),
                messages: bound(self.quota_messages),
                mailboxes: None,
            }),
            full_name: self.name,
            admin: self.admin,
        })
    }
}

impl AccountCommand {
    pub(crate) fn request(self) -> Result<AdminRequest, CommandError> {
        Ok(match self {
            Self::Add(args) => args.request()?,
            Self::List { domain } => AdminRequest::AccountList {
                domain,
                after: None,
                limit: None,
            },
            Self::Show { account } => AdminRequest::AccountShow { account },
            Self::Remove { account } => AdminRequest::AccountRemove { account },
            Self::Passwd { account, password } => AdminRequest::AccountPassword {
                account,
                password: password.get()?,
            },
            Self::Enable { account } => set(account, Some(true), None),
            Self::Disable { account, defer } => set(account, Some(false), Some(defer)),
            Self::Set {
                account,
                name,
                admin,
                services,
            } => AdminRequest::AccountSet {
                account,
                enabled: None,
                defer: None,
                full_name: name,
                admin,
                services: Box::new(services.change()),
            },
            Self::Forward(args) => args.request(),
            Self::Vacation(args) => args.request()?,
            Self::Attachments { account, mode } => mode.request(account),
            Self::Rename {
                account,
                address,
                keep_old,
            } => AdminRequest::AccountRename {
                account,
                address,
                keep_old,
            },
            Self::Login(LoginCommand::Add { account, login }) => {
                AdminRequest::AccountLoginAdd { account, login }
            }
            Self::Login(LoginCommand::Remove { account, login }) => {
                AdminRequest::AccountLoginRemove { account, login }
            }
            Self::Sender(command) => command.request(),
            Self::Quota {
                account,
                bytes,
                messages,
            } => AdminRequest::QuotaSet {
                account,
                quota: QuotaView {
                    bytes: bytes.0,
                    messages: messages.0,
                    mailboxes: None,
                },
            },
        })
    }
}

fn set(account: String, enabled: Option<bool>, defer: Option<bool>) -> AdminRequest {
    AdminRequest::AccountSet {
        account,
        enabled,
        defer,
        full_name: None,
        admin: None,
        services: Box::default(),
    }
}
