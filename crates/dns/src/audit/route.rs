//! How mail finds this host, and whether its addresses have names.

use std::net::IpAddr;

use super::{AuditQuestion, Finding, Verdict};
use crate::{Dns, Nothing};

/// MX hosts whose addresses are looked at.
const HOSTS_MAX: usize = 20;

/// The domain's MX records, and the addresses of those hosts that are this one.
pub(super) async fn mail_hosts(dns: &Dns, question: &AuditQuestion) -> Vec<Finding> {
    let hostname = question.hostname.as_str();
    let name = question.domain.as_str();
    let finding = Finding::new(name, "MX", format!("10 {hostname}"));
    let mut hosts = match dns.mx(name).await {
        Ok(hosts) => hosts,
        Err(nothing) => {
            let advice = format!("add an MX record that leads to {hostname}");
            return vec![
                finding.nothing(&nothing, advice),
                host(dns, question, hostname).await,
            ];
        }
    };
    hosts.truncate(HOSTS_MAX);
    let texts = hosts
        .iter()
        .map(|mx| format!("{} {}", mx.preference, mx.host));
    let finding = finding.found(texts.collect());
    if hosts.iter().all(|mx| mx.host.is_empty()) {
        let advice = "a null MX says that the domain takes no mail";
        return vec![finding.judged(Verdict::Wrong, advice)];
    }
    let mut ours = Vec::new();
    for mx in &hosts {
        if mx.host == hostname || leads_here(dns, question, &mx.host).await {
            ours.push(mx.host.as_str());
        }
    }
    if ours.is_empty() {
        let advice = format!("none of these hosts is {hostname}, so mail does not come here");
        return vec![
            finding.judged(Verdict::Wrong, advice),
            host(dns, question, hostname).await,
        ];
    }
    let advice = match ours.len() < hosts.len() {
        true => "the other hosts must take mail for this domain, too",
        false => "",
    };
    let mut findings = vec![finding.judged(Verdict::Good, advice)];
    for name in ours {
        findings.push(host(dns, question, name).await);
    }
    findings
}

/// All addresses of a host, whether or not they can be reached from here; what was found outweighs what was not.
async fn addresses(dns: &Dns, name: &str) -> Result<Vec<IpAddr>, Nothing> {
    let (v4, v6) = tokio::join!(dns.ipv4(name), dns.ipv6(name));
    let nothing = match (&v4, &v6) {
        (Err(failed @ Nothing::Failed(_)), _) | (_, Err(failed @ Nothing::Failed(_))) => {
            failed.clone()
        }
        _ => Nothing::NoRecord,
    };
    let v4 = v4.unwrap_or_default().into_iter().map(IpAddr::V4);
    let v6 = v6.unwrap_or_default().into_iter().map(IpAddr::V6);
    let found: Vec<IpAddr> = v4.chain(v6).collect();
    match found.is_empty() {
        true => Err(nothing),
        false => Ok(found),
    }
}

async fn leads_here(dns: &Dns, question: &AuditQuestion, name: &str) -> bool {
    let found = addresses(dns, name).await.unwrap_or_default();
    found.iter().any(|ip| question.own_addresses.contains(ip))
}

async fn host(dns: &Dns, question: &AuditQuestion, name: &str) -> Finding {
    let own = &question.own_addresses;
    let wanted = match own.is_empty() {
        true => "the addresses of this host".into(),
        false => texts(own).join(", "),
    };
    let finding = Finding::new(name, "A/AAAA", wanted);
    if let Ok(target) = dns.alias_of(name).await {
        let advice = "an MX host must not be an alias (RFC 2181 §10.3): give it addresses";
        let finding = finding.found(vec![format!("alias of {target}")]);
        return finding.judged(Verdict::Wrong, advice);
    }
    let found = match addresses(dns, name).await {
        Ok(found) => found,
        Err(nothing) => return finding.nothing(&nothing, "add the addresses of this host"),
    };
    let finding = finding.found(texts(&found));
    let missing: Vec<IpAddr> = own
        .iter()
        .filter(|ip| !found.contains(ip))
        .copied()
        .collect();
    if own.is_empty() || missing.is_empty() {
        return finding.judged(Verdict::Good, "");
    }
    match missing.len() == own.len() {
        true => finding.judged(Verdict::Wrong, "none of these addresses is this host's"),
        false => {
            let advice = format!("this host is at {}, too", texts(&missing).join(", "));
            finding.judged(Verdict::Good, advice)
        }
    }
}

/// The names of this host's addresses, which should lead back.
pub(super) async fn names_of_addresses(dns: &Dns, question: &AuditQuestion) -> Vec<Finding> {
    let mut findings = Vec::new();
    for ip in &question.own_addresses {
        findings.push(names_of(dns, question, *ip).await);
    }
    findings
}

async fn names_of(dns: &Dns, question: &AuditQuestion, ip: IpAddr) -> Finding {
    let hostname = question.hostname.as_str();
    let finding = Finding::new(ip.to_string(), "PTR", hostname);
    let names = match dns.names_of(ip).await {
        Ok(names) => names,
        Err(nothing) => {
            let advice = "ask whoever gives you the address to name it: many sites refuse mail from \
                          addresses without a name";
            return finding.nothing(&nothing, advice);
        }
    };
    let mut leads_back = None;
    for name in &names {
        let found = addresses(dns, name).await.unwrap_or_default();
        if found.contains(&ip) && (leads_back.is_none() || name == hostname) {
            leads_back = Some(name.clone());
        }
    }
    let finding = finding.found(names);
    match leads_back {
        Some(name) if name == hostname => finding.judged(Verdict::Good, ""),
        Some(name) => finding.judged(
            Verdict::Good,
            format!("it is said to be {name}, not {hostname}, which some sites dislike"),
        ),
        None => finding.judged(Verdict::Wrong, "no name leads back to the address"),
    }
}

fn texts(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(IpAddr::to_string).collect()
}
