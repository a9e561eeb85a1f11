//! What a lookup gives.

use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use thiserror::Error;

/// A lookup that gave nothing, and whether that can be believed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Nothing {
    /// The name does not exist, or is not one that could.
    #[error("the name does not exist")]
    NoName,
    /// The name exists and has no such record.
    #[error("the name has no such record")]
    NoRecord,
    /// No answer worth believing: a timeout, SERVFAIL, a chain of aliases without an end.
    #[error("the lookup failed: {0}")]
    Failed(String),
}

impl Nothing {
    /// Whether asking again later may give another answer.
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    /// The word for metrics.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::NoName => "no-name",
            Self::NoRecord => "no-record",
            Self::Failed(_) => "failed",
        }
    }
}

impl From<&NetError> for Nothing {
    fn from(error: &NetError) -> Self {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(found)) => match found.response_code {
                ResponseCode::NXDomain => Self::NoName,
                ResponseCode::NoError => Self::NoRecord,
                code => Self::Failed(code.to_string()),
            },
            NetError::Dns(DnsError::ResponseCode(code)) => Self::Failed(code.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// One MX record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mx {
    /// Lower is tried first.
    pub preference: u16,
    /// The host's name, lower-case, without the final dot; empty in a null MX (RFC 7505).
    pub host: String,
}
