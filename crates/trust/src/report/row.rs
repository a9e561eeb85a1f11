//! The rows of reports.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use nightmail_core::codec::{RowError, RowReader, RowWriter};

use crate::dmarc_record::{DmarcPolicy, DmarcRecord, ReportUri};
use crate::spf::SpfIdentity;
use crate::verdict::Verdict;

const VERSION: u8 = 1;
/// Signatures kept of one message.
const SIGNATURES_MAX: usize = 10;

/// The last part of a count's key.
pub(super) fn digest_of(observation: &[u8]) -> [u8; 16] {
    let digest = digest(&SHA256, observation);
    let mut short = [0; 16];
    short
        .iter_mut()
        .zip(digest.as_ref())
        .for_each(|(to, from)| *to = *from);
    short
}

/// The policy that was published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Policy {
    pub(super) domain: String,
    /// Tag and value as they stand in a report: `adkim`, `aspf`, `p`, `sp`, `pct`, `fo`.
    pub(super) tags: Vec<(String, String)>,
    uris: Vec<String>,
}

impl Policy {
    pub(super) fn new(record: &DmarcRecord) -> Self {
        let mode = |strict| if strict { "s" } else { "r" };
        let options = record.failure_options;
        let fo = [
            (options.any, "1"),
            (!options.any, "0"),
            (options.dkim, "d"),
            (options.spf, "s"),
        ];
        let fo: Vec<&str> = fo.iter().filter(|(on, _)| *on).map(|(_, fo)| *fo).collect();
        let percent = record.percent.to_string();
        let fo = fo.join(":");
        let tags = [
            ("adkim", mode(record.dkim_strict)),
            ("aspf", mode(record.spf_strict)),
            ("p", record.policy.as_str()),
            ("sp", record.subdomain_policy.as_str()),
            ("pct", &percent),
            ("fo", &fo),
        ];
        Self {
            domain: record.domain.clone(),
            tags: tags
                .map(|(tag, value)| (tag.to_owned(), value.to_owned()))
                .to_vec(),
            uris: record.aggregate.iter().map(ReportUri::to_string).collect(),
        }
    }

    /// Where the reports go.
    pub(super) fn aggregate(&self) -> Vec<ReportUri> {
        self.uris
            .iter()
            .filter_map(|uri| ReportUri::parse(uri))
            .collect()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.str(&self.domain).varint(self.tags.len() as u64);
        for (tag, value) in &self.tags {
            row.str(tag).str(value);
        }
        row.varint(self.uris.len() as u64);
        for uri in &self.uris {
            row.str(uri);
        }
        row.finish()
    }

    pub(super) fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut row, _) = RowReader::new(row, VERSION)?;
        let domain = row.str()?.to_owned();
        let mut tags = Vec::new();
        for _ in 0..row.varint()? {
            tags.push((row.str()?.to_owned(), row.str()?.to_owned()));
        }
        let mut uris = Vec::new();
        for _ in 0..row.varint()? {
            uris.push(row.str()?.to_owned());
        }
        Ok(Self { domain, tags, uris })
    }
}

/// Everything that makes two messages one row of a report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Observation {
    pub(super) source: IpAddr,
    /// What was done: `none`, `quarantine` or `reject`.
    pub(super) applied: String,
    pub(super) dkim_aligned: bool,
    pub(super) spf_aligned: bool,
    /// Why the policy was not applied; empty where it was.
    pub(super) overridden: String,
    pub(super) header_from: String,
    /// Empty for the null reverse-path.
    pub(super) envelope_from: String,
    pub(super) spf_domain: String,
    pub(super) spf_is_helo: bool,
    pub(super) spf_result: String,
    pub(super) signatures: Vec<Signature>,
}

/// One signature of an [`Observation`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Signature {
    pub(super) domain: String,
    pub(super) selector: String,
    pub(super) result: String,
}

