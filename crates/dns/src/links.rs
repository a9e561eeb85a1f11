//! The links of chains of trust, kept: keys, delegations and where zones begin.
//!
//! Every proof walks from the root down, and asks for the same few records again and again. They are kept as they
//! came; whether they hold is judged above, each time.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, Stream};
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequest, DnsResponse, Query};
use hickory_resolver::proto::rr::RecordType;
use quick_cache::sync::Cache;

/// No link is kept for longer, whatever it says: a zone that has mended its keys is believed soon.
const TTL_MAX: Duration = Duration::from_secs(600);
/// Links kept.
const LINKS_MAX: usize = 16_384;

type Result = std::result::Result<DnsResponse, NetError>;

#[derive(Clone)]
struct Kept {
    until: Instant,
    result: Arc<Result>,
}

/// A handle that asks another one and keeps what links of chains it is given.
#[derive(Clone)]
pub(crate) struct Links<H> {
    handle: H,
    kept: Arc<Cache<Query, Kept>>,
}

impl<H> Links<H> {
    pub(crate) fn new(handle: H) -> Self {
        Self {
            handle,
            kept: Arc::new(Cache::new(LINKS_MAX)),
        }
    }
}

impl<H: DnsHandle> DnsHandle for Links<H> {
    type Response = Pin<Box<dyn Stream<Item = Result> + Send>>;
    type Runtime = H::Runtime;

    fn send(&self, request: DnsRequest) -> Self::Response {
        let query = request.queries.first();
        let Some(query) = query.filter(|query| is_link(query.query_type())).cloned() else {
            return Box::pin(self.handle.send(request));
        };
        if let Some(kept) = self.kept.get(&query)
            && Instant::now() < kept.until
        {
            let result = Result::clone(&kept.result);
            return Box::pin(stream::once(async move { result }));
        }
        let answer = self.handle.send(request).first_answer();
        let kept = Arc::clone(&self.kept);
        Box::pin(stream::once(async move {
            let result = answer.await;
            let ttl = ttl_of(&result);
            if !ttl.is_zero() {
                let until = Instant::now() + ttl;
                let result = Arc::new(result.clone());
                kept.insert(query, Kept { until, result });
            }
            result
        }))
    }
}

const fn is_link(kind: RecordType) -> bool {
    matches!(kind, RecordType::DNSKEY | RecordType::DS | RecordType::NS)
}

/// How long an answer may be kept: as long as the shortest-lived of its records, and not at all when it is a failure.
fn ttl_of(result: &Result) -> Duration {
    let secs = match result {
        Ok(message) => message.all_sections().map(|record| record.ttl).min(),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => none.negative_ttl,
        Err(_) => None,
    };
    Duration::from_secs(secs.unwrap_or(0).into()).min(TTL_MAX)
}
