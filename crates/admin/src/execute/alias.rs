//! Requests about aliases, and about what an address means.

use nightmail_directory::{AliasRecord, Resolution, Target, tx};

use super::{Answer, page_limit, parse_address, parse_addresses, parse_domain_filter};
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::request::AdminRequest;
use crate::response::{AdminResponse, AliasView, ResolvedView};

/// Carries a request about aliases out.
pub(super) async fn execute(context: &AdminContext, request: AdminRequest) -> Answer {
    use AdminRequest as R;
    match request {
        R::AliasAdd { address, targets } => add(context, &address, &targets).await,
        R::AliasRemove { address, targets } => remove(context, &address, &targets).await,
        R::AliasList {
            domain,
            after,
            limit,
        } => list(context, domain, after, limit).await,
        R::AliasShow { address } => show(context, &address).await,
        R::Resolve { address } => resolve(context, &address).await,
        _ => Err(AdminError::failed("not a request about an alias")),
    }
}

async fn add(context: &AdminContext, address: &str, targets: &[String]) -> Answer {
    let (at, more) = (parse_address(address)?, parse_addresses(targets)?);
    let exists = context.directory.alias(&at).await?.is_some();
    context
        .directory
        .change(move |tx| match exists {
            true => tx::add_alias_targets(tx, &at, &more),
            false => tx::add_alias(tx, &at, &more),
        })
        .await?;
    show(context, address).await
}

async fn remove(context: &AdminContext, address: &str, targets: &[String]) -> Answer {
    let (at, less) = (parse_address(address)?, parse_addresses(targets)?);
    let whole = less.is_empty();
    context
        .directory
        .change(move |tx| match whole {
            true => tx::remove_alias(tx, &at),
            false => tx::remove_alias_targets(tx, &at, &less),
        })
        .await?;
    if whole {
        Ok(AdminResponse::Done)
    } else {
        show(context, address).await
    }
}

async fn list(
    context: &AdminContext,
    domain: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
) -> Answer {
    let domain = parse_domain_filter(domain.as_deref())?;
    let limit = page_limit(limit);
    let page = context
        .directory
        .list_aliases(domain.as_ref(), after.as_deref(), limit)
        .await?;
    Ok(AdminResponse::Aliases {
        items: page.items.iter().map(view).collect(),
        next: page.next,
    })
}

async fn show(context: &AdminContext, address: &str) -> Answer {
    let found = context.directory.alias(&parse_address(address)?).await?;
    let unknown = || AdminError::refused(format!("there is no alias {address}; see `alias list`"));
    Ok(AdminResponse::Alias(view(&found.ok_or_else(unknown)?)))
}

fn view(record: &AliasRecord) -> AliasView {
    AliasView {
        address: record.address.to_string(),
        targets: record.targets.iter().map(ToString::to_string).collect(),
    }
}

async fn resolve(context: &AdminContext, address: &str) -> Answer {
    let resolution = context.directory.resolve(&parse_address(address)?).await?;
    let (mut accounts, mut remote) = (Vec::new(), Vec::new());
    let result = match resolution {
        Resolution::UnknownUser => "unknown-user",
        Resolution::Disabled { temporary: true } => "deferred",
        Resolution::Disabled { temporary: false } => "disabled",
        Resolution::NotLocal => "not-local",
        Resolution::LoopOrTooMany => "loop",
        Resolution::Recipients(targets) => {
            for target in targets {
                match target {
                    Target::Remote(address) | Target::Forwarded { to: address, .. } => {
                        remote.push(address.to_string());
                    }
                    Target::PassedOn { .. } => {}
                    Target::Account { id, .. } => {
                        let record = context.directory.account(id).await?;
                        accounts.extend(record.map(|record| record.address.to_string()));
                    }
                }
            }
            "recipients"
        }
    };
    let address = address.to_owned();
    let result = result.to_owned();
    Ok(AdminResponse::Resolved(ResolvedView {
        address,
        result,
        accounts,
        remote,
    }))
}
