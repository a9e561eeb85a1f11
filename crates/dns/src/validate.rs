//! The validating resolver: every answer is followed by signatures from a trust anchor down (RFC 4035 §5).
//!
//! Owns its connections to the name servers and its caches, apart from those of lookups that need no proof, so that
//! these cost nothing more. The answers for one alias after the other are asked for one by one, and each is proven by
//! itself: a denial that belongs to an alias's target says nothing about the alias.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_resolver::config::{NameServerConfig, ResolverOpts};
use hickory_resolver::net::dnssec::DnssecDnsHandle;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer, RetryDnsHandle};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::rdata::DNSSECRData;
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::op::{DnsRequestOptions, DnsResponse, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use quick_cache::sync::Cache;

use crate::answer::Nothing;
use crate::dns::{NEGATIVE_TTL_MAX, TTL_MAX};
use crate::links::Links;
use crate::options::DnsSetupError;
use crate::secure::Alias;

/// Aliases followed for one answer.
const ALIASES_MAX: usize = 16;
/// Sets of records whose proof is kept.
const PROOFS_MAX: usize = 32_768;

type Pool = NameServerPool<TokioRuntimeProvider>;

/// What a name was found to have.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) data: Result<Arc<[RData]>, Nothing>,
    pub(crate) secure: bool,
    /// Where the records really stand, when the name is an alias.
    pub(crate) alias: Option<Alias>,
}

impl Answer {
    pub(crate) const fn nothing(nothing: Nothing, secure: bool) -> Self {
        Self {
            data: Err(nothing),
            secure,
            alias: None,
        }
    }
}

#[derive(Clone)]
struct Kept {
    until: Instant,
    answer: Answer,
}

/// One answer about one name, not looked beyond.
struct Said {
    what: What,
    secure: bool,
    ttl: Duration,
}

enum What {
    Records(Arc<[RData]>),
    Alias(Name),
    Nothing(Nothing),
}

#[derive(Clone)]
pub(crate) struct Validator {
    handle: DnssecDnsHandle<Links<RetryDnsHandle<Pool>>>,
    request: DnsRequestOptions,
    kept: Arc<Cache<(Name, RecordType), Kept>>,
    /// Whether it is known that the name servers pass signatures on.
    able: Arc<AtomicBool>,
    warned: Arc<AtomicBool>,
}

impl Validator {
    /// One that asks these servers. `anchors` are DNSKEY records in presentation form; `None`: those of the Internet's
    /// root.
    pub(crate) fn new(
        servers: Vec<NameServerConfig>,
        options: ResolverOpts,
        anchors: Option<&str>,
        entries: usize,
    ) -> Result<Self, DnsSetupError> {
        let setup = |text: String| DnsSetupError(text);
        let anchors = match anchors {
            Some(text) => TrustAnchors::from_str(text).map_err(|e| setup(e.to_string()))?,
            None => TrustAnchors::default(),
        };
        if anchors.is_empty() {
            return Err(setup("no key of the root among the trust anchors".into()));
        }
        let mut request = DnsRequestOptions::default();
        request.edns_set_dnssec_ok = true;
        request.use_edns = true;
        request.edns_payload_len = options.edns_payload_len;
        request.recursion_desired = true;
        let attempts = options.attempts;
        let tls = TlsConfig::new().map_err(|e| setup(e.to_string()))?;
        let context = Arc::new(PoolContext::new(options, tls));
        let provider = TokioRuntimeProvider::default();
        let pool = NameServerPool::from_config(servers, context, provider);
        let links = Links::new(RetryDnsHandle::new(pool, attempts));
        let handle = DnssecDnsHandle::with_trust_anchor(links, Arc::new(anchors))
            .validation_cache_size(PROOFS_MAX);
        Ok(Self {
            handle,
            request,
            kept: Arc::new(Cache::new(entries)),
            able: Arc::default(),
            warned: Arc::default(),
        })
    }

