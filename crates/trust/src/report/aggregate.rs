//! Aggregate reports (RFC 7489 §7.2, appendix C).

use nightmail_core::{Address, Timestamp};

use super::message::Parts;
use super::row::{Observation, Policy};
use super::{DueReport, Reporter, gzip};

/// Characters of one value.
const VALUE_CHARS_MAX: usize = 320;
const DAY_SECS: u64 = 86_400;

/// Writes elements; what they hold is escaped.
#[derive(Default)]
struct Xml {
    out: String,
    open: Vec<&'static str>,
}

impl Xml {
    fn line(&mut self, text: &str) {
        self.out.push_str(&"  ".repeat(self.open.len()));
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn open(&mut self, name: &'static str) -> &mut Self {
        self.line(&format!("<{name}>"));
        self.open.push(name);
        self
    }

    fn close(&mut self) -> &mut Self {
        if let Some(name) = self.open.pop() {
            self.line(&format!("</{name}>"));
        }
        self
    }

    fn leaf(&mut self, name: &str, value: &str) -> &mut Self {
        self.line(&format!("<{name}>{}</{name}>", escaped(value)));
        self
    }
}

fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars().take(VALUE_CHARS_MAX) {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

/// One report, made once for everybody who gets it.
pub(super) struct Aggregate<'a> {
    due: &'a DueReport,
    reporter: &'a Reporter,
    id: String,
    begin: u64,
    compressed: Vec<u8>,
}

impl<'a> Aggregate<'a> {
    pub(super) fn new(
        due: &'a DueReport,
        policy: &Policy,
        counts: &[(u64, Observation)],
        reporter: &'a Reporter,
    ) -> Self {
        let begin = u64::from(due.day) * DAY_SECS;
        // The same day of the same domain has the same id, also when it is made again after a crash.
        let id = format!("{}.{begin}", due.domain);
        let mut xml = Xml::default();
        xml.line("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
        xml.open("feedback").leaf("version", "1.0");
        xml.open("report_metadata")
            .leaf("org_name", &reporter.organization)
            .leaf("email", &reporter.from.to_string())
            .leaf("report_id", &id);
        xml.open("date_range")
            .leaf("begin", &begin.to_string())
            .leaf("end", &(begin + DAY_SECS - 1).to_string())
            .close();
        xml.close();
        xml.open("policy_published").leaf("domain", &policy.domain);
        for (tag, value) in &policy.tags {
            xml.leaf(tag, value);
        }
        xml.close();
        for (messages, observation) in counts {
            record(&mut xml, *messages, observation);
        }
        xml.close();
        Self {
            due,
            reporter,
            id,
            begin,
            compressed: gzip::compress(xml.out.as_bytes()),
        }
    }

    /// The message for one address.
    pub(super) fn message(&self, to: &Address, now: Timestamp) -> Vec<u8> {
        let (domain, submitter) = (&self.due.domain, &self.reporter.domain);
        let (begin, end) = (self.begin, self.begin + DAY_SECS - 1);
        let file = format!("{submitter}!{domain}!{begin}!{end}.xml.gz");
        let subject = format!(
            "Report Domain: {domain}\r\n\tSubmitter: {submitter}\r\n\tReport-ID: <{}>",
            self.id
        );
        let text = format!(
            "This is a DMARC aggregate report about mail from {domain},\r\nas {} received it on one day (UTC).\r\n",
            self.reporter.organization
        );
        let attached = format!(
            "Content-Type: application/gzip; name=\"{file}\"\r\n\
             Content-Disposition: attachment;\r\n\tfilename=\"{file}\""
        );
        Parts::new(self.reporter, to, &subject, "", "multipart/mixed", now)
            .part("Content-Type: text/plain; charset=utf-8", text.as_bytes())
            .base64(&attached, &self.compressed)
            .finish()
    }
}

fn record(xml: &mut Xml, messages: u64, observation: &Observation) {
    let word = |aligned| if aligned { "pass" } else { "fail" };
    xml.open("record").open("row");
    xml.leaf("source_ip", &observation.source.to_string())
        .leaf("count", &messages.to_string());
    xml.open("policy_evaluated")
        .leaf("disposition", &observation.applied)
        .leaf("dkim", word(observation.dkim_aligned))
        .leaf("spf", word(observation.spf_aligned));
    if !observation.overridden.is_empty() {
        xml.open("reason")
            .leaf("type", &observation.overridden)
            .close();
    }
    xml.close().close();
    xml.open("identifiers")
        .leaf("envelope_from", &observation.envelope_from)
        .leaf("header_from", &observation.header_from)
        .close();
    xml.open("auth_results");
    for signature in &observation.signatures {
        xml.open("dkim")
            .leaf("domain", &signature.domain)
            .leaf("selector", &signature.selector)
            .leaf("result", &signature.result)
            .close();
    }
    let scope = if observation.spf_is_helo {
        "helo"
    } else {
        "mfrom"
    };
    xml.open("spf")
        .leaf("domain", &observation.spf_domain)
        .leaf("scope", scope)
        .leaf("result", &observation.spf_result)
        .close();
    xml.close().close();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_value_becomes_markup(value: String) {
            let text = escaped(&value);
            prop_assert!(!text.contains(['<', '>', '"', '\r', '\n']));
        }
    }
}
