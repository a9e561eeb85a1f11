//! The figures of a run, and how they are printed.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use crate::error::BenchError;
use crate::histogram::Histogram;
use crate::procfs::ServerCost;
use crate::workload::mailbox::Timing;

/// What a run measured. Bytes are those of messages, not of the protocol around them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The load, such as `imap fetch`.
    pub workload: String,
    /// Host and port.
    pub target: String,
    /// Connections held at once.
    pub connections: u32,
    /// Users the load was spread over.
    pub users: u32,
    /// From the first operation's start to the last one's end.
    pub seconds: f64,
    /// Operations that went well.
    pub operations: u64,
    /// `operations / seconds`.
    pub operations_per_second: f64,
    /// Messages sent or read in them.
    pub messages: u64,
    /// `messages / seconds`.
    pub messages_per_second: f64,
    /// Bytes of those messages.
    pub bytes: u64,
    /// `bytes / seconds`.
    pub bytes_per_second: f64,
    /// Operations refused or broken off.
    pub failed: u64,
    /// How long the operations took.
    pub latency: Latency,
    /// SMTP: how often each reply code decided a message's fate.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub replies: BTreeMap<u16, u64>,
    /// What failed, and how often.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<String, u64>,
    /// Sink and source: faults made, and how often.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<&'static str, u64>,
    /// SMTP: the DNS record that vouches for the messages' signatures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dkim_record: Option<String>,
    /// SMTP: dawdling connections that the server has closed.
    #[serde(skip_serializing_if = "is_zero")]
    pub slow_lost: u64,
    /// SMTP: when the accepted messages were all in their mailboxes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Delivered>,
    /// IMAP: what idle connections cost the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<IdleCost>,
    /// Mailboxes: how long commands took.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub timings: BTreeMap<&'static str, Timing>,
    /// The watched processes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerCost>,
    /// Bytes the watched processes sent towards the disk, for each message byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_per_byte: Option<f64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Latency of operations, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Arithmetic mean.
    pub mean_ms: f64,
    /// Half are at most this long.
    pub p50_ms: f64,
    /// 95 in 100 are at most this long.
    pub p95_ms: f64,
    /// 99 in 100 are at most this long.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Latency {
    pub(crate) fn of(histogram: &Histogram) -> Self {
        let ms = |took: Duration| took.as_secs_f64() * 1e3;
        Self {
            mean_ms: ms(histogram.mean()),
            p50_ms: ms(histogram.percentile(50.0)),
            p95_ms: ms(histogram.percentile(95.0)),
            p99_ms: ms(histogram.percentile(99.0)),
            max_ms: ms(histogram.max()),
        }
    }
}

/// Delivery into mailboxes, seen over IMAP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Delivered {
    /// Copies the server accepted: messages times recipients.
    pub expected: u64,
    /// Messages by which the mailboxes grew.
    pub arrived: u64,
    /// From the start of sending until all were seen, or until the wait was over.
    pub seconds: f64,
    /// `arrived / seconds`.
    pub per_second: f64,
}

/// What connections that only wait cost the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct IdleCost {
    /// Connections in IDLE at the end.
    pub connections: u64,
    /// Growth of the watched processes' resident memory, for each connection, in bytes.
    pub rss_bytes_per_connection: f64,
    /// What waking one of them cost, where that was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wake: Option<WakeCost>,
}

/// What it costs to wake one of many idle connections by a message that is appended to its mailbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct WakeCost {
    /// Messages appended.
    pub messages: u32,
    /// Processor time of the watched processes for each of them, appending included, in microseconds.
    pub cpu_micros_per_message: f64,
    /// From the first octet of APPEND until both clients had been told.
    pub latency: Latency,
}

impl Report {
    /// Adds what the server's processes cost.
    pub(crate) fn with_servers(mut self, servers: Vec<ServerCost>) -> Self {
        if !servers.is_empty() && self.bytes > 0 {
            let written: u64 = servers.iter().map(ServerCost::written_bytes).sum();
            self.written_per_byte = Some(written as f64 / self.bytes as f64);
        }
        self.servers = servers;
        self
    }

    /// One line of JSON, or the table of [`fmt::Display`]; ends with a line end.
    pub fn render(&self, json: bool) -> Result<String, BenchError> {
        if !json {
            return Ok(self.to_string());
        }
        let mut text = serde_json::to_string(self).map_err(std::io::Error::from)?;
        text.push('\n');
        Ok(text)
    }

