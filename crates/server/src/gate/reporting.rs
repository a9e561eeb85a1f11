//! Reports about DMARC: messages counted as they come, reports handed to the switch like mail of our own.

use std::sync::Arc;

use bytes::Bytes;
use nightmail_core::{Address, ForwardPath, Timestamp};
use nightmail_engine::{Engine, EngineError};
use nightmail_switch::{Demands, Envelope};
use nightmail_trust::{
    DmarcPolicy, DueReport, Inspected, Inspector, ReportMessage, ReportStore, Reporter, Verdict,
};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::Gate;
use super::visit::Visit;
use crate::config::{Config, Consequence};
use crate::drivers::incoming::IncomingMessage;
use crate::metrics;
use crate::services::Services;

/// Failure reports that wait to be sent; more are not written.
const WAITING_MAX: usize = 64;
/// Days of domains whose reports are sent in one go.
const DUE_AT_ONCE: usize = 16;

/// Counts and reports.
pub(crate) struct Reporting {
    store: ReportStore,
    reporter: Option<Reporter>,
    aggregate: bool,
    failures: bool,
    waiting: mpsc::Sender<ReportMessage>,
    /// Taken by whoever sends them.
    receiver: Mutex<Option<mpsc::Receiver<ReportMessage>>>,
}

impl Reporting {
    pub(super) fn new(config: &Config, engine: Arc<dyn Engine>) -> Self {
        let settings = &config.authentication;
        let hostname = &config.server.hostname;
        let postmaster = || Address::parse(&format!("postmaster@{hostname}")).ok();
        let from = settings.reports_from.clone().or_else(postmaster);
        let (waiting, receiver) = mpsc::channel(WAITING_MAX);
        Self {
            store: ReportStore::new(engine),
            reporter: from.map(|from| Reporter {
                organization: hostname.as_str().to_owned(),
                from,
                domain: hostname.clone(),
                redact: true,
            }),
            aggregate: settings.dmarc_reports,
            failures: settings.dmarc_failure_reports,
            waiting,
            receiver: Mutex::new(Some(receiver)),
        }
    }

    /// Whether messages are counted or reported.
    pub(super) const fn is_on(&self) -> bool {
        self.aggregate || self.failures
    }

    /// The failure reports to be sent, for the one who asks first.
    pub(super) fn failures(&self) -> Option<mpsc::Receiver<ReportMessage>> {
        self.receiver.lock().take()
    }

    /// Brings what was counted into the store.
    pub(super) async fn flush(&self) {
        if self.aggregate
            && let Err(error) = self.store.flush().await
        {
            warn!(%error, "what was counted for DMARC reports could not be kept yet");
        }
    }
}

impl Gate {
    /// Counts what was found about a message and what is done with it, and reports a failure to a domain that wants to
    /// hear of it. Never fails the message.
    pub(super) async fn report(&self, visit: &Visit, inspected: &Inspected, verdict: &Verdict) {
        let reporting = &self.reporting;
        let applied = match (self.authentication.dmarc, verdict.disposition()) {
            (Consequence::Reject, disposition) => disposition,
            // It is let in, with a tag that says so.
            (_, DmarcPolicy::None) => DmarcPolicy::None,
            (Consequence::Tag | Consequence::Defer, _) => DmarcPolicy::Quarantine,
            (Consequence::Off, _) => DmarcPolicy::None,
        };
        if reporting.aggregate
            && let Err(error) = reporting.store.record(verdict, applied).await
        {
            warn!(session = %visit.session, %error, "a message could not be counted for DMARC reports");
        }
        let Some(reporter) = reporting.reporter.as_ref().filter(|_| reporting.failures) else {
            return;
        };
        let header = inspected.header();
        let store = &reporting.store;
        let reports = store.failure(verdict, applied, header, &self.trust, reporter);
        for report in Box::pin(reports).await {
            // When too many wait, those that come now are not written.
            let _ = reporting.waiting.try_send(report);
        }
    }
}

impl Services {
    /// Sends the aggregate reports of days that are over. Called by one node at a time; a crash between sending and
    /// forgetting sends one again, under the same report id.
    pub(super) async fn send_aggregate_reports(&self, now: Timestamp) -> Result<(), EngineError> {
        let reporting = &self.gate.reporting;
        let Some(reporter) = reporting.reporter.as_ref().filter(|_| reporting.aggregate) else {
            return Ok(());
        };
        let store = &reporting.store;
        for due in store.due(now, DUE_AT_ONCE).await? {
            if self.send_due(reporter, &due, now).await? {
                store.done(&due).await?;
            }
        }
        Ok(())
    }

