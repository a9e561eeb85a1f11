//! Requests about domains.

use nightmail_directory::{DomainChange, DomainRecord, NewDomain, Subaddress};

use super::{Answer, dkim, page_limit, parse_addresses, parse_domain, quota_from, quota_view};
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::request::{AdminRequest, DomainSettings};
use crate::response::{AdminResponse, DomainView};

pub(super) async fn execute(context: &AdminContext, request: AdminRequest) -> Answer {
    let directory = &context.directory;
    match request {
        AdminRequest::DomainAdd { domain, settings } => {
            return add(context, &domain, &settings).await;
        }
        AdminRequest::DomainList { after, limit } => {
            let page = directory
                .list_domains(after.as_deref(), page_limit(limit))
                .await?;
            let items = page.items.iter().map(view).collect();
            return Ok(AdminResponse::Domains {
                items,
                next: page.next,
            });
        }
        AdminRequest::DomainShow { domain } => return show(context, &domain).await,
        AdminRequest::DomainSet { domain, settings } => {
            let change = change(&settings)?;
            directory
                .update_domain(parse_domain(&domain)?, change)
                .await?;
            return show(context, &domain).await;
        }
        AdminRequest::DomainRemove { domain } => {
            directory.remove_domain(parse_domain(&domain)?).await?;
        }
        AdminRequest::DomainAlternateAdd { domain, alternate } => {
            directory
                .add_alternate(parse_domain(&domain)?, parse_domain(&alternate)?)
                .await?;
        }
        AdminRequest::DomainAlternateRemove { domain, alternate } => {
            directory
                .remove_alternate(parse_domain(&domain)?, parse_domain(&alternate)?)
                .await?;
        }
        _ => return Err(AdminError::usage("not a request about domains")),
    }
    Ok(AdminResponse::Done)
}

async fn add(context: &AdminContext, name: &str, settings: &DomainSettings) -> Answer {
    let domain = parse_domain(name)?;
    let change = change(settings)?;
    let enabled = change.enabled;
    let new = NewDomain {
        catch_all: change.catch_all.unwrap_or_default(),
        subaddress: change.subaddress.unwrap_or_default(),
        default_quota: change.default_quota.unwrap_or_default(),
        ..NewDomain::named(domain.clone())
    };
    let then = DomainChange {
        enabled,
        ..DomainChange::default()
    };
    context
        .directory
        .change(move |tx| {
            nightmail_directory::tx::add_domain(tx, &new)?;
            nightmail_directory::tx::update_domain(tx, &domain, &then)
        })
        .await?;
    show(context, name).await
}

async fn show(context: &AdminContext, name: &str) -> Answer {
    let found = context.directory.domain(&parse_domain(name)?).await?;
    let unknown = || {
        AdminError::usage(format!(
            "{name} is not a domain of this server; see `domain list`"
        ))
    };
    let record = found.ok_or_else(unknown)?;
    let mut keys = Vec::new();
    for name in std::iter::once(&record.name).chain(&record.alternates) {
        let found = context.directory.dkim_keys(Some(name)).await?;
        keys.extend(found.iter().map(dkim::short_view));
    }
    Ok(AdminResponse::Domain(DomainView {
        dkim: Some(keys),
        ..view(&record)
    }))
}

fn change(settings: &DomainSettings) -> Result<DomainChange, AdminError> {
    Ok(DomainChange {
        enabled: settings.enabled,
        catch_all: settings
            .catch_all
            .as_deref()
            .map(parse_addresses)
            .transpose()?,
        subaddress: settings
            .subaddress
            .as_deref()
            .map(parse_subaddress)
            .transpose()?,
        default_quota: settings.default_quota.map(quota_from),
    })
}

fn parse_subaddress(text: &str) -> Result<Subaddress, AdminError> {
    let mut chars = text.chars();
    match (text, chars.next(), chars.next()) {
        ("default", ..) => Ok(Subaddress::Default),
        ("off", ..) => Ok(Subaddress::Off),
        (_, Some(separator), None) if separator.is_ascii_punctuation() => {
            Ok(Subaddress::Separator(separator))
        }
        _ => Err(AdminError::usage(format!(
            "{text:?} does not say how subaddresses are read; expected default, off, or one punctuation character"
        ))),
    }
}

fn view(record: &DomainRecord) -> DomainView {
    DomainView {
        name: record.name.to_string(),
        alternates: record.alternates.iter().map(ToString::to_string).collect(),
        enabled: record.enabled,
        catch_all: record.catch_all.iter().map(ToString::to_string).collect(),
        subaddress: match record.subaddress {
            Subaddress::Default => "default".to_owned(),
            Subaddress::Off => "off".to_owned(),
            Subaddress::Separator(separator) => separator.to_string(),
        },
        default_quota: quota_view(record.default_quota),
        created: record.created.to_string(),
        accounts: record.accounts,
        aliases: record.aliases,
        dkim: None,
    }
}
