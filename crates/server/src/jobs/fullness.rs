//! Telling people by mail that their mailbox fills up.
//!
//! A message is written and the figure that it tells of is noted in one commit: once for each figure that is reached.

use nightmail_commit::{Abort, Intent, NewBlob};
use nightmail_core::{AccountId, Address, Domain, Flags, Timestamp};
use nightmail_directory::{AccountRecord, DirectoryError, Quota as Bounds};
use nightmail_heap::HeapError;
use nightmail_store::{AccountUsage, NewMessage, Quota, StoreError};
use nightmail_switch::report::prepare;
use thiserror::Error;

use crate::config::Percent;
use crate::services::Services;

/// What was used was found out, but not told.
#[derive(Debug, Error)]
pub(super) enum WarnError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Heap(#[from] HeapError),
    #[error("{0}")]
    Failed(#[from] nightmail_commit::CommitFailure),
}

/// The share of its quota that an account uses, of what it uses most; 100 at most.
fn used_percent(bounds: Bounds, usage: &AccountUsage) -> u8 {
    let share = |used: u64, bound: Option<u64>| match bound {
        None => 0,
        Some(0) => 100,
        Some(bound) => (u128::from(used) * 100 / u128::from(bound)).min(100),
    };
    let most = share(usage.bytes, bounds.bytes).max(share(usage.messages, bounds.messages));
    u8::try_from(most).unwrap_or(100)
}

/// The highest figure that has been reached; 0 where none has been.
fn reached(figures: &[Percent], used: u8) -> u8 {
    let figures = figures.iter().map(|figure| figure.get());
    figures
        .filter(|figure| *figure <= used)
        .max()
        .unwrap_or_default()
}

/// Finds out how full an account is, and tells it where that is news.
pub(super) async fn look(services: &Services, account: AccountId) -> Result<(), WarnError> {
    let figures = &services.config.mailboxes.quota_warnings;
    let Some(record) = services.directory.account(account).await? else {
        return Ok(());
    };
    if figures.is_empty() || record.quota == Bounds::UNLIMITED {
        return Ok(());
    }
    let usage = match services.store.usage(account).await {
        Err(StoreError::NoSuchAccount) => return Ok(()),
        usage => usage?,
    };
    let figure = reached(figures, used_percent(record.quota, &usage));
    if figure == services.directory.fullness(account).await? {
        return Ok(());
    }
    let (host, now) = (services.hostname(), nightmail_commit::now());
    let bytes = compose(host, &record, figure, &usage, now);
    let blob = prepare(services.store.heap(), &record.address, bytes).await?;
    tell(services, &record, figure, blob).await
}

/// Puts the message into the INBOX, whether or not there is room, unless somebody has been quicker.
async fn tell(
    services: &Services,
    record: &AccountRecord,
    figure: u8,
    blob: NewBlob,
) -> Result<(), WarnError> {
    let (account, address) = (record.id, record.address.clone());
    let mailbox = services.store.inbox(account).await?;
    let blob_size = blob.blob.size();
    let intent = Intent::synced(move |tx| {
        let is_news = nightmail_directory::tx::note_fullness(tx, account, figure)
            .map_err(|abort| abort.map(WarnError::from))?;
        if is_news {
            let message = NewMessage {
                mailbox,
                flags: Flags::EMPTY,
                keywords: Vec::new(),
                internal_date: tx.now(),
                prefix: format!("Return-Path: <>\r\nDelivered-To: {address}\r\n").into(),
                blob_size,
                missing_line_ends: 0,
            };
            nightmail_store::tx::append(tx, Quota::default(), 0, &message)
                .map_err(|abort: Abort<StoreError>| abort.map(WarnError::from))?;
        }
        Ok::<_, Abort<WarnError>>(is_news)
    });
    let told = services
        .store
        .committer()
        .submit(intent.with_blob(blob))
        .await;
    let told = told.map_err(|error| match error {
        nightmail_commit::SubmitError::Refused(error) => error,
        nightmail_commit::SubmitError::Store(failure) => failure.into(),
    })?;
    if told {
        tracing::info!(%account, percent = figure, "an account was told that it fills up");
        ::metrics::counter!(crate::metrics::QUOTA_WARNINGS).increment(1);
    }
    Ok(())
}

fn compose(
    host: &Domain,
    record: &AccountRecord,
    figure: u8,
    usage: &AccountUsage,
    now: Timestamp,
) -> Vec<u8> {
    let to: &Address = &record.address;
    let id = format!("{:x}.{}.{figure}", now.millis(), record.id);
    let mut used = String::new();
    if let Some(bytes) = record.quota.bytes {
        let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
        let (now, most) = (mebibytes(usage.bytes), mebibytes(bytes));
        used.push_str(&format!("    {now} of {most} MiB\r\n"));
    }
    if let Some(messages) = record.quota.messages {
        used.push_str(&format!(
            "    {} of {messages} messages\r\n",
            usage.messages
        ));
    }
    format!(
        "From: Mail System <MAILER-DAEMON@{host}>\r\nTo: <{to}>\r\nSubject: Your mailbox is {figure} % full\r\n\
         Date: {}\r\nMessage-ID: <{id}@{host}>\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\n\
         Your messages take up at least {figure} % of what you may keep:\r\n\r\n{used}\r\n\
         When there is no room left, new mail cannot be delivered to you. Please delete\r\n\
         what you do not need any more, also from the folder for deleted messages.\r\n",
        now.rfc5322()
    )
    .into_bytes()
}
