//! What other sites say about TLS towards them, and what they are told of it: set up, and tended by the clock.

use std::sync::Arc;
use std::time::Duration;

use nightmail_cluster::LeaseName;
use nightmail_core::{Address, Timestamp};
use nightmail_delivery::DeliveryOptions;
use nightmail_dns::Dns;
use nightmail_engine::{Engine, EngineError};
use nightmail_tlspolicy::{
    DueTlsReport, TlsPolicies, TlsPolicyOptions, TlsReport, TlsReportOptions, TlsReports,
    TlsSetupError,
};
use nightmail_trust::Reporter;
use tracing::{debug, info, warn};

use crate::backend::OpenError;
use crate::config::Config;
use crate::error::ServerError;
use crate::metrics;
use crate::services::{Services, SharedServices};
use crate::shutdown::Shutdown;
use crate::tls::read_authorities;

/// Between two rounds.
const INTERVAL: Duration = Duration::from_secs(60);
/// Days of domains whose reports are sent in one round.
const DUE_AT_ONCE: usize = 64;
/// How long what was counted is waited for when the server ends; it asks DNS.
const LAST_FLUSH_MAX: Duration = Duration::from_secs(2);
/// The time after midnight in which sites send their reports, each at a moment of its own.
const SPREAD_SECS: u64 = 4 * 3600;

/// Policies of other sites, and reports to them.
pub(crate) struct OutboundTls {
    policies: TlsPolicies,
    reporting: Option<Reporting>,
}

/// Reports that are sent.
struct Reporting {
    reports: TlsReports,
    reporter: Reporter,
    /// Whether they are handed to web servers too.
    by_https: bool,
}

impl OutboundTls {
    /// As the configuration wants it, with its rows in `engine`.
    pub(crate) fn new(
        config: &Config,
        dns: &Dns,
        engine: &Arc<dyn Engine>,
    ) -> Result<Self, ServerError> {
        let roots = read_authorities(config)?;
        let setup = |error: TlsSetupError| OpenError::Settings(format!("[tls]: {error}"));
        let reporting = match reporter(config) {
            Some(reporter) => {
                let options = TlsReportOptions {
                    roots: roots.clone(),
                    delay: delay_of(config.server.hostname.as_str()),
                    ..TlsReportOptions::default()
                };
                let reports = TlsReports::new(dns.clone(), Arc::clone(engine), &options);
                Some(Reporting {
                    reports: reports.map_err(setup)?,
                    reporter,
                    by_https: config.tls_reports.https,
                })
            }
            None => None,
        };
        let options = TlsPolicyOptions {
            roots,
            reports: reporting.as_ref().map(|it| it.reports.clone()),
            ..TlsPolicyOptions::default()
        };
        let policies = TlsPolicies::new(dns.clone(), Arc::clone(engine), options);
        Ok(Self {
            policies: policies.map_err(setup)?,
            reporting,
        })
    }

    /// Tells the outbound channel.
    pub(crate) fn equip(&self, options: &mut DeliveryOptions) {
        options.tls_policies = Some(self.policies.clone());
        options.tls_reports = self.reporting.as_ref().map(|it| it.reports.clone());
    }

    /// Brings what was counted into the store.
    async fn flush(&self) {
        if let Some(reporting) = &self.reporting
            && let Err(error) = reporting.reports.flush().await
        {
            warn!(%error, "what was counted for reports on TLS could not be kept yet");
        }
    }
}

/// Who the reports are from; `None` where none are sent.
fn reporter(config: &Config) -> Option<Reporter> {
    if !config.tls_reports.send {
        return None;
    }
    let hostname = &config.server.hostname;
    let postmaster = || Address::parse(&format!("postmaster@{hostname}")).ok();
    Some(Reporter {
        organization: hostname.as_str().to_owned(),
        from: config.tls_reports.from.clone().or_else(postmaster)?,
        domain: hostname.clone(),
        redact: true,
    })
}

