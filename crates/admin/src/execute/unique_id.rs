//! Requests about the unique ids of messages in POP3.

use std::collections::HashMap;

use nightmail_core::MailboxId;
use nightmail_store::MailboxName;

use super::{Answer, find_account};
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::request::{AdminRequest, UniqueIdLine};
use crate::response::AdminResponse;

/// Octets of a unique id (RFC 1939 §7).
const ID_OCTETS_MAX: usize = 70;
/// Messages looked at together.
const PAGE: usize = 500;

/// Carries such a request out.
pub(super) async fn execute(context: &AdminContext, request: AdminRequest) -> Answer {
    let AdminRequest::UniqueIdImport { account, ids } = request else {
        return Err(AdminError::failed("not a request about unique ids"));
    };
    let account = find_account(context, &account).await?.id;
    let inbox = context.store.lookup(account, &MailboxName::inbox()).await?;
    import(context, inbox.mailbox, ids).await
}

async fn import(context: &AdminContext, inbox: MailboxId, ids: Vec<UniqueIdLine>) -> Answer {
    let mut known = HashMap::new();
    if ids.iter().any(|line| line.message.starts_with('<')) {
        known = message_ids(context, inbox).await?;
    }
    let snapshot = context.store.snapshot(inbox).await?;
    let mut found = Vec::with_capacity(ids.len());
    let mut missing = Vec::new();
    for UniqueIdLine { id, message } in ids {
        let fits = (1..=ID_OCTETS_MAX).contains(&id.len());
        if !fits || !id.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(AdminError::usage(format!("{id:?} cannot be a unique id")));
        }
        let uid = match message.starts_with('<') {
            true => known.get(message.as_str()).copied(),
            false => message.parse().ok().filter(|uid| snapshot.contains(*uid)),
        };
        match uid {
            Some(uid) => found.push((uid, id)),
            None => missing.push(message),
        }
    }
    context.store.import_unique_ids(inbox, &found).await?;
    Ok(AdminResponse::UniqueIds {
        imported: found.len() as u64,
        missing,
    })
}

/// The UIDs of messages by Message-ID; the first of those that share one.
async fn message_ids(
    context: &AdminContext,
    inbox: MailboxId,
) -> Result<HashMap<String, u32>, AdminError> {
    let uids = context.store.snapshot(inbox).await?.raw_uids();
    let mut known = HashMap::with_capacity(uids.len());
    for page in uids.chunks(PAGE) {
        let rows = context.store.rows(inbox, page).await?;
        let blobs: Vec<_> = rows.iter().map(|(_, row)| row.blob).collect();
        let structures = context.store.structures(&blobs).await?;
        for ((uid, _), structure) in rows.iter().zip(&structures) {
            if let Some(id) = &structure.envelope().message_id {
                let id = String::from_utf8_lossy(id).trim().to_owned();
                known.entry(id).or_insert(*uid);
            }
        }
    }
    Ok(known)
}
