//! Who a message is from: SPF, DKIM, DMARC and ARC, the field that says so, signatures of our own, and reports to other sites.
//!
//! A message is read once as it passes by: an [`Inspector`] keeps its header and hashes its body, a [`HeaderFilter`]
//! takes away what others claim in our name. [`Trust`] then finds out what holds; the [`Verdict`] says it.
//! Nothing here refuses a message: that is the caller's, by [`Verdict::disposition`] and [`Verdict::tags`].

mod arc;
mod author;
mod canon;
mod dkim;
mod dmarc;
mod dmarc_record;
mod filter;
mod inspector;
mod key;
mod report;
mod results;
mod seal;
mod sign;
mod signature;
mod spf;
mod tag_list;
mod trust;
mod verdict;

pub use arc::{ArcOutcome, ArcResult};
pub use dkim::{DkimOutcome, DkimResult};
pub use dmarc::{Dmarc, DmarcResult};
pub use dmarc_record::{DmarcPolicy, DmarcRecord, FailureOptions, ReportUri};
pub use filter::HeaderFilter;
pub use inspector::{HEADER_OCTETS_MAX, Inspected, Inspector};
pub use report::{DueReport, Parts, ReportMessage, ReportStore, Reporter, gzip};
pub use seal::Sealer;
pub use sign::{KeyAlgorithm, KeyProblem, Signer, SigningKey};
pub use signature::SignatureAlgorithm;
pub use spf::{Spf, SpfIdentity, SpfQuery, SpfResult};
pub use trust::{Context, ReverseDns, Trust, TrustOptions};
pub use verdict::Verdict;
