//! What came of TLS with one host, as whoever sends mail notes it (RFC 8460 §4.3).

use std::net::IpAddr;

use nightmail_core::Domain;

/// Where a policy came from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PolicyType {
    /// MTA-STS.
    Sts,
    /// DANE.
    Tlsa,
    /// There was none.
    NoPolicyFound,
}

/// What went wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ResultType {
    /// The host does not offer STARTTLS.
    StarttlsNotSupported,
    /// The certificate is for another name.
    CertificateHostMismatch,
    /// The certificate has run out.
    CertificateExpired,
    /// Nobody who is trusted vouches for the certificate.
    CertificateNotTrusted,
    /// The handshake failed otherwise.
    ValidationFailure,
    /// TLSA records that fit no certificate, or cannot be used.
    TlsaInvalid,
    /// Answers that should be signed and do not validate.
    DnssecInvalid,
    /// DANE was demanded here, and is not offered.
    DaneRequired,
    /// The policy could not be fetched.
    StsPolicyFetchError,
    /// The policy does not read, or the host is none that it allows.
    StsPolicyInvalid,
    /// The certificate of the policy's web server does not hold.
    StsWebpkiInvalid,
}

/// The outcome of one session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsOutcome {
    /// TLS as the policy wants it; also where there is none, and TLS was done.
    Ok,
    /// Not so.
    Failure(TlsFailure),
}

/// How a session failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFailure {
    /// What went wrong.
    pub kind: ResultType,
    /// The host's address.
    pub receiving_ip: Option<IpAddr>,
    /// What the host calls itself in its greeting.
    pub receiving_helo: Option<String>,
    /// Our own address.
    pub sending_ip: Option<IpAddr>,
    /// In words; the first 200 characters are told.
    pub reason: String,
}

/// One session, or one look-up of a policy that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsResult {
    /// The domain that mail was for.
    pub domain: Domain,
    /// Which policy counted.
    pub policy: PolicyType,
    /// The policy as reports show it: the lines of [`crate::Policy::strings`], or TLSA records in their text form.
    pub policy_strings: Vec<String>,
    /// The host, by the name its policy is for: that in the MX record, or the TLSA base domain.
    pub mx_host: String,
    /// What came of it.
    pub outcome: TlsOutcome,
}

impl PolicyType {
    /// Every type.
    pub(super) const ALL: [Self; 3] = [Self::Sts, Self::Tlsa, Self::NoPolicyFound];

    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sts => "sts",
            Self::Tlsa => "tlsa",
            Self::NoPolicyFound => "no-policy-found",
        }
    }
}

impl ResultType {
    /// Every type.
    pub(super) const ALL: [Self; 11] = [
        Self::StarttlsNotSupported,
        Self::CertificateHostMismatch,
        Self::CertificateExpired,
        Self::CertificateNotTrusted,
        Self::ValidationFailure,
        Self::TlsaInvalid,
        Self::DnssecInvalid,
        Self::DaneRequired,
        Self::StsPolicyFetchError,
        Self::StsPolicyInvalid,
        Self::StsWebpkiInvalid,
    ];

    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StarttlsNotSupported => "starttls-not-supported",
            Self::CertificateHostMismatch => "certificate-host-mismatch",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateNotTrusted => "certificate-not-trusted",
            Self::ValidationFailure => "validation-failure",
            Self::TlsaInvalid => "tlsa-invalid",
            Self::DnssecInvalid => "dnssec-invalid",
            Self::DaneRequired => "dane-required",
            Self::StsPolicyFetchError => "sts-policy-fetch-error",
            Self::StsPolicyInvalid => "sts-policy-invalid",
            Self::StsWebpkiInvalid => "sts-webpki-invalid",
        }
    }

    /// What a failed handshake is called.
    pub const fn of_handshake(error: &rustls::Error) -> Self {
        use rustls::CertificateError as Certificate;
        match error {
            rustls::Error::InvalidCertificate(why) => match why {
                Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                    Self::CertificateHostMismatch
                }
                Certificate::Expired | Certificate::ExpiredContext { .. } => {
                    Self::CertificateExpired
                }
                _ => Self::CertificateNotTrusted,
            },
            _ => Self::ValidationFailure,
        }
    }
}
