//! The check itself (RFC 7208 §4).

use std::net::IpAddr;
use std::pin::Pin;

use nightmail_dns::{Dns, Nothing};

use super::SpfResult;
use super::macros::{MacroString, Values};
use super::record::{Mechanism, Prefix, Record, is_spf};

/// Mechanisms and modifiers of one check that look something up (RFC 7208 §4.6.4).
const LOOKUPS_MAX: usize = 10;
/// Lookups of one check that may find nothing.
const VOID_LOOKUPS_MAX: usize = 2;
/// Hosts of one `mx`, and names of the client.
const NAMES_MAX: usize = 10;
/// Octets of an explanation.
const EXPLANATION_OCTETS_MAX: usize = 400;

/// Why a check ends early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    Temporary,
    Permanent,
}

/// What came out, and where the explanation is to be found.
struct Outcome {
    result: SpfResult,
    /// The explanation, and the domain whose record names it.
    explanation: Option<(MacroString, String)>,
}

impl Outcome {
    const fn plain(result: SpfResult) -> Self {
        Self {
            result,
            explanation: None,
        }
    }
}

/// One check.
struct Check<'a> {
    dns: &'a Dns,
    client: IpAddr,
    helo: &'a str,
    local_part: &'a str,
    sender_domain: &'a str,
    receiver: &'a str,
    now_secs: i64,
    lookups: usize,
    voids: usize,
}

/// Asks what `domain` says of mail from `local_part@domain` by `client`. Gives the result and, on `Fail`, the
/// domain's explanation.
pub(crate) async fn check(
    dns: &Dns,
    client: IpAddr,
    helo: &str,
    (local_part, domain): (&str, &str),
    receiver: &str,
    now_secs: i64,
) -> (SpfResult, Option<String>) {
    let mut check = Check {
        dns,
        client: client.to_canonical(),
        helo,
        local_part: if local_part.is_empty() {
            "postmaster"
        } else {
            local_part
        },
        sender_domain: domain,
        receiver,
        now_secs,
        lookups: 0,
        voids: 0,
    };
    if !is_name(domain) {
        return (SpfResult::None, None);
    }
    match check.domain(domain.to_owned()).await {
        Ok(outcome) => {
            let explanation = check.explain(outcome.explanation).await;
            (outcome.result, explanation)
        }
        Err(Stop::Temporary) => (SpfResult::TempError, None),
        Err(Stop::Permanent) => (SpfResult::PermError, None),
    }
}

/// Whether it is a name of at least two labels that can be looked up.
fn is_name(domain: &str) -> bool {
    let name = domain.strip_suffix('.').unwrap_or(domain);
    name.len() <= 253
        && name.contains('.')
        && !name.starts_with('[')
        && name.split('.').all(|label| (1..=63).contains(&label.len()))
}