impl Observation {
    pub(super) fn new(verdict: &Verdict, applied: DmarcPolicy) -> Self {
        let dmarc = &verdict.dmarc;
        let overridden = match (dmarc.trusted_arc, dmarc.sampled_out) {
            (true, _) => "trusted_forwarder",
            (false, true) => "sampled_out",
            (false, false) if applied != dmarc.disposition => "local_policy",
            (false, false) => "",
        };
        let is_helo = verdict.spf.identity == SpfIdentity::Helo;
        let signatures = verdict.dkim.iter().filter_map(|result| {
            Some(Signature {
                domain: result.domain.clone()?,
                selector: result.selector.clone().unwrap_or_default(),
                result: result.outcome.as_str().to_owned(),
            })
        });
        Self {
            source: verdict.client,
            applied: applied.as_str().to_owned(),
            dkim_aligned: dmarc.dkim_aligned,
            spf_aligned: dmarc.spf_aligned,
            overridden: overridden.to_owned(),
            header_from: dmarc.from_domain.clone().unwrap_or_default(),
            envelope_from: match is_helo {
                true => String::new(),
                false => verdict.spf.domain.clone(),
            },
            spf_domain: verdict.spf.domain.clone(),
            spf_is_helo: is_helo,
            spf_result: verdict.spf.result.as_str().to_owned(),
            signatures: signatures.take(SIGNATURES_MAX).collect(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.str(&self.source.to_string()).str(&self.applied);
        row.u8(u8::from(self.dkim_aligned))
            .u8(u8::from(self.spf_aligned));
        row.str(&self.overridden)
            .str(&self.header_from)
            .str(&self.envelope_from);
        row.str(&self.spf_domain)
            .u8(u8::from(self.spf_is_helo))
            .str(&self.spf_result);
        row.varint(self.signatures.len() as u64);
        for signature in &self.signatures {
            row.str(&signature.domain)
                .str(&signature.selector)
                .str(&signature.result);
        }
        row.finish()
    }

    fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut row, _) = RowReader::new(row, VERSION)?;
        let mut observation = Self {
            source: row
                .str()?
                .parse()
                .map_err(|_| RowError::Invalid("source"))?,
            applied: row.str()?.to_owned(),
            dkim_aligned: row.u8()? != 0,
            spf_aligned: row.u8()? != 0,
            overridden: row.str()?.to_owned(),
            header_from: row.str()?.to_owned(),
            envelope_from: row.str()?.to_owned(),
            spf_domain: row.str()?.to_owned(),
            spf_is_helo: row.u8()? != 0,
            spf_result: row.str()?.to_owned(),
            signatures: Vec::new(),
        };
        for _ in 0..row.varint()? {
            observation.signatures.push(Signature {
                domain: row.str()?.to_owned(),
                selector: row.str()?.to_owned(),
                result: row.str()?.to_owned(),
            });
        }
        Ok(observation)
    }
}

/// How many messages of one kind there were.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Count {
    pub(super) messages: u64,
    /// An encoded [`Observation`].
    pub(super) observation: Vec<u8>,
}

impl Count {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.u64(self.messages).bytes(&self.observation).finish()
    }

    /// Only the number of a row.
    pub(super) fn messages(row: &[u8]) -> Result<u64, RowError> {
        RowReader::new(row, VERSION)?.0.u64()
    }

    pub(super) fn decode(row: &[u8]) -> Result<(u64, Observation), RowError> {
        let (mut row, _) = RowReader::new(row, VERSION)?;
        Ok((row.u64()?, Observation::decode(row.bytes()?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_read_back_as_written(texts in proptest::array::uniform9(".{0,8}"), flags: [bool; 3], messages: u64) {
            let [applied, overridden, header_from, envelope_from, spf_domain, spf_result, domain, selector, result] = texts;
            let observation = Observation {
                source: "2001:db8::1".parse().unwrap(),
                applied, overridden, header_from, envelope_from, spf_domain, spf_result,
                dkim_aligned: flags[0],
                spf_aligned: flags[1],
                spf_is_helo: flags[2],
                signatures: vec![Signature { domain, selector, result }],
            };
            let row = Count { messages, observation: observation.encode() }.encode();
            prop_assert_eq!(Count::messages(&row), Ok(messages));
            prop_assert_eq!(Count::decode(&row), Ok((messages, observation)));
        }

        #[test]
        fn no_octets_make_it_panic(row: Vec<u8>) {
            let _ = Count::decode(&row);
            let _ = Policy::decode(&row);
        }
    }

    #[test]
    fn a_policy_reads_back_as_written() {
        let record = "v=DMARC1; p=none; rua=mailto:a@x.test!5; fo=d; adkim=s";
        let policy = Policy::new(&DmarcRecord::parse("x.test", record).unwrap());
        assert_eq!(Policy::decode(&policy.encode()).unwrap(), policy);
        assert_eq!(policy.aggregate()[0].octets_max, Some(5));
        assert!(policy.tags.contains(&("fo".to_owned(), "0:d".to_owned())));
    }
}
