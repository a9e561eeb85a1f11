//! The DNS record of a key, and whether it is there.

use nightmail_core::Timestamp;
use nightmail_directory::{DkimKeyRecord, DkimKeyState};
use nightmail_dns::{Dns, Nothing};
use nightmail_trust::{KeyAlgorithm, SigningKey};

use crate::error::AdminError;

/// Mail that a retired key has signed may be verified for as long: queues give up after five days.
const RETIRED_KEPT_MILLIS: i64 = 7 * 86_400_000;

/// Whether a record is in DNS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Published {
    Yes,
    No,
    Differs,
    Unknown,
}

impl Published {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Differs => "differs",
            Self::Unknown => "unknown",
        }
    }
}

/// The algorithm of a stored key.
pub(super) fn algorithm_of(number: u8) -> Result<KeyAlgorithm, AdminError> {
    KeyAlgorithm::from_number(number).ok_or_else(|| {
        AdminError::failed(format!(
            "a DKIM key is of algorithm {number}, which this program does not know"
        ))
    })
}

/// The name and the text of a key's TXT record.
pub(in crate::execute) fn expected(key: &DkimKeyRecord) -> Result<(String, String), AdminError> {
    let signing = SigningKey {
        domain: key.domain.clone(),
        selector: key.selector.clone(),
        algorithm: algorithm_of(key.algorithm)?,
        pkcs8: key.pkcs8.clone(),
    };
    let record = signing.dns_record();
    record.map_err(|error| AdminError::failed(error.to_string()))
}

/// Until when the record of a retired key is needed.
pub(super) fn keep_until(key: &DkimKeyRecord) -> Option<Timestamp> {
    let until = key.changed.millis().saturating_add(RETIRED_KEPT_MILLIS);
    (key.state == DkimKeyState::Retired).then(|| Timestamp::from_millis(until))
}

/// Whether the record of a key must be in DNS at `now`.
pub(in crate::execute) fn is_needed(key: &DkimKeyRecord, now: Timestamp) -> bool {
    keep_until(key).is_none_or(|until| now < until)
}

/// Whether `text` is in DNS at `name`, whatever the order of its tags and wherever it has blanks.
pub(super) async fn look_up(dns: &Dns, name: &str, text: &str) -> Published {
    match dns.txt(name).await {
        Ok(found) if found.iter().any(|found| tags(found) == tags(text)) => Published::Yes,
        Ok(_) => Published::Differs,
        Err(Nothing::NoName | Nothing::NoRecord) => Published::No,
        Err(Nothing::Failed(_)) => Published::Unknown,
    }
}

/// The tags that make a key what it is: its type and its public part.
fn tags(record: &str) -> (String, String) {
    let tag = |name: &str| {
        let mut tags = record.split(';').filter_map(|tag| tag.split_once('='));
        let found = tags.find(|(found, _)| found.trim() == name);
        found.map(|(_, value)| value.split_whitespace().collect::<String>())
    };
    (
        tag("k").unwrap_or_else(|| "rsa".to_owned()),
        tag("p").unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_the_same_whatever_its_blanks_and_the_order_of_its_tags() {
        let published = "p = AB CD ;k=rsa; v=DKIM1; t=s";
        assert_eq!(tags(published), tags("v=DKIM1; p=ABCD"));
        assert_ne!(tags(published), tags("v=DKIM1; k=ed25519; p=ABCD"));
        assert_ne!(tags(published), tags("v=DKIM1; p=ABC"));
    }
}