/// When after midnight the site of this name sends its reports.
fn delay_of(hostname: &str) -> Duration {
    let digest = blake3::hash(hostname.as_bytes());
    let first = digest.as_bytes().first_chunk().copied();
    let number = u64::from_be_bytes(first.unwrap_or_default());
    Duration::from_secs(number % SPREAD_SECS)
}

/// Tends policies and reports until the server stops.
pub(crate) async fn upkeep(services: SharedServices, tls: Arc<OutboundTls>, mut stop: Shutdown) {
    let mut round = tokio::time::interval(INTERVAL);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick comes at once.
    round.tick().await;
    loop {
        tokio::select! {
            biased;
            () = stop.draining() => break,
            _ = round.tick() => {}
        }
        tokio::select! {
            biased;
            // What was begun is done again by whoever goes on.
            () = stop.aborting() => break,
            () = once(&services, &tls) => {}
        }
    }
    stop.aborting().await;
    // What is not written by then is lost, as after a crash.
    let _ = tokio::time::timeout(LAST_FLUSH_MAX, tls.flush()).await;
}

async fn once(services: &Services, tls: &OutboundTls) {
    tls.flush().await;
    // The rest is done by one node for all.
    let Some(_hold) = services.cluster.leases().hold(LeaseName::Maintenance) else {
        return;
    };
    let now = nightmail_commit::now();
    match Box::pin(tls.policies.refresh(now)).await {
        Ok(done) if done != Default::default() => debug!(?done, "MTA-STS policies tended"),
        Ok(_) => {}
        Err(error) => warn!(%error, "MTA-STS policies could not be tended"),
    }
    if let Some(reporting) = &tls.reporting
        && let Err(error) = reporting.send(services, now).await
    {
        warn!(%error, "reports on TLS could not be sent");
    }
}

impl Reporting {
    /// Sends the reports of days that are over. A crash between sending and forgetting sends one again, under the same
    /// report id.
    async fn send(&self, services: &Services, now: Timestamp) -> Result<(), EngineError> {
        for due in self.reports.due(now, DUE_AT_ONCE).await? {
            let is_done = Box::pin(self.send_one(services, &due, now)).await?;
            if is_done || !self.reports.put_off(&due, now) {
                self.reports.done(&due).await?;
            }
        }
        Ok(())
    }

    /// Sends the reports of one day of one domain; whether that is done: nobody wants one, or somebody has got one.
    async fn send_one(
        &self,
        services: &Services,
        due: &DueTlsReport,
        now: Timestamp,
    ) -> Result<bool, EngineError> {
        let Some(built) = self.reports.build(due, &self.reporter, now).await? else {
            return Ok(false);
        };
        let mut is_done = true;
        for report in built {
            let (kind, sent) = match report {
                TlsReport::Post { .. } if !self.by_https => continue,
                TlsReport::Post { uri, body } => ("https", self.reports.post(&uri, body).await),
                TlsReport::Mail(mail) => {
                    let author = self.reporter.from.to_string();
                    let sent = services.send_own(&mail, Some(&author), now).await;
                    ("mail", sent.map(|_| ()))
                }
            };
            match sent {
                Ok(()) => {
                    ::metrics::counter!(metrics::TLS_REPORTS, "kind" => kind).increment(1);
                    info!(domain = due.domain, kind, "report on TLS sent");
                    return Ok(true);
                }
                Err(reason) => {
                    is_done = false;
                    warn!(
                        domain = due.domain,
                        kind, reason, "a report on TLS could not be sent yet"
                    );
                }
            }
        }
        Ok(is_done)
    }
}

#[cfg(test)]
mod tests {
    use nightmail_core::Domain;
    use nightmail_directory::{DkimKeyRecord, DkimKeyState};
    use nightmail_testbed::dns::NameServer;
    use nightmail_tlspolicy::{PolicyType, TlsOutcome, TlsResult};
    use nightmail_trust::{KeyAlgorithm, SigningKey};

    use super::*;
    use crate::test_services::services;

    const DAY_MILLIS: i64 = 86_400_000;

