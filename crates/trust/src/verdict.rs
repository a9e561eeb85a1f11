//! What is found out about a message.

use std::net::IpAddr;

use metrics::counter;
use nightmail_core::Timestamp;

use crate::arc::{ArcOutcome, ArcResult};
use crate::dkim::{DkimOutcome, DkimResult};
use crate::dmarc::{Dmarc, DmarcResult};
use crate::dmarc_record::DmarcPolicy;
use crate::results::ResultsWriter;
use crate::spf::{Spf, SpfIdentity, SpfResult};

/// What is found out about a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Whether the client may send for the sender's domain.
    pub spf: Spf,
    /// Each signature, in the order of the fields.
    pub dkim: Vec<DkimResult>,
    /// The chain of those who handled it.
    pub arc: ArcResult,
    /// Whether the author is who it is said to be.
    pub dmarc: Dmarc,
    /// How many From fields there are; one is right.
    pub from_fields: usize,
    /// The header was longer than is looked at; signatures count for nothing.
    pub header_too_long: bool,
    /// The client.
    pub client: IpAddr,
    /// When it was found out.
    pub at: Timestamp,
    pub(crate) authserv_id: String,
    /// Whether signatures were looked for.
    pub(crate) dkim_on: bool,
    pub(crate) reverse_dns: Option<&'static str>,
    pub(crate) authenticated: Option<String>,
}

impl Verdict {
    /// Whether any signature holds.
    pub fn has_passing_signature(&self) -> bool {
        self.dkim
            .iter()
            .any(|result| result.outcome == DkimOutcome::Pass)
    }

    /// What is to be done under the policy of the author's domain.
    pub const fn disposition(&self) -> DmarcPolicy {
        self.dmarc.disposition
    }

    /// The Authentication-Results field (RFC 8601), folded, its CRLF included.
    pub fn authentication_results(&self) -> Vec<u8> {
        let mut field = b"Authentication-Results: ".to_vec();
        field.extend_from_slice(self.results().as_bytes());
        field.extend_from_slice(b"\r\n");
        field
    }

    /// The value of that field: `authserv-id; method=result …`.
    pub(crate) fn results(&self) -> String {
        let mut writer = ResultsWriter::new(&self.authserv_id);
        if let Some(account) = &self.authenticated {
            writer.method("auth", "pass").property("smtp.auth", account);
        }
        if let Some(result) = self.reverse_dns {
            let ip = self.client.to_string();
            writer.method("iprev", result).property("policy.iprev", &ip);
        }
        let spf = &self.spf;
        writer.method("spf", spf.result.as_str());
        match spf.identity {
            SpfIdentity::MailFrom => writer.property("smtp.mailfrom", &spf.subject),
            SpfIdentity::Helo => writer.property("smtp.helo", &spf.subject),
        };
        self.write_dkim(&mut writer);
        self.write_dmarc(&mut writer);
        if self.arc.outcome != ArcOutcome::None {
            let sets = format!("i={}", self.arc.sets);
            writer
                .method("arc", self.arc.outcome.as_str())
                .comment(&sets);
            writer.reason(self.arc.reason);
            if let Some(sealer) = self.arc.sealers.first() {
                writer.property("header.d", sealer);
            }
            writer.property("smtp.remote-ip", &self.client.to_string());
        }
        writer.finish()
    }

    fn write_dkim(&self, writer: &mut ResultsWriter) {
        if self.dkim.is_empty() && self.dkim_on {
            writer.method("dkim", "none");
        }
        for result in &self.dkim {
            writer
                .method("dkim", result.outcome.as_str())
                .reason(result.reason);
            let properties = [
                ("header.d", result.domain.as_deref()),
                ("header.s", result.selector.as_deref()),
                ("header.i", result.identity.as_deref()),
                (
                    "header.a",
                    result.algorithm.map(|algorithm| algorithm.as_str()),
                ),
                ("header.b", Some(result.signature_start.as_str())),
            ];
            for (name, value) in properties {
                writer.property(name, value.unwrap_or_default());
            }
        }
    }

    fn write_dmarc(&self, writer: &mut ResultsWriter) {
        let dmarc = &self.dmarc;
        writer.method("dmarc", dmarc.result.as_str());
        if dmarc.record.is_some() {
            let comment = format!(
                "p={} dis={}",
                dmarc.policy.as_str(),
                dmarc.disposition.as_str()
            );
            writer.comment(&comment);
        }
        let reason = match (self.from_fields, dmarc.trusted_arc) {
            (0, _) => Some("no author"),
            (2.., _) => Some("several From fields"),
            (1, true) => Some("passed before, says a trusted sealer"),
            (1, false) => None,
        };
        writer.reason(reason);
        writer.property(
            "header.from",
            dmarc.from_domain.as_deref().unwrap_or_default(),
        );
        if dmarc.record.is_some() {
            writer.property("policy.dmarc", dmarc.disposition.as_str());
        }
    }

    /// What rules can ask for: only what speaks against the message.
    pub fn tags(&self) -> Vec<&'static str> {
        let mut tags = Vec::new();
        tags.extend(match self.spf.result {
            SpfResult::Fail => Some("spf-fail"),
            SpfResult::SoftFail => Some("spf-softfail"),
            SpfResult::TempError => Some("spf-temperror"),
            SpfResult::PermError => Some("spf-permerror"),
            SpfResult::None | SpfResult::Neutral | SpfResult::Pass => None,
        });
        let holds = self.has_passing_signature();
        let mut failed = self.dkim.iter().map(|result| result.outcome);
        if !holds && failed.any(|outcome| outcome != DkimOutcome::TempError) {
            tags.push("dkim-fail");
        }
        tags.extend(match self.arc.outcome {
            ArcOutcome::Fail => Some("arc-fail"),
            ArcOutcome::None | ArcOutcome::Pass | ArcOutcome::TempError => None,
        });
        tags.extend(match self.dmarc.result {
            DmarcResult::Fail if self.dmarc.trusted_arc => Some("dmarc-overridden"),
            DmarcResult::Fail => Some("dmarc-fail"),
            DmarcResult::TempError => Some("dmarc-temperror"),
            DmarcResult::PermError => Some("dmarc-permerror"),
            DmarcResult::None | DmarcResult::Pass => None,
        });
        match self.from_fields {
            0 => tags.push("from-missing"),
            1 => {}
            _ => tags.push("from-several"),
        }
        if self.dmarc.author_hidden {
            tags.push("from-hidden");
        }
        if self.header_too_long {
            tags.push("header-too-long");
        }
        tags
    }

    pub(crate) fn count(&self) {
        for result in &self.dkim {
            counter!("nightmail_dkim_total", "result" => result.outcome.as_str()).increment(1);
        }
        counter!("nightmail_arc_total", "result" => self.arc.outcome.as_str()).increment(1);
        counter!("nightmail_dmarc_total", "result" => self.dmarc.result.as_str()).increment(1);
    }
}
