//! Carrying requests out: one file for each kind of thing they are about.

mod account;
mod alias;
mod certificate;
mod dkim;
mod dns;
mod domain;
mod greylist;
mod mailbox;
mod maintenance;
mod node;
mod queue;
mod retention;
mod sender;
mod services;
mod status;
mod trace;
mod unique_id;

use nightmail_core::{AccountId, Address, Domain};
use nightmail_directory::{AccountRecord, Quota};

use crate::context::AdminContext;
use crate::error::AdminError;
use crate::request::AdminRequest;
use crate::response::{AdminResponse, QuotaView};

/// What a request ends with.
type Answer = Result<AdminResponse, AdminError>;

/// Entries of a page that names no limit.
const PAGE: usize = 1000;
/// Entries of any page.
const PAGE_MAX: usize = 10_000;

/// Carries a request out. Changes are on stable storage when it returns `Ok`, but for `queue-retry`.
pub async fn execute(context: &AdminContext, request: AdminRequest) -> Answer {
    use AdminRequest as R;
    match request {
        R::DomainAdd { .. }
        | R::DomainList { .. }
        | R::DomainShow { .. }
        | R::DomainSet { .. }
        | R::DomainRemove { .. }
        | R::DomainAlternateAdd { .. }
        | R::DomainAlternateRemove { .. } => domain::execute(context, request).await,
        R::AccountAdd { .. }
        | R::AccountList { .. }
        | R::AccountShow { .. }
        | R::AccountRemove { .. }
        | R::AccountPassword { .. }
        | R::AccountSet { .. }
        | R::AccountRename { .. }
        | R::AccountLoginAdd { .. }
        | R::AccountLoginRemove { .. }
        | R::QuotaShow { .. }
        | R::QuotaSet { .. } => account::execute(context, request).await,
        R::AccountSenderAdd { .. }
        | R::AccountSenderRemove { .. }
        | R::AccountSenderList { .. } => sender::execute(context, request).await,
        R::DkimNew { .. }
        | R::DkimList { .. }
        | R::DkimRotate { .. }
        | R::DkimActivate { .. }
        | R::DkimRemove { .. } => dkim::execute(context, request).await,
        R::DnsCheck { domain, server } => dns::check(context, &domain, server).await,
        R::GreylistList { .. } | R::GreylistAllow { .. } | R::GreylistRemove { .. } => {
            greylist::execute(context, request).await
        }
        R::AliasAdd { .. }
        | R::AliasRemove { .. }
        | R::AliasList { .. }
        | R::AliasShow { .. }
        | R::Resolve { .. } => alias::execute(context, request).await,
        R::MailboxList { .. }
        | R::MailboxCreate { .. }
        | R::MailboxRename { .. }
        | R::MailboxDelete { .. }
        | R::MailboxAcl { .. }
        | R::MailboxStatus { .. }
        | R::MailboxRetention { .. }
        | R::MailboxUndelete { .. } => mailbox::execute(context, request).await,
        R::UniqueIdImport { .. } => unique_id::execute(context, request).await,
        R::QueueList { .. }
        | R::QueueShow { .. }
        | R::QueueRetry { .. }
        | R::QueueRemove { .. }
        | R::QueueWhy { .. }
        | R::QueueAlter { .. }
        | R::QueueDestinations { .. }
        | R::QueueRun { .. }
        | R::QueueRuleAdd { .. }
        | R::QueueRuleList
        | R::QueueRuleRemove { .. } => queue::execute(context, request).await,
        R::Trace { .. } => trace::execute(context, request).await,
        R::CertificateList => certificate::list(context).await,
        R::CertificateRenew { name } => certificate::renew(context, name.as_deref()).await,
        R::NodeList | R::NodeDrain { .. } | R::NodeForget { .. } => {
            node::execute(context, request).await
        }
        R::Check { read_messages } => maintenance::check(context, read_messages, false).await,
        R::Repair { read_messages } => maintenance::check(context, read_messages, true).await,
        R::Reclaim => maintenance::reclaim(context).await,
        R::Status => status::status(context).await,
    }
}

fn page_limit(limit: Option<usize>) -> usize {
    limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
}

fn parse_address(text: &str) -> Result<Address, AdminError> {
    Address::parse(text).map_err(|error| AdminError::address(text, error))
}

fn parse_addresses(texts: &[String]) -> Result<Vec<Address>, AdminError> {
    texts.iter().map(|text| parse_address(text)).collect()
}

fn parse_domain(text: &str) -> Result<Domain, AdminError> {
    Domain::parse(text)
        .map_err(|error| AdminError::usage(format!("{text:?}: {error}; write it as example.org")))
}

fn parse_domain_filter(text: Option<&str>) -> Result<Option<Domain>, AdminError> {
    text.map(parse_domain).transpose()
}

/// The account of an address, an id or a login name, in this order.
async fn find_account(context: &AdminContext, name: &str) -> Result<AccountRecord, AdminError> {
    if let Ok(address) = Address::parse(name) {
        if let Some(record) = context.directory.account_at(&address).await? {
            return Ok(record);
        }
        if context.directory.domain(address.domain()).await?.is_none() {
            let unknown = format!(
                "{} is not a domain of this server; see `domain list`",
                address.domain()
            );
            return Err(AdminError::usage(unknown));
        }
    } else if let Some(id) = name.strip_prefix('a').and_then(AccountId::parse)
        && let Some(record) = context.directory.account(id).await?
    {
        return Ok(record);
    }
    let found = context.directory.find_login(name).await?;
    found.ok_or_else(|| {
        AdminError::refused(format!("there is no account {name}; see `account list`"))
    })
}

fn quota_view(quota: Quota) -> QuotaView {
    QuotaView {
        bytes: quota.bytes,
        messages: quota.messages,
        mailboxes: quota.mailboxes,
    }
}

fn quota_from(view: QuotaView) -> Quota {
    Quota {
        bytes: view.bytes,
        messages: view.messages,
        mailboxes: view.mailboxes,
    }
}