    /// Whether the name servers pass on what proofs are made of. Once they have, it is held against them when they no
    /// longer do. False where the root's keys come without any signature; an error where they do not come at all, or
    /// with signatures that are wrong.
    pub(crate) async fn is_able(&self) -> Result<bool, Nothing> {
        if self.able.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let query = Query::query(Name::root(), RecordType::DNSKEY);
        let able = match Box::pin(self.send(query)).await {
            Ok(message) => {
                let secure = |record: &Record| record.proof.is_secure();
                match message.answers.iter().any(secure) {
                    true => true,
                    false if !has_signatures(&message) => false,
                    false => return Err(unproven(&Name::root(), RecordType::DNSKEY)),
                }
            }
            Err(NetError::Dns(DnsError::Nsec { response, .. })) if !has_signatures(&response) => {
                false
            }
            Err(error) => return Err(Nothing::Failed(error.to_string())),
        };
        match able {
            true => self.able.store(true, Ordering::Relaxed),
            false if !self.warned.swap(true, Ordering::Relaxed) => tracing::warn!(
                "the name servers do not pass DNSSEC signatures on: nothing is proven, DANE does not apply"
            ),
            false => {}
        }
        Ok(able)
    }

    /// The records of a name, aliases followed.
    pub(crate) async fn lookup(&self, name: Name, kind: RecordType) -> Answer {
        let key = (name, kind);
        if let Some(kept) = self.kept.get(&key)
            && Instant::now() < kept.until
        {
            return kept.answer;
        }
        match self.follow(&key.0, kind).await {
            Ok((answer, ttl)) => {
                if !ttl.is_zero() {
                    let until = Instant::now() + ttl;
                    let answer = answer.clone();
                    self.kept.insert(key, Kept { until, answer });
                }
                answer
            }
            Err(failed) => Answer::nothing(failed, false),
        }
    }

    async fn follow(&self, asked: &Name, kind: RecordType) -> Result<(Answer, Duration), Nothing> {
        let (mut name, mut secure, mut ttl) = (asked.clone(), true, TTL_MAX);
        let mut alias: Option<Alias> = None;
        for _ in 0..ALIASES_MAX {
            let said = self.ask(&name, kind).await?;
            secure &= said.secure;
            ttl = ttl.min(said.ttl);
            let data = match said.what {
                What::Records(data) => Ok(data),
                What::Nothing(nothing) => Err(nothing),
                What::Alias(target) => {
                    name = target.to_lowercase();
                    let first_is_secure = alias.map_or(said.secure, |alias| alias.first_is_secure);
                    alias = Some(Alias {
                        target: name.clone(),
                        first_is_secure,
                    });
                    continue;
                }
            };
            let answer = Answer {
                data,
                secure,
                alias,
            };
            return Ok((answer, ttl));
        }
        Err(Nothing::Failed("the aliases do not end".into()))
    }

    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Said, Nothing> {
        match self.send(Query::query(name.clone(), kind)).await {
            Ok(message) => read(&message, name, kind),
            // More iterations than are looked at, or a span of names that may be delegated unsigned.
            Err(NetError::Dns(DnsError::Nsec {
                response,
                proof: Proof::Insecure,
                ..
            })) => read(&response, name, kind).map(|said| Said {
                secure: false,
                ..said
            }),
            Err(NetError::Dns(DnsError::Nsec { response, .. })) if has_alias(&response, name) => {
                self.ask_alias(name).await
            }
            Err(NetError::Dns(DnsError::Nsec { .. } | DnsError::DnssecBogus)) => {
                Err(unproven(name, kind))
            }
            Err(error) => Err(Nothing::Failed(error.to_string())),
        }
    }

    /// What a name is an alias of, asked for by itself: in the answer to another question, denials of the target's
    /// records stand beside it.
    async fn ask_alias(&self, name: &Name) -> Result<Said, Nothing> {
        let query = Query::query(name.clone(), RecordType::CNAME);
        let message = self
            .send(query)
            .await
            .map_err(|_| unproven(name, RecordType::CNAME))?;
        let said = read(&message, name, RecordType::CNAME)?;
        let target = match &said.what {
            What::Records(data) => data.first().and_then(|data| match data {
                RData::CNAME(target) => Some(target.0.clone()),
                _ => None,
            }),
            _ => None,
        };
        let target = target.ok_or_else(|| unproven(name, RecordType::CNAME))?;
        Ok(Said {
            what: What::Alias(target),
            ..said
        })
    }