    /// A key of bank.test that is in use.
    fn key(now: Timestamp) -> DkimKeyRecord {
        let domain = Domain::parse("bank.test").unwrap();
        let key = SigningKey::generate(domain, "one", KeyAlgorithm::Ed25519).unwrap();
        DkimKeyRecord {
            domain: key.domain,
            selector: key.selector,
            algorithm: DkimKeyRecord::ED25519,
            pkcs8: key.pkcs8,
            state: DkimKeyState::Active,
            created: now,
            changed: now,
        }
    }

    fn session_with(domain: &str) -> TlsResult {
        TlsResult {
            domain: Domain::parse(domain).unwrap(),
            policy: PolicyType::NoPolicyFound,
            policy_strings: Vec::new(),
            mx_host: format!("mx.{domain}"),
            outcome: TlsOutcome::Ok,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_report_of_a_day_that_is_over_is_signed_and_sent_once() {
        let dir = tempfile::tempdir().unwrap();
        let dns = NameServer::start();
        let wanted = "v=TLSRPTv1; rua=mailto:alice@bank.test";
        dns.txt("_smtp._tls.far.test", wanted);
        let (services, alice) = services(dir.path(), &dns).await;
        let now = nightmail_commit::now();
        services.directory.add_dkim_key(key(now)).await.unwrap();
        let engine = services.store.committer().engine();
        let tls = OutboundTls::new(&services.config, services.gate.dns(), engine).unwrap();
        let reporting = tls.reporting.as_ref().unwrap();
        for days in [2, 0] {
            let at = now.plus_millis(-days * DAY_MILLIS);
            for domain in ["far.test", "silent.test"] {
                reporting.reports.record_at(&session_with(domain), at);
            }
        }
        tls.flush().await;
        for _ in 0..2 {
            reporting.send(&services, now).await.unwrap();
            let usage = services.store.usage(alice).await.unwrap();
            assert_eq!(usage.messages, 1, "today is not over");
        }
        let inbox = services.store.inbox(alice).await.unwrap();
        let rows = services.store.rows(inbox, &[1]).await.unwrap();
        let prefix = String::from_utf8_lossy(&rows[0].1.prefix).into_owned();
        assert!(prefix.contains("DKIM-Signature:"), "{prefix}");
        assert!(prefix.contains("d=bank.test;"), "{prefix}");
        let tomorrow = now.plus_millis(2 * DAY_MILLIS);
        reporting.send(&services, tomorrow).await.unwrap();
        assert_eq!(services.store.usage(alice).await.unwrap().messages, 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_report_whose_web_server_is_away_waits_and_is_given_up_after_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let dns = NameServer::start();
        let wanted = "v=TLSRPTv1; rua=https://nowhere.far.test/";
        dns.txt("_smtp._tls.far.test", wanted);
        let (services, _) = services(dir.path(), &dns).await;
        let engine = services.store.committer().engine();
        let tls = OutboundTls::new(&services.config, services.gate.dns(), engine).unwrap();
        let reporting = tls.reporting.as_ref().unwrap();
        let day = Timestamp::from_millis(20_000 * DAY_MILLIS);
        reporting.reports.record_at(&session_with("far.test"), day);
        tls.flush().await;
        let due = async |hours: i64| {
            let now = day.plus_millis(DAY_MILLIS + hours * DAY_MILLIS / 24);
            let due = reporting.reports.due(now, 10).await.unwrap();
            reporting.send(&services, now).await.unwrap();
            due.len()
        };
        assert_eq!(due(5).await, 1);
        assert_eq!(due(5).await, 0, "it rests");
        assert_eq!(due(7).await, 1);
        assert_eq!(due(29).await, 1);
        assert_eq!(due(31).await, 0, "given up");
    }

    #[test]
    fn sites_send_their_reports_at_different_times() {
        let delays = ["a.test", "b.test", "c.test"].map(delay_of);
        assert!(delays.iter().all(|delay| delay.as_secs() < SPREAD_SECS));
        assert!(delays[0] != delays[1] && delays[1] != delays[2]);
    }
}
