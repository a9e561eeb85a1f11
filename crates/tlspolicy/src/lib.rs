//! What other sites say about TLS towards them: MTA-STS, DANE, and the reports on it.
//!
//! [`TlsPolicies`] answers what mail for a domain, or to a host, must find before it may go there. [`TlsReports`] counts
//! what was found and tells those who want to hear of it. Nothing here opens a mail session.

mod dane;
mod https;
mod policy;
mod record;
mod report;
mod sts;

pub use dane::{Dane, TlsaRecords, dane_of, dane_verifier};
pub use https::TlsSetupError;
pub use policy::{Mode, Policy, PolicyError};
pub use record::ReportTarget;
pub use report::{
    DueTlsReport, PolicyType, ResultType, TlsFailure, TlsOutcome, TlsReport, TlsReportOptions,
    TlsReports, TlsResult,
};
pub use sts::{Refreshed, StsDecision, TlsPolicies, TlsPolicyOptions};
