//! Metrics in the Prometheus text format: one table names them all, and sources fill in what others count.

use std::sync::Arc;

use ::metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use parking_lot::Mutex;

/// What a metric measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows, until the process ends.
    Counter,
    /// Grows and shrinks.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metric {
    /// Its name as scraped.
    pub name: &'static str,
    /// What it measures.
    pub kind: Kind,
    /// Its label names, parted by commas.
    pub labels: &'static str,
    /// What it says.
    pub help: &'static str,
}

macro_rules! metrics_table {
    ($( $(#[doc = $help:literal])* $constant:ident = $name:literal $kind:ident $labels:literal; )*) => {
        $( $(#[doc = $help])* pub const $constant: &str = $name; )*

        /// Every metric of the program.
        pub const METRICS: &[Metric] = &[$(
            Metric { name: $name, kind: Kind::$kind, labels: $labels, help: concat!($($help),*).trim_ascii() },
        )*];
    };
}

metrics_table! {
    /// Connections accepted.
    CONNECTIONS = "nightmail_connections_total" Counter "protocol";
    /// Connections turned away because a bound was reached.
    CONNECTIONS_REFUSED = "nightmail_connections_refused_total" Counter "protocol";
    /// Connections from proxies that were closed because they did not begin with a PROXY header.
    PROXY_HEADERS_REFUSED = "nightmail_proxy_headers_refused_total" Counter "protocol";
    /// Connections open now.
    CONNECTIONS_OPEN = "nightmail_connections_open" Gauge "protocol";
    /// TLS handshakes that failed.
    TLS_HANDSHAKES_FAILED = "nightmail_tls_handshakes_failed_total" Counter "";
    /// Whether the last look at the certificate files succeeded: 1 or 0.
    TLS_CERTIFICATE_GOOD = "nightmail_tls_certificate_good" Gauge "";
    /// When a certificate in use ends, in seconds since 1970, by its first name and where it comes from.
    TLS_CERTIFICATE_EXPIRY = "nightmail_tls_certificate_expiry_seconds" Gauge "name,source";
    /// Attempts to fetch a certificate, by result: fetched or failed.
    ACME_ORDERS = "nightmail_acme_orders_total" Counter "result";
    /// Logins, by protocol and result: accepted or refused.
    LOGINS = "nightmail_logins_total" Counter "protocol,result";
    /// Passwords hashed with Argon2 to check a login.
    PASSWORDS_HASHED = "nightmail_passwords_hashed_total" Counter "";
    /// Logins recognised without hashing.
    PASSWORDS_CACHED = "nightmail_passwords_cached_total" Counter "";
    /// Messages accepted: acknowledged and on disk.
    MESSAGES_ACCEPTED = "nightmail_smtp_messages_accepted_total" Counter "protocol";
    /// Messages refused after their data was received.
    MESSAGES_REJECTED = "nightmail_smtp_messages_rejected_total" Counter "protocol";
    /// Octets of messages accepted.
    OCTETS_ACCEPTED = "nightmail_smtp_octets_accepted_total" Counter "protocol";
    /// Recipients accepted.
    RECIPIENTS_ACCEPTED = "nightmail_smtp_recipients_accepted_total" Counter "protocol";
    /// Recipients refused.
    RECIPIENTS_REJECTED = "nightmail_smtp_recipients_rejected_total" Counter "protocol";
    /// Seconds from the end of a message's data to the reply.
    ACCEPT_SECONDS = "nightmail_smtp_accept_seconds" Histogram "protocol";
    /// What rules and checks have decided about clients, senders, recipients and messages.
    ACCESS_DECISIONS = "nightmail_access_decisions_total" Counter "stage,decision";
    /// Questions to DNS, those that the cache has answered included.
    DNS_LOOKUPS = "nightmail_dns_lookups_total" Counter "kind,result";
    /// Questions to DNS whose answers were to be proven by DNSSEC, by what came of it: secure, insecure or failed.
    DNS_PROOFS = "nightmail_dns_proofs_total" Counter "kind,result";
    /// Recipients that greylisting was asked about.
    GREYLIST = "nightmail_greylist_total" Counter "verdict";
    /// Replies to errors that were held back.
    TARPIT_DELAYS = "nightmail_tarpit_delays_total" Counter "";
    /// Connections and messages put off because the store was behind.
    LOAD_SHED = "nightmail_load_shed_total" Counter "stage";
    /// Answers of SPF.
    SPF_RESULTS = "nightmail_spf_total" Counter "result";
    /// DKIM signatures looked at.
    DKIM_RESULTS = "nightmail_dkim_total" Counter "result";
    /// ARC chains looked at.
    ARC_RESULTS = "nightmail_arc_total" Counter "result";
    /// Answers of DMARC.
    DMARC_RESULTS = "nightmail_dmarc_total" Counter "result";
    /// DMARC reports sent to other sites.
    DMARC_REPORTS = "nightmail_dmarc_reports_total" Counter "kind";
    /// Failure reports not written because too many had gone to their domain.
    DMARC_REPORTS_LIMITED = "nightmail_dmarc_failure_reports_limited_total" Counter "";
    /// Messages not counted for aggregate reports because too much was to be counted.
    DMARC_OBSERVATIONS_DROPPED = "nightmail_dmarc_observations_dropped_total" Counter "";
    /// Attempts to fetch an MTA-STS policy, by result: fetched or failed.
    STS_FETCHES = "nightmail_sts_fetches_total" Counter "result";
    /// Reports on TLS sent to other sites, by kind: mail or https.
    TLS_REPORTS = "nightmail_tls_reports_total" Counter "kind";
    /// Sessions not counted for reports on TLS because too much was to be counted.
    TLS_RESULTS_DROPPED = "nightmail_tls_results_dropped_total" Counter "";
    /// Messages signed with DKIM.
    DKIM_SIGNED = "nightmail_dkim_signed_total" Counter "";
    /// Messages sealed with ARC.
    ARC_SEALED = "nightmail_arc_sealed_total" Counter "";
    /// Messages put into local mailboxes, once for each recipient.
    DELIVERIES_LOCAL = "nightmail_deliveries_local_total" Counter "";
    /// Attempts to deliver to another site.
    DELIVERY_ATTEMPTS = "nightmail_delivery_attempts_total" Counter "";
    /// Recipients for whom another site has taken responsibility.
    DELIVERY_DELIVERED = "nightmail_delivery_delivered_total" Counter "";
    /// Recipients put off to a later attempt.
    DELIVERY_DEFERRED = "nightmail_delivery_deferred_total" Counter "";
    /// Recipients given up.
    DELIVERY_FAILED = "nightmail_delivery_failed_total" Counter "";
    /// Reports to senders written: failures, delays, relayed mail.
    DELIVERY_REPORTS = "nightmail_delivery_reports_total" Counter "";
    /// Reports that had nowhere to go.
    DELIVERY_REPORTS_DROPPED = "nightmail_delivery_reports_dropped_total" Counter "";
    /// Messages that were held back and have been let go.
    DELIVERY_RELEASED = "nightmail_delivery_released_total" Counter "";
    /// Messages being sent now.
    DELIVERY_ACTIVE = "nightmail_delivery_messages_active" Gauge "";
    /// Recipients held because of what a host replied, or a rule.
    DELIVERY_HELD = "nightmail_delivery_held_total" Counter "";
    /// Replies that made a site get less for a while.
    DELIVERY_SLOWED = "nightmail_delivery_slowed_total" Counter "";
    /// Open connections of the busiest sites; those of all others together under `other`.
    DELIVERY_SITE_CONNECTIONS = "nightmail_delivery_site_connections" Gauge "site";
    /// Messages that are due and in memory, once for each destination.
    QUEUE_MESSAGES_READY = "nightmail_queue_messages_ready" Gauge "";
    /// Destinations with such messages.
    QUEUE_DESTINATIONS_READY = "nightmail_queue_destinations_ready" Gauge "";
    /// Messages in the queue.
    QUEUE_MESSAGES = "nightmail_queue_messages" Gauge "";
    /// Messages in the queue whose next attempt is due.
    QUEUE_MESSAGES_DUE = "nightmail_queue_messages_due" Gauge "";
    /// Events written to the log of events.
    JOURNAL_EVENTS = "nightmail_journal_events_total" Counter "";
    /// Octets that they take in the store.
    JOURNAL_OCTETS = "nightmail_journal_octets_total" Counter "";
    /// Events that are not in the log because the store did not take them in time.
    JOURNAL_DROPPED = "nightmail_journal_dropped_total" Counter "";
    /// Accounts told by mail that they fill up.
    QUOTA_WARNINGS = "nightmail_quota_warnings_total" Counter "";
    /// IMAP commands carried out.
    IMAP_COMMANDS = "nightmail_imap_commands_total" Counter "";
    /// IMAP sessions in IDLE now.
    IMAP_IDLE = "nightmail_imap_idle_sessions" Gauge "";
    /// Messages sent to POP3 clients.
    POP3_RETRIEVED = "nightmail_pop3_messages_retrieved_total" Counter "";
    /// Connections that customers have turned around to be sent their mail.
    ODMR_TURNS = "nightmail_odmr_turns_total" Counter "";
    /// Commits of the index.
    ENGINE_COMMITS = "nightmail_engine_commits_total" Counter "";
    /// Times the index was brought to stable storage.
    ENGINE_SYNCS = "nightmail_engine_syncs_total" Counter "";
    /// Octets written to the index.
    ENGINE_OCTETS_WRITTEN = "nightmail_engine_octets_written_total" Counter "";
    /// Commits that another change got ahead of.
    ENGINE_CONFLICTS = "nightmail_engine_conflicts_total" Counter "";
    /// Messages written to the heap.
    HEAP_RECORDS = "nightmail_heap_records_total" Counter "";
    /// Times the heap was brought to stable storage.
    HEAP_SYNCS = "nightmail_heap_syncs_total" Counter "";
    /// Octets written to the heap.
    HEAP_OCTETS_WRITTEN = "nightmail_heap_octets_written_total" Counter "";
    /// Octets of the heap on disk.
    HEAP_OCTETS = "nightmail_heap_octets" Gauge "";
    /// Octets of the heap that compaction could give back, as far as it has counted.
    HEAP_OCTETS_RECLAIMABLE = "nightmail_heap_octets_reclaimable" Gauge "";
    /// Octets of the heap given back by compaction.
    HEAP_OCTETS_RECLAIMED = "nightmail_heap_octets_reclaimed_total" Counter "";
    /// Deleted messages that could no longer be brought back.
    STORE_MESSAGES_PURGED = "nightmail_store_messages_purged_total" Counter "";
    /// Messages that nothing referred to and that were given up.
    HEAP_BLOBS_RECLAIMED = "nightmail_heap_blobs_reclaimed_total" Counter "";
    /// Changes committed together.
    COMMIT_GROUP = "nightmail_commit_group_intents" Histogram "";
    /// Groups of changes that were run again because another change came first.
    COMMIT_CONFLICTS = "nightmail_commit_conflicts_total" Counter "";
    /// Changes given up, undone, because the store could not begin with them in time.
    COMMIT_WAITS_GIVEN_UP = "nightmail_commit_waits_given_up_total" Counter "";
    /// Segments that compaction leaves alone because it cannot read them.
    HEAP_SEGMENTS_SET_ASIDE = "nightmail_heap_segments_set_aside_total" Counter "";
    /// Reads of messages answered by the local cache of the object store.
    HEAP_CACHE_HITS = "nightmail_heap_cache_hits_total" Counter "";
    /// Reads of messages answered by the object store.
    HEAP_CACHE_MISSES = "nightmail_heap_cache_misses_total" Counter "";
    /// Times the local cache could not be written or read; the object store is asked instead.
    HEAP_CACHE_FAILURES = "nightmail_heap_cache_failures_total" Counter "";
    /// Octets in the local cache of the object store.
    HEAP_CACHE_OCTETS = "nightmail_heap_cache_octets" Gauge "";
    /// Times an answer of the database was waited for.
    POSTGRES_ROUND_TRIPS = "nightmail_postgres_round_trips_total" Counter "";
    /// Connections to the database.
    POSTGRES_CONNECTIONS = "nightmail_postgres_connections" Gauge "";
    /// Times the database was reached again after it had been lost.
    POSTGRES_RECONNECTS = "nightmail_postgres_reconnects_total" Counter "";
    /// Commits whose answer was lost with their connection, by what became of them.
    POSTGRES_RESOLVED = "nightmail_postgres_resolved_total" Counter "outcome";
    /// Messages about changes sent to other nodes.
    EVENTS_SENT = "nightmail_events_sent_total" Counter "";
    /// Messages about changes that came from other nodes.
    EVENTS_RECEIVED = "nightmail_events_received_total" Counter "";
    /// Times all sessions were woken because a message may have been lost.
    EVENTS_HEALED = "nightmail_events_healed_total" Counter "cause";
    /// Whether the bus that carries events is connected.
    EVENTS_CONNECTED = "nightmail_events_connected" Gauge "";
    /// Nodes that are live, as this one sees it.
    CLUSTER_NODES = "nightmail_cluster_nodes" Gauge "";
    /// Leases that this node holds: shards of the queue, periodic jobs.
    CLUSTER_LEASES_HELD = "nightmail_cluster_leases_held" Gauge "";
    /// Silent nodes that this node has shut out.
    CLUSTER_FENCED = "nightmail_cluster_fenced_total" Counter "";
    /// Leases that this node has taken over from one that was shut out.
    CLUSTER_TAKEOVERS = "nightmail_cluster_takeovers_total" Counter "";
    /// Attempts whose result was dropped because another node has the work now.
    DELIVERY_LEASE_LOST = "nightmail_delivery_lease_lost_total" Counter "";
}

/// Upper bounds of the histograms' buckets, in seconds.
const SECONDS: [f64; 12] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// The metrics as a table for the operator: name, kind, labels, meaning.
pub fn metric_names() -> String {
    let lines = METRICS.iter().map(|metric| {
        let kind = format!("{:?}", metric.kind).to_ascii_lowercase();
        let Metric {
            name, labels, help, ..
        } = metric;
        format!("{name}{{{labels}}} {kind}: {help}\n")
    });
    lines.collect()
}

/// A counter with a `protocol` label.
pub fn counter(name: &'static str, protocol: &'static str) -> Counter {
    ::metrics::counter!(name, "protocol" => protocol)
}

/// A counter without labels.
pub fn plain_counter(name: &'static str) -> Counter {
    ::metrics::counter!(name)
}

/// Counts a login.
pub fn login(protocol: &'static str, accepted: bool) {
    let result = if accepted { "accepted" } else { "refused" };
    ::metrics::counter!(LOGINS, "protocol" => protocol, "result" => result).increment(1);
}

/// A gauge with a `protocol` label.
pub fn gauge(name: &'static str, protocol: &'static str) -> Gauge {
    ::metrics::gauge!(name, "protocol" => protocol)
}

/// A gauge without labels.
pub fn plain_gauge(name: &'static str) -> Gauge {
    ::metrics::gauge!(name)
}

/// A histogram with a `protocol` label.
pub fn histogram(name: &'static str, protocol: &'static str) -> Histogram {
    ::metrics::histogram!(name, "protocol" => protocol)
}

/// The metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The histograms' buckets were refused.
    #[error("the histograms cannot be set up: {0}")]
    Buckets(String),
    /// This process has a recorder already.
    #[error("the metrics are set up already")]
    Twice,
}

type Source = Box<dyn Fn() + Send + Sync>;

/// The metrics of the process, to be rendered.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    sources: Arc<Mutex<Vec<Source>>>,
}

impl Metrics {
    /// Begins to record the metrics of the whole process. Works once in a process.
    pub fn install() -> Result<Self, MetricsError> {
        let (metrics, recorder) = Self::with_recorder()?;
        ::metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Twice)?;
        metrics.describe();
        Ok(metrics)
    }

    fn with_recorder() -> Result<(Self, PrometheusRecorder), MetricsError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&SECONDS)
            .map_err(|error| MetricsError::Buckets(error.to_string()))?
            .build_recorder();
        let metrics = Self {
            handle: recorder.handle(),
            sources: Arc::default(),
        };
        Ok((metrics, recorder))
    }

    fn describe(&self) {
        for metric in METRICS {
            match metric.kind {
                Kind::Counter => ::metrics::describe_counter!(metric.name, metric.help),
                Kind::Gauge => ::metrics::describe_gauge!(metric.name, metric.help),
                Kind::Histogram => ::metrics::describe_histogram!(metric.name, metric.help),
            }
        }
    }

    /// Adds a function that brings gauges up to date; it runs before every rendering and must be quick.
    pub fn add_source(&self, source: impl Fn() + Send + Sync + 'static) {
        self.sources.lock().push(Box::new(source));
    }

    /// All metrics in the Prometheus text format.
    pub fn render(&self) -> String {
        for source in self.sources.lock().iter() {
            source();
        }
        self.handle.run_upkeep();
        self.handle.render()
    }
}

