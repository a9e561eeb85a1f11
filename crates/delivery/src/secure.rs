//! What TLS must come to before mail goes to a host, and telling domains what came of it.
//!
//! DANE decides alone where a host has TLSA records that can be used (RFC 7672); otherwise the domain's MTA-STS policy
//! (RFC 8461), and what this site's own settings ask for. What must be proven for a message that demands TLS
//! (RFC 8689) is proven in the same ways, or by a certificate for a host that signed MX records name.

use std::fmt::Write as _;
use std::net::IpAddr;

use nightmail_core::Domain;
use nightmail_dns::Mx;
use nightmail_pace::TlsRule;
use nightmail_tlspolicy::{
    Dane, Policy, PolicyType, ResultType, StsDecision, TlsFailure, TlsOutcome, TlsResult,
    dane_verifier,
};

use crate::attempt::Wanted;
use crate::channel::Channel;
use crate::connection::Peering;
use crate::connection::Unopened;
use crate::options::SmarthostTls;
use crate::route::{Candidate, Exchangers, Route, Target};
use crate::site::Site;
use crate::tls::Protection;
use crate::trouble::{TLS_REQUIRED, Trouble};

/// What a domain says of TLS towards a host, and what came of it.
pub(crate) struct Watched {
    /// Who is told; nobody of hosts that are none of the domain's.
    domain: Option<Domain>,
    policy: PolicyType,
    policy_strings: Vec<String>,
    mx_host: String,
    receiving_ip: IpAddr,
    pub peering: Peering,
    /// What came of it has been counted: a session counts once (RFC 8460 §4.1), and a failure more than what was done
    /// instead.
    is_counted: bool,
}

/// A target, and whom to tell what comes of it.
pub(crate) struct Secured {
    pub target: Target,
    pub watched: Watched,
}

impl Channel {
    /// How `candidate` of a site is to be reached with mail for `domain`; an error when nothing may go there now.
    /// `wanted` is what the message wants of that.
    pub(crate) async fn secure(
        &self,
        site: &Site,
        candidate: Candidate,
        domain: Option<&Domain>,
        wanted: Wanted,
    ) -> Result<Secured, Trouble> {
        // Mail that may go without TLS, such as a report on it, is no part of one (RFC 8460 §5.3).
        let is_counted = matches!(site.route, Route::Hosts(_)) && wanted != Wanted::Nothing;
        let relaxed = wanted == Wanted::Nothing && self.promises_tls(site);
        let watched = Watched {
            domain: domain.filter(|_| is_counted).cloned(),
            policy: PolicyType::NoPolicyFound,
            policy_strings: Vec::new(),
            mx_host: candidate.host.clone(),
            receiving_ip: candidate.address.ip(),
            peering: Peering::default(),
            is_counted: false,
        };
        let secured = |protection, watched: Watched| Secured {
            target: Target {
                host: candidate.host.clone(),
                server_name: watched.mx_host.clone(),
                address: candidate.address,
                protection,
                relaxed,
            },
            watched,
        };
        match &site.route {
            Route::Relay(name) => Ok(secured(self.relay_protection(name, wanted), watched)),
            Route::Hosts(exchangers) if !relaxed => {
                let (protection, watched) = self
                    .exchanger_protection(site, exchangers, &candidate, watched, wanted)
                    .await?;
                Ok(secured(protection, watched))
            }
            Route::Hosts(_) | Route::Literal(_) | Route::Nowhere(_) => {
                let protection = self.by_settings(site.settings.tls, wanted);
                Ok(secured(protection, watched))
            }
        }
    }

    /// Whether the site says, or may say, what has to hold of TLS towards it. Where nothing but DANE will do here, that
    /// holds for all mail.
    fn promises_tls(&self, site: &Site) -> bool {
        let Route::Hosts(exchangers) = &site.route else {
            return false;
        };
        let may_have_records = self.asks_dane(site) && exchangers.secure;
        let promises = may_have_records || exchangers.sts != StsDecision::None;
        promises && site.settings.tls != TlsRule::Dane
    }

    fn asks_dane(&self, site: &Site) -> bool {
        let settings = &site.settings;
        self.options.tls_policies.is_some() && settings.dane && settings.tls != TlsRule::Never
    }