    /// The rows of the table: a name and what it says.
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("workload", format!("{} at {}", self.workload, self.target)),
            (
                "load",
                format!("{} connections, {} users", self.connections, self.users),
            ),
            ("time", format!("{:.2} s", self.seconds)),
            (
                "operations",
                format!("{} ({:.1}/s)", self.operations, self.operations_per_second),
            ),
        ];
        if self.messages > 0 {
            rows.push((
                "messages",
                format!(
                    "{} ({:.1}/s), {:.1} MB ({:.2} MB/s)",
                    self.messages,
                    self.messages_per_second,
                    self.bytes as f64 / 1e6,
                    self.bytes_per_second / 1e6
                ),
            ));
        }
        rows.push(("failed", self.failed.to_string()));
        let Latency {
            mean_ms,
            p50_ms,
            p95_ms,
            p99_ms,
            max_ms,
        } = self.latency;
        rows.push((
            "latency",
            format!("p50 {p50_ms:.2}  p95 {p95_ms:.2}  p99 {p99_ms:.2}  max {max_ms:.2}  mean {mean_ms:.2} ms"),
        ));
        self.outcome_rows(&mut rows);
        self.server_rows(&mut rows);
        rows
    }

    fn outcome_rows(&self, rows: &mut Vec<(&'static str, String)>) {
        if !self.replies.is_empty() {
            let mut text = String::new();
            for (code, count) in &self.replies {
                let _ = write!(text, "{code}: {count}  ");
            }
            rows.push(("replies", text.trim_end().to_owned()));
        }
        for (fault, count) in &self.faults {
            rows.push(("fault", format!("{count} x {fault}")));
        }
        for (error, count) in &self.errors {
            rows.push(("error", format!("{count} x {error}")));
        }
        if let Some(delivered) = &self.delivered {
            rows.push((
                "delivered",
                format!(
                    "{} of {} in {:.2} s ({:.1}/s)",
                    delivered.arrived, delivered.expected, delivered.seconds, delivered.per_second
                ),
            ));
        }
    }

    fn server_rows(&self, rows: &mut Vec<(&'static str, String)>) {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        for server in &self.servers {
            rows.push((
                "server",
                format!(
                    "pid {}: RSS {:.1} -> {:.1} MB (peak {:.1}), {:.2} s of CPU, {:.1} MB written",
                    server.pid,
                    mb(server.before.rss_bytes),
                    mb(server.after.rss_bytes),
                    mb(server.after.rss_peak_bytes),
                    server.cpu_seconds(),
                    mb(server.written_bytes())
                ),
            ));
        }
        for (name, timing) in &self.timings {
            let Timing {
                first_ms,
                min_ms,
                median_ms,
                per_second,
                ..
            } = timing;
            rows.push((
                "timed",
                format!("{name}: first {first_ms:.2}  min {min_ms:.2}  median {median_ms:.2} ms  ({per_second:.0}/s)"),
            ));
        }
        if let Some(ratio) = self.written_per_byte {
            rows.push(("written", format!("{ratio:.2} bytes for each message byte")));
        }
        if let Some(idle) = &self.idle {
            rows.push((
                "idle",
                format!(
                    "{} connections, {:.0} bytes of RSS each",
                    idle.connections, idle.rss_bytes_per_connection
                ),
            ));
        }
        if let Some(wake) = self.idle.and_then(|idle| idle.wake) {
            rows.push((
                "wake",
                format!(
                    "{} messages, {:.0} us of CPU each, p50 {:.2} ms",
                    wake.messages, wake.cpu_micros_per_message, wake.latency.p50_ms
                ),
            ));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, text) in self.rows() {
            writeln!(f, "{name:<11} {text}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::ProcessSample;

    fn sample() -> Report {
        Report {
            workload: "smtp".into(),
            messages: 10,
            bytes: 1_000,
            replies: BTreeMap::from([(250, 10), (451, 1)]),
            ..Report::default()
        }
    }

    #[test]
    fn written_bytes_are_told_per_message_byte() {
        let cost = ServerCost {
            pid: 1,
            before: ProcessSample::default(),
            after: ProcessSample {
                write_bytes: 2_500,
                ..ProcessSample::default()
            },
        };
        let report = sample().with_servers(vec![cost]);
        assert_eq!(report.written_per_byte, Some(2.5));
        assert!(report.to_string().contains("2.50 bytes for each"));
    }

    #[test]
    fn json_is_one_line_that_holds_the_figures() {
        let text = sample().render(true).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        assert_eq!(value.get("messages").unwrap(), 10);
        assert_eq!(value.pointer("/replies/451").unwrap(), 1);
    }

    #[test]
    fn the_table_tells_replies_by_code() {
        assert!(sample().to_string().contains("250: 10  451: 1"));
    }
}
