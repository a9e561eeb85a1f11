//! Comparing a domain's records in DNS with those it should have.

use std::net::SocketAddr;

use nightmail_core::Domain;
use nightmail_directory::DkimKeyState;
use nightmail_dns::Dns;
use nightmail_dns::audit::{AuditQuestion, Finding, Verdict, audit};

use super::{Answer, dkim, parse_domain};
use crate::context::{AdminContext, Site};
use crate::error::AdminError;
use crate::response::{AdminResponse, FindingView};

pub(super) async fn check(
    context: &AdminContext,
    domain: &str,
    server: Option<SocketAddr>,
) -> Answer {
    let domain = parse_domain(domain)?;
    let (site, dns) = context.site(server)?;
    let question = question(context, site, &dns, domain).await?;
    let findings = Box::pin(audit(&dns, &question)).await;
    let mut items: Vec<FindingView> = findings.iter().map(view).collect();
    items.extend(unsigned(context, &question.domain).await?);
    Ok(AdminResponse::DnsChecked {
        domain: question.domain.to_string(),
        good: !items.iter().any(needs_work),
        items,
    })
}

/// Whether a record is missing or wrong, or DNS did not answer. What rests on records elsewhere stays open.
fn needs_work(item: &FindingView) -> bool {
    let bad = match item.verdict.as_str() {
        "missing" | "wrong" => true,
        "unclear" => item.found.is_empty(),
        _ => false,
    };
    bad && !item.optional
}

async fn question(
    context: &AdminContext,
    site: &Site,
    dns: &Dns,
    domain: Domain,
) -> Result<AuditQuestion, AdminError> {
    let mut own_addresses = site.addresses.clone();
    if own_addresses.is_empty() {
        // The configuration names none: those that the world knows are taken for ours.
        let known = dns.addresses(site.hostname.as_str()).await;
        own_addresses = known.unwrap_or_default();
    }
    let now = nightmail_commit::now();
    let keys = context.directory.dkim_keys(Some(&domain)).await?;
    let mut records = Vec::new();
    for key in keys.iter().filter(|key| dkim::is_needed(key, now)) {
        records.push((key.selector.clone(), dkim::expected(key)?.1));
    }
    Ok(AuditQuestion {
        domain,
        hostname: site.hostname.clone(),
        own_addresses,
        dkim: records,
    })
}

/// Says so where there are keys and none of them signs, which no record shows.
async fn unsigned(
    context: &AdminContext,
    domain: &Domain,
) -> Result<Option<FindingView>, AdminError> {
    let keys = context.directory.dkim_keys(Some(domain)).await?;
    if keys.is_empty() || keys.iter().any(|key| key.state == DkimKeyState::Active) {
        return Ok(None);
    }
    Ok(Some(FindingView {
        name: format!("*._domainkey.{domain}"),
        kind: "DKIM".to_owned(),
        verdict: Verdict::Missing.as_str().to_owned(),
        optional: false,
        wanted: "a key that signs".to_owned(),
        found: Vec::new(),
        advice: format!(
            "no key signs its mail yet: publish the record of the pending one, then: nightmail dkim rotate {domain}"
        ),
    }))
}

fn view(finding: &Finding) -> FindingView {
    FindingView {
        name: finding.name.clone(),
        kind: finding.kind.to_owned(),
        verdict: finding.verdict.as_str().to_owned(),
        optional: finding.optional,
        wanted: finding.wanted.clone(),
        found: finding.found.clone(),
        advice: finding.advice.clone(),
    }
}