    fn relay_protection(&self, name: &str, wanted: Wanted) -> Protection {
        let relay = Some(name);
        let rule = self.options.relays.get(name).map(|relay| relay.tls);
        match rule {
            Some(SmarthostTls::Implicit) => Protection::Implicit(self.tls.verified(relay)),
            Some(SmarthostTls::StartTls) => Protection::Required(self.tls.verified(relay)),
            _ if wanted == Wanted::Proof => Protection::Required(self.tls.verified(relay)),
            Some(SmarthostTls::Opportunistic) => {
                Protection::Opportunistic(self.tls.unverified(relay))
            }
            Some(SmarthostTls::None) | None => Protection::None,
        }
    }

    fn by_settings(&self, rule: TlsRule, wanted: Wanted) -> Protection {
        match rule {
            _ if wanted == Wanted::Proof => Protection::Required(self.tls.verified(None)),
            TlsRule::Never => Protection::None,
            TlsRule::Opportunistic => Protection::Opportunistic(self.tls.unverified(None)),
            TlsRule::Encrypt => Protection::Required(self.tls.unverified(None)),
            TlsRule::Verify | TlsRule::Dane => Protection::Required(self.tls.verified(None)),
        }
    }

    async fn exchanger_protection(
        &self,
        site: &Site,
        exchangers: &Exchangers,
        candidate: &Candidate,
        mut watched: Watched,
        wanted: Wanted,
    ) -> Result<(Protection, Watched), Trouble> {
        let rule = site.settings.tls;
        let dane = match self.asks_dane(site) {
            true => self.dane(exchangers, candidate).await,
            false => Dane::None,
        };
        match dane {
            Dane::Usable(records) => {
                watched.policy = PolicyType::Tlsa;
                watched.policy_strings = records.texts();
                records.base().clone_into(&mut watched.mx_host);
                let names = watched.domain.as_ref().map(Domain::as_str);
                let verifier = dane_verifier(records, names.as_slice());
                let guard = self.tls.verified_by(verifier);
                let guard =
                    guard.map_err(|error| Trouble::temporary("4.3.0", error.to_string()))?;
                return Ok((Protection::Required(guard), watched));
            }
            Dane::Failed(text) => {
                watched.policy = PolicyType::Tlsa;
                self.note_tls(&mut watched, Err((ResultType::DnssecInvalid, text.clone())));
                return Err(Trouble::of_tls(text));
            }
            Dane::Unusable | Dane::None if rule == TlsRule::Dane => {
                let text = format!("{} has no TLSA records that can be used", candidate.host);
                self.note_tls(&mut watched, Err((ResultType::DaneRequired, text.clone())));
                return Err(Trouble::of_tls(text));
            }
            Dane::Unusable => {
                watched.policy = PolicyType::Tlsa;
                let text = format!("none of the TLSA records of {} is of use", candidate.host);
                self.note_tls(&mut watched, Err((ResultType::TlsaInvalid, text)));
                let is_enforced = matches!(exchangers.sts, StsDecision::Enforce(_));
                let is_verified = is_enforced || rule == TlsRule::Verify;
                let guard = match wanted == Wanted::Proof || is_verified {
                    true => self.tls.verified(None),
                    false => self.tls.unverified(None),
                };
                return Ok((Protection::Required(guard), watched));
            }
            Dane::None => {}
        }
        let sts = self.policy_of(watched.domain.as_ref(), exchangers).await;
        self.by_policy(&sts, exchangers.secure, candidate, watched, rule, wanted)
    }