#[cfg(test)]
impl Metrics {
    /// Metrics recorded only where the recorder is made the local one.
    pub(crate) fn detached() -> (Self, PrometheusRecorder) {
        Self::with_recorder().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for metric in METRICS {
            assert!(metric.name.starts_with("nightmail_"), "{}", metric.name);
            let is_total = metric.name.ends_with("_total");
            assert_eq!(is_total, metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        assert!(metric_names().contains("nightmail_logins_total{protocol,result} counter: "));
    }

    #[test]
    fn sources_run_before_rendering() {
        let (metrics, recorder) = Metrics::detached();
        metrics.add_source(|| plain_gauge(QUEUE_MESSAGES).set(7.0));
        let text = ::metrics::with_local_recorder(&recorder, || {
            metrics.describe();
            counter(MESSAGES_ACCEPTED, "smtp").increment(2);
            histogram(ACCEPT_SECONDS, "smtp").record(0.003);
            metrics.render()
        });
        for line in [
            "nightmail_queue_messages 7",
            "nightmail_smtp_messages_accepted_total{protocol=\"smtp\"} 2",
            "nightmail_smtp_accept_seconds_bucket{protocol=\"smtp\",le=\"0.005\"} 1",
            "# HELP nightmail_queue_messages Messages in the queue",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
