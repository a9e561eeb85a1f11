//! Requests about accounts and their quota.

use nightmail_commit::Intent;
use nightmail_core::AccountId;
use nightmail_directory::{
    AccountChange, AccountRecord, NewAccount, WhenDisabled, tx as directory_tx,
};
use nightmail_store::{MailboxName, StoreError, tx as store_tx};

use super::{
    Answer, find_account, page_limit, parse_address, parse_domain_filter, quota_from, quota_view,
    services,
};
use crate::context::AdminContext;
use crate::error::{AdminError, join};
use crate::request::AdminRequest;
use crate::response::{AccountView, AdminResponse, QuotaUseView, QuotaView};

/// Times the removal of an account is begun anew because its mailboxes changed meanwhile.
const REMOVAL_TRIES: usize = 5;

pub(super) async fn execute(context: &AdminContext, request: AdminRequest) -> Answer {
    use AdminRequest as R;
    match request {
        R::AccountAdd { .. } => add(context, request).await,
        R::AccountList {
            domain,
            after,
            limit,
        } => {
            let domain = parse_domain_filter(domain.as_deref())?;
            let limit = page_limit(limit);
            let page = context
                .directory
                .list_accounts(domain.as_ref(), after.as_deref(), limit)
                .await?;
            let items = page.items.iter().map(view).collect();
            Ok(AdminResponse::Accounts {
                items,
                next: page.next,
            })
        }
        R::AccountShow { account } => {
            let id = find_account(context, &account).await?.id;
            shown(context, id).await
        }
        R::AccountRemove { account } => remove(context, &account).await,
        R::QuotaShow { account } => show_quota(context, &account).await,
        R::QuotaSet { account, quota } => set_quota(context, &account, quota).await,
        request => change(context, request).await,
    }
}

/// Requests that change one account and show it.
async fn change(context: &AdminContext, request: AdminRequest) -> Answer {
    use AdminRequest as R;
    match request {
        R::AccountPassword { account, password } => {
            let hash = match &password {
                Some(password) => Some(context.hash(password).await?),
                None => None,
            };
            let change = AccountChange {
                password: Some(hash),
                ..AccountChange::default()
            };
            update(context, &account, change).await
        }
        R::AccountSet { .. } => set(context, request).await,
        R::AccountRename {
            account,
            address,
            keep_old,
        } => {
            let id = find_account(context, &account).await?.id;
            let address = parse_address(&address)?;
            context
                .directory
                .rename_account(id, address, keep_old)
                .await?;
            if let Some(record) = context.directory.account(id).await? {
                let domain = record.address.domain().as_str();
                context.store.set_acl_domain(id, domain).await?;
            }
            shown(context, id).await
        }
        R::AccountLoginAdd { account, login } => {
            let id = find_account(context, &account).await?.id;
            context
                .directory
                .change(move |tx| directory_tx::add_login(tx, id, &login))
                .await?;
            shown(context, id).await
        }
        R::AccountLoginRemove { account, login } => {
            let id = find_account(context, &account).await?.id;
            context
                .directory
                .change(move |tx| directory_tx::remove_login(tx, id, &login))
                .await?;
            shown(context, id).await
        }
        _ => Err(AdminError::usage("not a request about accounts")),
    }
}

/// Changes state, name, role and services; what is absent stays.
async fn set(context: &AdminContext, request: AdminRequest) -> Answer {
    let AdminRequest::AccountSet {
        account,
        enabled,
        defer,
        full_name,
        admin,
        services,
    } = request
    else {
        return Err(AdminError::usage("not a request to change an account"));
    };
    let change = AccountChange {
        enabled,
        when_disabled: defer.map(|defer| match defer {
            true => WhenDisabled::Defer,
            false => WhenDisabled::Reject,
        }),
        full_name,
        admin,
        ..services::change(*services)?
    };
    update(context, &account, change).await
}