    async fn send(&self, query: Query) -> Result<DnsResponse, NetError> {
        let answer = self.handle.lookup(query, self.request).first_answer();
        Box::pin(answer).await
    }
}

/// What a message says about one name.
fn read(message: &DnsResponse, name: &Name, kind: RecordType) -> Result<Said, Nothing> {
    let of = |wanted: RecordType| {
        let records = message.answers.iter();
        records.filter(move |record| record.name == *name && record.record_type() == wanted)
    };
    let code = message.response_code;
    if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Err(Nothing::Failed(code.to_string()));
    }
    if let Some((secure, ttl)) = judge(of(kind), name, kind)? {
        let data = of(kind).map(|record| record.data.clone()).collect();
        return Ok(Said {
            what: What::Records(data),
            secure,
            ttl,
        });
    }
    if let Some((secure, ttl)) = judge(of(RecordType::CNAME), name, RecordType::CNAME)? {
        let target = of(RecordType::CNAME).find_map(|record| match &record.data {
            RData::CNAME(target) => Some(target.0.clone()),
            _ => None,
        });
        let target = target.ok_or_else(|| unproven(name, RecordType::CNAME))?;
        return Ok(Said {
            what: What::Alias(target),
            secure,
            ttl,
        });
    }
    Ok(denial(message, code))
}

/// Whether a set of records is secure, and how long it may be kept; `None` when it is empty.
fn judge<'a>(
    records: impl Iterator<Item = &'a Record>,
    name: &Name,
    kind: RecordType,
) -> Result<Option<(bool, Duration)>, Nothing> {
    let mut judged: Option<(bool, Duration)> = None;
    for record in records {
        let secure = match record.proof {
            Proof::Secure => true,
            Proof::Insecure => false,
            Proof::Bogus | Proof::Indeterminate => return Err(unproven(name, kind)),
        };
        let (all, least) = judged.unwrap_or((true, TTL_MAX));
        let ttl = Duration::from_secs(record.ttl.into());
        judged = Some((all && secure, least.min(ttl)));
    }
    Ok(judged)
}

/// The news that there is nothing; proven where records of denial are, which the validator has held against the
/// question. A span of hashes that leaves unsigned zones out does not prove that a name is not there (RFC 5155 §9.2).
fn denial(message: &DnsResponse, code: ResponseCode) -> Said {
    let nothing = match code {
        ResponseCode::NXDomain => Nothing::NoName,
        _ => Nothing::NoRecord,
    };
    let proofs = message.authorities.iter();
    let secure = proofs
        .filter(|record| record.proof.is_secure())
        .any(|record| match &record.data {
            RData::DNSSEC(DNSSECRData::NSEC(_)) => true,
            RData::DNSSEC(DNSSECRData::NSEC3(hashed)) => {
                nothing == Nothing::NoRecord || !hashed.opt_out()
            }
            _ => false,
        });
    let ttl = message.negative_ttl().unwrap_or(0);
    Said {
        what: What::Nothing(nothing),
        secure,
        ttl: Duration::from_secs(ttl.into()).min(NEGATIVE_TTL_MAX),
    }
}

fn has_alias(message: &DnsResponse, name: &Name) -> bool {
    let mut answers = message.answers.iter();
    answers.any(|record| record.record_type() == RecordType::CNAME && record.name == *name)
}

fn has_signatures(message: &DnsResponse) -> bool {
    let mut records = message.all_sections();
    records.any(|record| record.record_type() == RecordType::RRSIG)
}

fn unproven(name: &Name, kind: RecordType) -> Nothing {
    Nothing::Failed(format!("DNSSEC does not prove {kind} of {name}"))
}
