//! Requests about greylisting.

use std::net::IpAddr;

use nightmail_access::{GreylistEntry, GreylistState};
use nightmail_engine::EngineError;

use super::{Answer, page_limit};
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::request::AdminRequest;
use crate::response::{AdminResponse, GreylistView};

/// Carries a request about greylisting out.
pub(super) async fn execute(context: &AdminContext, request: AdminRequest) -> Answer {
    use AdminRequest as R;
    match request {
        R::GreylistList { after, limit } => list(context, after, limit).await,
        R::GreylistAllow { client } => allow(context, client).await,
        R::GreylistRemove { entry } => remove(context, &entry).await,
        _ => Err(AdminError::failed("not a request about greylisting")),
    }
}

async fn list(context: &AdminContext, after: Option<String>, limit: Option<usize>) -> Answer {
    let after = after.as_deref().map(parse_key).transpose()?;
    let limit = page_limit(limit);
    let entries = context.greylist().list(after.as_ref(), limit).await;
    let entries = entries.map_err(failed)?;
    let last = entries.last().filter(|_| entries.len() == limit);
    Ok(AdminResponse::Greylist {
        next: last.map(|entry| show_key(&entry.key)),
        items: entries.into_iter().map(view).collect(),
    })
}

async fn allow(context: &AdminContext, client: IpAddr) -> Answer {
    let now = nightmail_commit::now();
    let allowed = context.greylist().allow(client, now).await;
    allowed.map_err(failed)?;
    Ok(AdminResponse::Done)
}

async fn remove(context: &AdminContext, entry: &str) -> Answer {
    let greylist = context.greylist();
    let count = match entry.parse() {
        Ok(client) => greylist.remove_client(client).await,
        Err(_) => greylist.remove(&parse_key(entry)?).await.map(usize::from),
    };
    match count.map_err(failed)? {
        0 => Err(AdminError::refused(format!(
            "nothing is known of {entry}; see `greylist list`"
        ))),
        count => Ok(AdminResponse::GreylistRemoved {
            count: count as u64,
        }),
    }
}

fn failed(error: EngineError) -> AdminError {
    AdminError::failed(error.to_string())
}

fn view(entry: GreylistEntry) -> GreylistView {
    let (state, path, passed, seen) = match entry.state {
        GreylistState::Waiting {
            sender,
            recipient,
            since,
        } => ("waiting", Some((sender, recipient)), None, since),
        GreylistState::Passed {
            sender,
            recipient,
            last,
        } => ("passed", Some((sender, recipient)), None, last),
        GreylistState::Network {
            passed,
            allowed,
            last,
        } => {
            let state = if allowed { "allowed" } else { "counted" };
            (state, None, Some(passed), last)
        }
    };
    let (sender, recipient) = path.unzip();
    GreylistView {
        key: show_key(&entry.key),
        client: entry.client,
        state: state.to_owned(),
        sender,
        recipient,
        passed,
        seen: seen.to_string(),
    }
}

/// A row's key in hexadecimal digits.
fn show_key(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_key(text: &str) -> Result<Vec<u8>, AdminError> {
    let wrong = || {
        AdminError::usage(format!(
            "{text:?} is neither an IP address nor a key; see `greylist list`"
        ))
    };
    if text.is_empty() || !text.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let digits = text.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    };
    digits
        .map(byte)
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_in_digits_and_found_by_them() {
        for key in [&[0, 255, 16][..], b"c192.0.2.0/24"] {
            assert_eq!(parse_key(&show_key(key)).unwrap(), key);
        }
        for text in ["", "a", "xy", "é"] {
            assert!(parse_key(text).is_err(), "{text}");
        }
    }
}
