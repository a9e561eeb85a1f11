//! Keys, DNS records and the greylist as text for people.

use nightmail_admin::{DkimKeyView, DomainKeyView, FindingView, GreylistView};

use crate::output::{Fields, Table};

/// `s1 (rsa2048, active), …`, with the domain where it is not `of`.
pub(super) fn keys_in_short(of: &str, keys: &[DomainKeyView]) -> String {
    let shown = keys.iter().map(|key| {
        let domain = match key.domain == of {
            true => String::new(),
            false => format!(" of {}", key.domain),
        };
        format!(
            "{}{domain} ({}, {})",
            key.selector, key.algorithm, key.state
        )
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// A table of keys; where they are of one domain, their records too.
pub(super) fn keys(items: &[DkimKeyView]) -> String {
    let mut table = Table::new(&[
        "DOMAIN",
        "SELECTOR",
        "ALGORITHM",
        "STATE",
        "CREATED",
        "PUBLISHED",
    ]);
    for key in items {
        table.row([
            key.domain.clone(),
            key.selector.clone(),
            key.algorithm.clone(),
            key.state.clone(),
            key.created.clone(),
            key.published.clone(),
        ]);
    }
    let mut text = table.render();
    let mut domains: Vec<&str> = items.iter().map(|key| key.domain.as_str()).collect();
    domains.dedup();
    if domains.len() == 1 {
        text.push('\n');
        text.extend(items.iter().map(|key| format!("{}\n", key.zone)));
    }
    text
}

/// Each key with its record and what to do next.
pub(super) fn changed_keys(items: &[DkimKeyView]) -> String {
    let shown: Vec<String> = items.iter().map(key).collect();
    shown.join("\n")
}

fn key(key: &DkimKeyView) -> String {
    let mut fields = Fields::new();
    fields
        .add("domain", &key.domain)
        .add("selector", &key.selector)
        .add("algorithm", &key.algorithm)
        .add("state", &key.state)
        .add("published", &key.published)
        .add("record", &key.name)
        .add("type", "TXT")
        .add("value", &key.text);
    format!(
        "{}zone file:\n{}\n{}\n",
        fields.render(),
        key.zone,
        advice(key)
    )
}

fn advice(key: &DkimKeyView) -> String {
    let DkimKeyView {
        domain,
        selector,
        keep_until,
        ..
    } = key;
    match (key.state.as_str(), key.published.as_str()) {
        ("pending", "yes") => {
            format!("Its record is published. It signs after: nightmail dkim rotate {domain}")
        }
        ("pending", _) => {
            format!("Publish this record. Then it signs after: nightmail dkim rotate {domain}")
        }
        ("active", "yes") => "It signs.".to_owned(),
        ("active", _) => {
            "It signs. Publish its record now: without it other sites cannot verify the mail."
                .to_owned()
        }
        _ => format!(
            "It signs no more. Leave its record in DNS until {}, then: nightmail dkim remove {domain} {selector}",
            keep_until.as_deref().unwrap_or("its mail has arrived")
        ),
    }
}

/// Each record with what is wrong with it.
pub(super) fn findings(domain: &str, good: bool, items: &[FindingView]) -> String {
    let mut text = String::new();
    for finding in items {
        let word = match finding.optional && finding.verdict == "missing" {
            true => "optional",
            false => finding.verdict.as_str(),
        };
        text.push_str(&format!(
            "{word:<8}  {:<7}  {}\n",
            finding.kind, finding.name
        ));
        let wanted = finding.verdict != "good" && !finding.optional;
        if wanted {
            text.push_str(&format!("          wanted: {}\n", finding.wanted));
            for found in &finding.found {
                text.push_str(&format!("          found:  {found}\n"));
            }
        }
        if !finding.advice.is_empty() {
            text.push_str(&format!("          {}\n", finding.advice));
        }
    }
    text.push_str(&match good {
        true => format!("nothing is wrong with the records of {domain}\n"),
        false => format!("records of {domain} are missing, wrong or not known\n"),
    });
    text
}

/// A table of entries.
pub(super) fn greylist(items: &[GreylistView]) -> String {
    let mut table = Table::new(&["CLIENT", "STATE", "SEEN", "FROM", "TO", "KEY"]);
    for entry in items {
        let state = match entry.passed {
            Some(passed) => format!("{} ({passed} passed)", entry.state),
            None => entry.state.clone(),
        };
        let sender = entry.sender.as_deref().map(|sender| match sender {
            "" => "<>".to_owned(),
            sender => sender.to_owned(),
        });
        table.row([
            entry.client.clone(),
            state,
            entry.seen.clone(),
            sender.unwrap_or_default(),
            entry.recipient.clone().unwrap_or_default(),
            entry.key.clone(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(state: &str, published: &str) -> DkimKeyView {
        DkimKeyView {
            domain: "x.test".into(),
            selector: "s1".into(),
            algorithm: "ed25519".into(),
            state: state.into(),
            created: "2026-11-22T00:00:00.000Z".into(),
            changed: "2026-11-22T00:00:00.000Z".into(),
            name: "s1._domainkey.x.test".into(),
            text: "v=DKIM1; k=ed25519; p=AA".into(),
            zone: "s1._domainkey.x.test. 3600 IN TXT \"v=DKIM1; k=ed25519; p=AA\"".into(),
            published: published.into(),
            keep_until: (state == "retired").then(|| "2026-11-29T00:00:00.000Z".into()),
        }
    }

    #[test]
    fn a_key_is_shown_with_its_record_and_what_to_do_next() {
        let text = changed_keys(&[view("pending", "no"), view("retired", "yes")]);
        for part in [
            "record     s1._domainkey.x.test\n",
            "value      v=DKIM1; k=ed25519; p=AA\n",
            "s1._domainkey.x.test. 3600 IN TXT \"v=DKIM1; k=ed25519; p=AA\"\n",
            "nightmail dkim rotate x.test\n\n",
            "until 2026-11-29T00:00:00.000Z, then: nightmail dkim remove x.test s1\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }

    #[test]
    fn records_are_listed_for_one_domain_only() {
        let one = view("active", "yes");
        let other = DkimKeyView {
            domain: "y.test".into(),
            ..one.clone()
        };
        assert!(keys(std::slice::from_ref(&one)).contains("IN TXT"));
        assert!(!keys(&[one, other]).contains("IN TXT"));
    }

    #[test]
    fn what_is_wrong_is_shown_with_what_is_wanted_and_what_is_there() {
        let finding = FindingView {
            name: "x.test".into(),
            kind: "MX".into(),
            verdict: "wrong".into(),
            optional: false,
            wanted: "10 mx.x.test".into(),
            found: vec!["10 mx.y.test".into()],
            advice: "Point it here.".into(),
        };
        let text = findings("x.test", false, &[finding]);
        assert!(text.starts_with("wrong     MX       x.test\n          wanted: 10 mx.x.test\n"));
        assert!(text.contains("found:  10 mx.y.test\n          Point it here.\n"));
        assert!(text.ends_with("are missing, wrong or not known\n"));
    }
}