    /// What the domain's MTA-STS policy and this site's settings want, where DANE says nothing.
    fn by_policy(
        &self,
        sts: &StsDecision,
        is_secure: bool,
        candidate: &Candidate,
        mut watched: Watched,
        rule: TlsRule,
        wanted: Wanted,
    ) -> Result<(Protection, Watched), Trouble> {
        match sts {
            // What shows that it is the host it is called proves nothing where its name could be anybody's.
            StsDecision::None | StsDecision::Testing(_)
                if wanted == Wanted::Proof && rule != TlsRule::Verify && !is_secure =>
            {
                let text = format!("nothing proves that mail goes to {}", candidate.host);
                Err(Trouble::permanent(TLS_REQUIRED, text))
            }
            StsDecision::Enforce(policy) if !policy.allows(&candidate.host) => {
                watched.follow(policy);
                let text = format!("the MTA-STS policy does not allow {}", candidate.host);
                self.note_tls(
                    &mut watched,
                    Err((ResultType::StsPolicyInvalid, text.clone())),
                );
                Err(Trouble::of_tls(text))
            }
            StsDecision::Enforce(policy) => {
                watched.follow(policy);
                Ok((Protection::Required(self.tls.verified(None)), watched))
            }
            StsDecision::Testing(policy) => {
                watched.follow(policy);
                if !policy.allows(&candidate.host) {
                    let text = format!("the policy does not allow {}", candidate.host);
                    self.note_tls(&mut watched, Err((ResultType::StsPolicyInvalid, text)));
                }
                // Whether its certificate would do is found out and told; without, the settings decide.
                let protection = match self.by_settings(rule, wanted) {
                    Protection::Opportunistic(_) => {
                        Protection::Opportunistic(self.tls.verified(None))
                    }
                    protection => protection,
                };
                Ok((protection, watched))
            }
            StsDecision::None => Ok((self.by_settings(rule, wanted), watched)),
        }
    }

    /// The domain's own policy: that of the site may be the one of another domain with the same hosts.
    async fn policy_of(&self, domain: Option<&Domain>, exchangers: &Exchangers) -> StsDecision {
        let known = &exchangers.sts;
        if let (Some(policies), Some(domain)) = (&self.options.tls_policies, domain)
            && *known != StsDecision::None
        {
            let own = policies.of(domain).await;
            if std::mem::discriminant(&own) == std::mem::discriminant(known) {
                return own;
            }
        }
        known.clone()
    }

    async fn dane(&self, exchangers: &Exchangers, candidate: &Candidate) -> Dane {
        let port = candidate.address.port();
        let dns = self.dns.resolver();
        nightmail_tlspolicy::dane_of(dns, &candidate.host, port, exchangers.secure).await
    }

    /// Hosts that an MTA-STS policy does not allow are passed over, and the domain is told.
    pub(crate) fn note_hosts_not_allowed(&self, domain: &Domain, policy: &Policy, hosts: &[Mx]) {
        let Some(reports) = &self.options.tls_reports else {
            return;
        };
        for mx in hosts.iter().filter(|mx| !policy.allows(&mx.host)) {
            reports.record(&TlsResult {
                domain: domain.clone(),
                policy: PolicyType::Sts,
                policy_strings: policy.strings(),
                mx_host: mx.host.clone(),
                outcome: TlsOutcome::Failure(TlsFailure {
                    kind: ResultType::StsPolicyInvalid,
                    receiving_ip: None,
                    receiving_helo: None,
                    sending_ip: None,
                    reason: format!("the policy does not allow {}", mx.host),
                }),
            });
        }
    }

    /// Counts what came of TLS with a host.
    pub(crate) fn note_tls(&self, watched: &mut Watched, came: Result<(), (ResultType, String)>) {
        if std::mem::replace(&mut watched.is_counted, true) {
            return;
        }
        let (Some(reports), Some(domain)) = (&self.options.tls_reports, &watched.domain) else {
            return;
        };
        let outcome = match came {
            Ok(()) => TlsOutcome::Ok,
            Err((kind, reason)) => TlsOutcome::Failure(TlsFailure {
                kind,
                receiving_ip: Some(watched.receiving_ip),
                receiving_helo: watched.peering.hello.clone(),
                sending_ip: watched.peering.local,
                reason,
            }),
        };
        reports.record(&TlsResult {
            domain: domain.clone(),
            policy: watched.policy,
            policy_strings: watched.policy_strings.clone(),
            mx_host: watched.mx_host.clone(),
            outcome,
        });
    }
}

impl Watched {
    /// Adds who wanted the TLS that was not to be had.
    pub(crate) fn explain(&self, mut unopened: Unopened) -> Unopened {
        let who = match self.policy {
            PolicyType::Tlsa => "the host's TLSA records (DANE)",
            PolicyType::Sts => "the domain's MTA-STS policy",
            PolicyType::NoPolicyFound => return unopened,
        };
        if unopened.lacks_tls {
            let _ = write!(unopened.trouble.text, "; it is wanted by {who}");
        }
        unopened
    }

    fn follow(&mut self, policy: &Policy) {
        self.policy = PolicyType::Sts;
        self.policy_strings = policy.strings();
    }
}