/// Adds the account to the directory and its mailboxes to the store, in one intent.
async fn add(context: &AdminContext, request: AdminRequest) -> Answer {
    let AdminRequest::AccountAdd {
        address,
        password,
        logins,
        quota,
        full_name,
        admin,
    } = request
    else {
        return Err(AdminError::usage("not a request to add an account"));
    };
    let mut new = NewAccount {
        logins,
        quota: quota.map(quota_from),
        full_name,
        admin,
        ..NewAccount::at(parse_address(&address)?)
    };
    if let Some(password) = &password {
        new.password = Some(context.hash(password).await?);
    }
    let intent = Intent::synced(move |tx| {
        let id = join(directory_tx::add_account(tx, &new))?;
        join(store_tx::create_account(tx, id))?;
        Ok(id)
    });
    let id = context
        .store
        .committer()
        .submit(intent)
        .await
        .map_err(AdminError::from)?;
    shown(context, id).await
}

/// Removes the account and its mailboxes in one intent, then the messages in bounded steps.
async fn remove(context: &AdminContext, account: &str) -> Answer {
    let id = find_account(context, account).await?.id;
    for _ in 0..REMOVAL_TRIES {
        let listed = context.store.list(id).await?;
        let names: Vec<MailboxName> = listed.iter().map(|listed| listed.name.clone()).collect();
        let subscriptions = context.store.subscriptions(id).await?;
        let stored = match context.store.usage(id).await {
            Ok(_) => true,
            Err(StoreError::NoSuchAccount) => false,
            Err(error) => return Err(error.into()),
        };
        let reads = nightmail_store::removal_reads(id, &listed);
        let intent = Intent::synced(move |tx| {
            if stored {
                match store_tx::delete_account(tx, id, &names, &subscriptions) {
                    Err(nightmail_commit::Abort::Refused(
                        StoreError::CannotDelete | StoreError::NoSuchMailbox,
                    )) => return Ok(false),
                    deleted => join(deleted)?,
                }
            }
            join(directory_tx::remove_account(tx, id))?;
            Ok::<_, nightmail_commit::Abort<AdminError>>(true)
        });
        let removed = context
            .store
            .committer()
            .submit(intent.reading(reads))
            .await
            .map_err(AdminError::from)?;
        if removed {
            for listed in listed {
                context.store.purge(listed.entry.mailbox).await?;
            }
            context.store.forget_grantee(id).await?;
            return Ok(AdminResponse::Done);
        }
    }
    Err(AdminError::failed(
        "the account's mailboxes keep changing; disable the account first",
    ))
}

async fn update(context: &AdminContext, account: &str, change: AccountChange) -> Answer {
    let id = find_account(context, account).await?.id;
    context.directory.update_account(id, change).await?;
    shown(context, id).await
}

async fn shown(context: &AdminContext, id: AccountId) -> Answer {
    let found = context.directory.account(id).await?;
    let gone = || AdminError::refused(format!("account {id} has just been removed"));
    let senders = context.directory.senders(id).await?;
    let record = found.ok_or_else(gone)?;
    Ok(AdminResponse::Account(AccountView {
        senders: Some(senders.iter().map(ToString::to_string).collect()),
        services: Some(Box::new(services::view(&record))),
        ..view(&record)
    }))
}

fn view(record: &AccountRecord) -> AccountView {
    AccountView {
        id: record.id.to_string(),
        address: record.address.to_string(),
        logins: record.logins.clone(),
        has_password: record.password.is_some(),
        enabled: record.enabled,
        defer: record.when_disabled == WhenDisabled::Defer,
        quota: quota_view(record.quota),
        full_name: record.full_name.clone(),
        created: record.created.to_string(),
        admin: record.admin,
        senders: None,
        services: None,
    }
}

async fn show_quota(context: &AdminContext, account: &str) -> Answer {
    let record = find_account(context, account).await?;
    let usage = context.store.usage(record.id).await?;
    Ok(AdminResponse::Quota(QuotaUseView {
        account: record.address.to_string(),
        quota: quota_view(record.quota),
        bytes: usage.bytes,
        messages: usage.messages,
        mailboxes: usage.mailboxes,
    }))
}

async fn set_quota(context: &AdminContext, account: &str, quota: QuotaView) -> Answer {
    let change = AccountChange {
        quota: Some(quota_from(quota)),
        ..AccountChange::default()
    };
    update(context, account, change).await?;
    show_quota(context, account).await
}