impl Check<'_> {
    /// `check_host()` for one domain, from the first on.
    fn domain(
        &mut self,
        domain: String,
    ) -> Pin<Box<dyn Future<Output = Result<Outcome, Stop>> + Send + '_>> {
        Box::pin(async move {
            let Some(record) = self.record(&domain).await? else {
                return Ok(Outcome::plain(SpfResult::None));
            };
            for (result, mechanism) in &record.directives {
                if self.matches(mechanism, &domain).await? {
                    let explains = *result == SpfResult::Fail;
                    let explanation = record.explanation.filter(|_| explains);
                    return Ok(Outcome {
                        result: *result,
                        explanation: explanation.map(|text| (text, domain)),
                    });
                }
            }
            let Some(redirect) = record.redirect else {
                return Ok(Outcome::plain(SpfResult::Neutral));
            };
            self.count()?;
            let target = self.name(Some(&redirect), &domain).await;
            if !is_name(&target) {
                return Err(Stop::Permanent);
            }
            let outcome = self.domain(target).await?;
            match outcome.result {
                SpfResult::None => Err(Stop::Permanent),
                _ => Ok(outcome),
            }
        })
    }

    /// The domain's record.
    async fn record(&self, domain: &str) -> Result<Option<Record>, Stop> {
        let texts = match self.dns.txt(domain).await {
            Ok(texts) => texts,
            Err(Nothing::Failed(_)) => return Err(Stop::Temporary),
            Err(Nothing::NoName | Nothing::NoRecord) => return Ok(None),
        };
        let mut records = texts.iter().filter(|text| is_spf(text));
        match (records.next(), records.next()) {
            (None, _) => Ok(None),
            (Some(text), None) => Record::parse(text).map(Some).map_err(|_| Stop::Permanent),
            (Some(_), Some(_)) => Err(Stop::Permanent),
        }
    }

    /// Counts a term that looks something up.
    const fn count(&mut self) -> Result<(), Stop> {
        self.lookups += 1;
        match self.lookups > LOOKUPS_MAX {
            true => Err(Stop::Permanent),
            false => Ok(()),
        }
    }

    /// What a lookup gave; nothing is counted, failure ends the check.
    fn found<T>(&mut self, answer: Result<Vec<T>, Nothing>) -> Result<Vec<T>, Stop> {
        match answer {
            Ok(found) => Ok(found),
            Err(Nothing::Failed(_)) => Err(Stop::Temporary),
            Err(Nothing::NoName | Nothing::NoRecord) => {
                self.voids += 1;
                match self.voids > VOID_LOOKUPS_MAX {
                    true => Err(Stop::Permanent),
                    false => Ok(Vec::new()),
                }
            }
        }
    }

    async fn matches(&mut self, mechanism: &Mechanism, domain: &str) -> Result<bool, Stop> {
        if !matches!(
            mechanism,
            Mechanism::All | Mechanism::Ip4(..) | Mechanism::Ip6(..)
        ) {
            self.count()?;
        }
        match mechanism {
            Mechanism::All => Ok(true),
            Mechanism::Ip4(ip, bits) => Ok(self.is_in(IpAddr::V4(*ip), *bits)),
            Mechanism::Ip6(ip, bits) => Ok(self.is_in(IpAddr::V6(*ip), *bits)),
            Mechanism::Include(target) => {
                let target = self.name(Some(target), domain).await;
                self.include(target).await
            }
            Mechanism::A(target, prefix) => {
                let target = self.name(target.as_ref(), domain).await;
                let addresses = self.addresses(&target).await;
                let addresses = self.found(addresses)?;
                Ok(self.is_among(&addresses, *prefix))
            }
            Mechanism::Mx(target, prefix) => {
                let target = self.name(target.as_ref(), domain).await;
                self.mx(&target, *prefix).await
            }
            Mechanism::Ptr(target) => {
                let target = self.name(target.as_ref(), domain).await;
                Ok(self.client_name(&target, false).await.is_some())
            }
            Mechanism::Exists(target) => {
                let target = self.name(Some(target), domain).await;
                let addresses = self.dns.ipv4(&target).await;
                Ok(!self.found(addresses)?.is_empty())
            }
        }
    }

    async fn include(&mut self, target: String) -> Result<bool, Stop> {
        if !is_name(&target) {
            return Err(Stop::Permanent);
        }
        match self.domain(target).await?.result {
            SpfResult::Pass => Ok(true),
            SpfResult::None => Err(Stop::Permanent),
            _ => Ok(false),
        }
    }

    async fn mx(&mut self, target: &str, prefix: Prefix) -> Result<bool, Stop> {
        let hosts = self.dns.mx(target).await;
        let hosts = self.found(hosts)?;
        if hosts.len() > NAMES_MAX {
            return Err(Stop::Permanent);
        }
        for host in hosts.iter().filter(|host| !host.host.is_empty()) {
            let addresses = self.addresses(&host.host).await;
            if self.is_among(&self.found_quietly(addresses)?, prefix) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What a lookup that follows from another gave; only failure ends the check.
    fn found_quietly<T>(&self, answer: Result<Vec<T>, Nothing>) -> Result<Vec<T>, Stop> {
        match answer {
            Ok(found) => Ok(found),
            Err(Nothing::Failed(_)) => Err(Stop::Temporary),
            Err(Nothing::NoName | Nothing::NoRecord) => Ok(Vec::new()),
        }
    }

    /// The addresses of a host in the client's family.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Nothing> {
        match self.client {
            IpAddr::V4(_) => {
                let found = self.dns.ipv4(host).await?;
                Ok(found.into_iter().map(IpAddr::V4).collect())
            }
            IpAddr::V6(_) => {
                let found = self.dns.ipv6(host).await?;
                Ok(found.into_iter().map(IpAddr::V6).collect())
            }
        }
    }

    fn is_among(&self, addresses: &[IpAddr], prefix: Prefix) -> bool {
        let bits = match self.client {
            IpAddr::V4(_) => prefix.v4,
            IpAddr::V6(_) => prefix.v6,
        };
        addresses.iter().any(|address| self.is_in(*address, bits))
    }

    fn is_in(&self, network: IpAddr, bits: u8) -> bool {
        match (self.client, network) {
            (IpAddr::V4(client), IpAddr::V4(network)) => {
                let differs = u32::from(client) ^ u32::from(network);
                bits == 0 || differs >> (32 - u32::from(bits.min(32))) == 0
            }
            (IpAddr::V6(client), IpAddr::V6(network)) => {
                let differs = u128::from(client) ^ u128::from(network);
                bits == 0 || differs >> (128 - u32::from(bits.min(128))) == 0
            }
            _ => false,
        }
    }

    /// A name of the client that leads back to it and is `domain` or below; with `any`, else another.
    async fn client_name(&self, domain: &str, any: bool) -> Option<String> {
        let names = self.dns.names_of(self.client).await.ok()?;
        let domain = domain.to_ascii_lowercase();
        let mut below = None;
        let mut other = None;
        for name in names.into_iter().take(NAMES_MAX) {
            let is_below = crate::signature::is_within(&name, &domain);
            if !is_below && !any {
                continue;
            }
            let addresses = self.addresses(&name).await.unwrap_or_default();
            if !addresses.contains(&self.client) {
                continue;
            }
            if name == domain {
                return Some(name);
            }
            let place = if is_below { &mut below } else { &mut other };
            place.get_or_insert(name);
        }
        below.or(other)
    }

    /// The name that a target stands for; the domain itself where there is none.
    async fn name(&self, target: Option<&MacroString>, domain: &str) -> String {
        match target {
            None => domain.to_owned(),
            Some(target) => {
                let client_name = self.name_for(target, domain).await;
                target.expand_name(&self.values(domain, &client_name))
            }
        }
    }

    /// What `%{p}` stands for, where `text` has it.
    async fn name_for(&self, text: &MacroString, domain: &str) -> String {
        let name = match text.needs_client_name() {
            true => self.client_name(domain, true).await,
            false => None,
        };
        name.unwrap_or_else(|| "unknown".to_owned())
    }

    fn values<'b>(&'b self, domain: &'b str, client_name: &'b str) -> Values<'b> {
        Values {
            client: self.client,
            helo: self.helo,
            local_part: self.local_part,
            sender_domain: self.sender_domain,
            domain,
            client_name,
            receiver: self.receiver,
            now_secs: self.now_secs,
        }
    }

    /// The explanation, if there is exactly one and it can be shown.
    async fn explain(&self, found: Option<(MacroString, String)>) -> Option<String> {
        let (target, domain) = found?;
        let name = self.name(Some(&target), &domain).await;
        let texts = self.dns.txt(&name).await.ok()?;
        let [text] = texts.as_slice() else {
            return None;
        };
        let text = MacroString::parse(text, true).ok()?;
        let client_name = self.name_for(&text, &domain).await;
        let mut shown = text.expand(&self.values(&domain, &client_name));
        if shown.is_empty() || !shown.chars().all(|c| matches!(c, ' '..='~')) {
            return None;
        }
        shown.truncate(EXPLANATION_OCTETS_MAX);
        Some(shown)
    }
}