    /// Sends the reports of one day of one domain; whether that is done.
    async fn send_due(
        &self,
        reporter: &Reporter,
        due: &DueReport,
        now: Timestamp,
    ) -> Result<bool, EngineError> {
        let gate = &self.gate;
        let built = gate.reporting.store.build(due, &gate.trust, reporter, now);
        for report in built.await? {
            if let Err(reason) = self.send_report(&report, "aggregate", now).await {
                warn!(domain = %due.domain, to = %report.to, reason, "a DMARC report could not be sent yet");
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Signs a report about DMARC and hands it to the switch.
    pub(super) async fn send_report(
        &self,
        report: &ReportMessage,
        kind: &'static str,
        now: Timestamp,
    ) -> Result<(), String> {
        let author = self.gate.reporting.reporter.as_ref();
        let author = author.map(|reporter| reporter.from.to_string());
        if self.send_own(report, author.as_deref(), now).await? {
            ::metrics::counter!(metrics::DMARC_REPORTS, "kind" => kind).increment(1);
            info!(to = %report.to, kind, "DMARC report sent");
        }
        Ok(())
    }

    /// Signs a report as its author and hands it to the switch; false where it has nowhere to go.
    pub(crate) async fn send_own(
        &self,
        report: &ReportMessage,
        author: Option<&str>,
        now: Timestamp,
    ) -> Result<bool, String> {
        let inspector = Inspector::new(&self.gate.trust).also_to_sign();
        let mut message = IncomingMessage::new(self.store.heap()).inspected_by(inspector);
        message.push(&report.message);
        let received = message.finish(Bytes::new());
        let received = received.map_err(|error| error.to_string())?;
        let path = ForwardPath::Address(report.to.clone());
        let size = Some(received.blob.blob.size());
        let routed = self.switch.route(&path, true, size).await;
        let routed = match routed.map_err(|error| error.to_string())? {
            Ok(routed) => routed,
            Err(refusal) => {
                // It will not be taken later either.
                info!(to = %report.to, %refusal, "a report has nowhere to go");
                return Ok(false);
            }
        };
        let inspected = received.inspected.as_ref();
        let signers = &self.gate.signers;
        let signature = signers.sign(author, inspected, b"", now).await;
        let envelope = Envelope {
            trace: signature.into(),
            missing_line_ends: received.missing_line_ends,
            demands: Demands {
                tls_optional: received.structure.tls_is_optional(),
                ..Demands::default()
            },
            ..Envelope::of_report(routed)
        };
        let accepted = self.switch.accept(envelope, received.blob).await;
        accepted.map_err(|error| error.to_string())?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use nightmail_testbed::dns::NameServer;
    use nightmail_trust::{Context, Spf, SpfQuery};

    use super::*;
    use crate::test_services::services;

    const DAY_MILLIS: i64 = 86_400_000;

    async fn verdict(gate: &Gate, at: Timestamp) -> Verdict {
        let mut inspector = Inspector::new(&gate.trust);
        inspector.push(b"From: <boss@bank.test>\r\n\r\nx\r\n");
        let client: IpAddr = [192, 0, 2, 7].into();
        let spf = Spf::none(&SpfQuery {
            client,
            helo: "mail.far.test",
            sender: None,
        });
        let context = Context {
            client,
            helo: "mail.far.test",
            reverse_dns: None,
            authenticated: None,
            now: at,
        };
        let inspected = inspector.finish();
        gate.trust.verify(&inspected, &spf, &context).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_report_of_a_day_that_is_over_is_sent_once() {
        let dir = tempfile::tempdir().unwrap();
        let dns = NameServer::start();
        let record = "v=DMARC1; p=none; rua=mailto:alice@bank.test";
        dns.txt("_dmarc.bank.test", record);
        let (services, account) = services(dir.path(), &dns).await;
        let reporting = &services.gate.reporting;
        let now = nightmail_commit::now();
        for days in [2, 0] {
            let seen = verdict(&services.gate, now.plus_millis(-days * DAY_MILLIS)).await;
            let counted = reporting.store.record(&seen, DmarcPolicy::None).await;
            counted.unwrap();
        }
        reporting.flush().await;
        for _ in 0..2 {
            services.send_aggregate_reports(now).await.unwrap();
            let usage = services.store.usage(account).await.unwrap();
            assert_eq!(usage.messages, 1, "today is not over");
        }
        let tomorrow = now.plus_millis(DAY_MILLIS + DAY_MILLIS / 2);
        services.send_aggregate_reports(tomorrow).await.unwrap();
        assert_eq!(services.store.usage(account).await.unwrap().messages, 2);
    }
}
