//! Keys as they are shown: never with their private part.

use futures_util::future::join_all;
use nightmail_directory::{DkimKeyRecord, DkimKeyState};

use super::record::{Published, expected, keep_until, look_up};
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::response::{DkimKeyView, DomainKeyView};

/// Octets of one string of a TXT record, at most (RFC 1035 §3.3).
const STRING_OCTETS_MAX: usize = 255;
/// How long resolvers may keep the record, in the line for a zone file.
const TTL_SECS: u32 = 3600;

/// The keys, each with what DNS says of it where it can be asked.
pub(super) async fn views(
    context: &AdminContext,
    keys: &[DkimKeyRecord],
) -> Result<Vec<DkimKeyView>, AdminError> {
    let dns = context.site(None).ok().map(|(_, dns)| dns);
    let mut views = keys.iter().map(view).collect::<Result<Vec<_>, _>>()?;
    let looks = views.iter().map(|view| async {
        match &dns {
            Some(dns) => look_up(dns, &view.name, &view.text).await,
            None => Published::Unknown,
        }
    });
    let published = join_all(looks).await;
    for (view, published) in views.iter_mut().zip(published) {
        view.published = published.word().to_owned();
    }
    Ok(views)
}

fn view(key: &DkimKeyRecord) -> Result<DkimKeyView, AdminError> {
    let (name, text) = expected(key)?;
    let DomainKeyView {
        domain,
        selector,
        algorithm,
        state,
    } = short_view(key);
    Ok(DkimKeyView {
        domain,
        selector,
        algorithm,
        state,
        created: key.created.to_string(),
        changed: key.changed.to_string(),
        zone: zone_line(&name, &text),
        name,
        text,
        published: Published::Unknown.word().to_owned(),
        keep_until: keep_until(key).map(|until| until.to_string()),
    })
}

/// A key in short.
pub(in crate::execute) fn short_view(key: &DkimKeyRecord) -> DomainKeyView {
    let algorithm = match key.algorithm {
        DkimKeyRecord::RSA_2048 => "rsa2048",
        DkimKeyRecord::ED25519 => "ed25519",
        _ => "unknown",
    };
    let state = match key.state {
        DkimKeyState::Pending => "pending",
        DkimKeyState::Active => "active",
        DkimKeyState::Retired => "retired",
    };
    DomainKeyView {
        domain: key.domain.to_string(),
        selector: key.selector.clone(),
        algorithm: algorithm.to_owned(),
        state: state.to_owned(),
    }
}

/// The record as one line of a zone file, its text in strings that are not too long (RFC 6376 §3.6.2.2).
fn zone_line(name: &str, text: &str) -> String {
    let mut strings = vec![String::new()];
    for c in text.chars() {
        match strings.last_mut() {
            Some(last) if last.len() + c.len_utf8() <= STRING_OCTETS_MAX => last.push(c),
            _ => strings.push(c.to_string()),
        }
    }
    format!("{name}. {TTL_SECS} IN TXT \"{}\"", strings.join("\" \""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_into_strings() {
        let text = "p".repeat(300);
        let line = zone_line("s._domainkey.x.test", &text);
        let strings: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        assert_eq!(strings.concat(), text);
        assert!(
            strings
                .iter()
                .all(|string| string.len() <= STRING_OCTETS_MAX)
        );
        assert!(line.starts_with("s._domainkey.x.test. 3600 IN TXT \"p"));
    }

    #[test]
    fn a_short_text_is_one_string() {
        assert_eq!(
            zone_line("a.test", "v=DKIM1"),
            "a.test. 3600 IN TXT \"v=DKIM1\""
        );
    }
}
