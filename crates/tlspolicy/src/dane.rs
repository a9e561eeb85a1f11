//! DANE for SMTP (RFC 7672): which TLSA records hold for a host, and whether its certificate is one of theirs.
//!
//! Where records hold, they alone decide: no certification authority is asked, and nothing overrides them. A record of
//! usage 3 names the server's own certificate or key, and neither names nor dates in it matter; one of usage 2 names a
//! trust anchor, and the chain up to it is checked in full. Usages 0 and 1 are not for mail (RFC 7672 §3.1.3).

use std::fmt::{self, Write};
use std::sync::Arc;

use aws_lc_rs::digest;
use nightmail_dns::{Dns, Nothing, Tlsa};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, Der, ServerName, TrustAnchor, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

const TRUST_ANCHOR: u8 = 2;
const END_ENTITY: u8 = 3;
const CERTIFICATE: u8 = 0;
const PUBLIC_KEY: u8 = 1;
const WHOLE: u8 = 0;
const SHA256: u8 = 1;
const SHA512: u8 = 2;

/// What DANE says of a host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dane {
    /// Nothing: it does not apply, and what else is known of the host decides.
    None,
    /// The host is verified by these records, and by nothing else; without TLS nothing is sent.
    Usable(TlsaRecords),
    /// There are records, and none that can be used: TLS is required, whoever the host says it is.
    Unusable,
    /// It cannot be told: nothing may be sent to this host now.
    Failed(String),
}

/// The records that a host is verified by; at least one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsaRecords {
    base: String,
    host: String,
    all: Arc<[Tlsa]>,
    used: Arc<[Tlsa]>,
}

impl TlsaRecords {
    /// Those of a host that can be used; `None` when none can. `base` is the name below which they stand.
    pub fn new(base: &str, host: &str, records: Vec<Tlsa>) -> Option<Self> {
        let usable: Vec<&Tlsa> = records.iter().filter(|record| is_usable(record)).collect();
        let used: Arc<[Tlsa]> = usable
            .iter()
            .filter(|record| is_strongest(record, &usable))
            .map(|record| Tlsa::clone(record))
            .collect();
        (!used.is_empty()).then(|| Self {
            base: base.to_owned(),
            host: host.trim_end_matches('.').to_ascii_lowercase(),
            all: records.into(),
            used,
        })
    }

    /// The TLSA base domain: the name that the client sends in the handshake (SNI, RFC 7672 §8.1).
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The records as text, those that are not used included, as reports show them (RFC 8460 §4.2).
    pub fn texts(&self) -> Vec<String> {
        self.all.iter().map(text_of).collect()
    }
}

/// The four fields as a zone's file has them.
fn text_of(record: &Tlsa) -> String {
    let mut text = format!("{} {} {} ", record.usage, record.selector, record.matching);
    for octet in &record.data {
        // Writing to a String cannot fail.
        let _ = write!(text, "{octet:02X}");
    }
    text
}

/// What DANE says of a host that mail is to be sent to. `mx_secure` says whether the answer that named the host was
/// proven: the MX records, or for a domain without any the news that there are none. True for a host that the operator
/// has named.
pub async fn dane_of(dns: &Dns, host: &str, port: u16, mx_secure: bool) -> Dane {
    if !mx_secure {
        return Dane::None;
    }
    let bases = match dns.tlsa_bases(host).await {
        Ok(bases) => bases,
        Err(nothing) => return Dane::Failed(format!("the addresses of {host}: {nothing}")),
    };
    for base in bases {
        let found = dns.tlsa(&base, port).await;
        match found.value {
            Ok(records) if found.secure && !records.is_empty() => {
                let records = TlsaRecords::new(&base, host, records);
                return records.map_or(Dane::Unusable, Dane::Usable);
            }
            Err(nothing @ Nothing::Failed(_)) => {
                return Dane::Failed(format!("the TLSA records of {base}: {nothing}"));
            }
            // Records without proof are as good as none.
            Ok(_) | Err(Nothing::NoName | Nothing::NoRecord) => {}
        }
    }
    Dane::None
}

/// Whether a record can be held against a certificate: its fields are known and its data is of their form.
fn is_usable(record: &Tlsa) -> bool {
    let data = record.data.as_slice();
    let is_whole = |rest: &[u8]| rest.is_empty();
    let fits = match (record.selector, record.matching) {
        (CERTIFICATE, WHOLE) => {
            X509Certificate::from_der(data).is_ok_and(|(rest, _)| is_whole(rest))
        }
        (PUBLIC_KEY, WHOLE) => {
            SubjectPublicKeyInfo::from_der(data).is_ok_and(|(rest, _)| is_whole(rest))
        }
        (CERTIFICATE | PUBLIC_KEY, SHA256) => data.len() == digest::SHA256_OUTPUT_LEN,
        (CERTIFICATE | PUBLIC_KEY, SHA512) => data.len() == digest::SHA512_OUTPUT_LEN,
        _ => false,
    };
    fits && matches!(record.usage, TRUST_ANCHOR | END_ENTITY)
}

/// Whether no record of the same usage and selector has a stronger digest (RFC 7671 §9). What is compared whole is
/// beside this.
fn is_strongest(record: &Tlsa, usable: &[&Tlsa]) -> bool {
    let is_beaten = usable.iter().any(|other| {
        (other.usage, other.selector) == (record.usage, record.selector)
            && other.matching > record.matching
    });
    record.matching == WHOLE || !is_beaten
}

/// Verifies a host by its TLSA records alone. `names` are those the host may go by besides its own and the records'
/// base: the domain whose mail it is (RFC 7672 §3.2.2); they matter for records of usage 2 only.
pub fn dane_verifier(records: TlsaRecords, names: &[&str]) -> Arc<dyn ServerCertVerifier> {
    let own = [records.base.as_str(), records.host.as_str()];
    let names = own.iter().chain(names);
    let mut names: Vec<String> = names
        .map(|name| name.trim_end_matches('.').to_ascii_lowercase())
        .collect();
    names.sort_unstable();
    names.dedup();
    Arc::new(DaneVerifier {
        records,
        names,
        algorithms: rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms,
    })
}

struct DaneVerifier {
    records: TlsaRecords,
    names: Vec<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for DaneVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DaneVerifier")
            .field("base", &self.records.base)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for DaneVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let of = |usage| {
            let records = self.records.used.iter();
            records.filter(move |record| record.usage == usage)
        };
        if of(END_ENTITY).any(|record| matches(record, end_entity)) {
            return Ok(ServerCertVerified::assertion());
        }
        let anchors = anchors(of(TRUST_ANCHOR), end_entity, intermediates, now)?;
        if anchors.is_empty() {
            return Err(CertificateError::UnknownIssuer.into());
        }
        let leaf = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &anchors,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        self.verify_names(&leaf, end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl DaneVerifier {
    /// One of the names must be the certificate's: among its DNS names, or where it has none its common name
    /// (RFC 7672 §3.2.3).
    fn verify_names(
        &self,
        leaf: &ParsedCertificate<'_>,
        der: &CertificateDer<'_>,
    ) -> Result<(), rustls::Error> {
        let mut failed = CertificateError::NotValidForName.into();
        for name in &self.names {
            let Ok(server_name) = ServerName::try_from(name.as_str()) else {
                continue;
            };
            match verify_server_name(leaf, &server_name) {
                Ok(()) => return Ok(()),
                Err(error) => failed = error,
            }
        }
        let common = common_name(der);
        match common.is_some_and(|common| self.names.iter().any(|name| is_named(name, &common))) {
            true => Ok(()),
            false => Err(failed),
        }
    }
}

/// The common name of a certificate that has no DNS names.
fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let alternatives = certificate.subject_alternative_name().ok()?;
    let has_names = alternatives.is_some_and(|names| {
        let mut names = names.value.general_names.iter();
        names.any(|name| matches!(name, x509_parser::prelude::GeneralName::DNSName(_)))
    });
    if has_names {
        return None;
    }
    let common = certificate.subject().iter_common_name().next()?;
    Some(common.as_str().ok()?.to_ascii_lowercase())
}

/// Whether a common name stands for a name: as it is, or with `*` for the leftmost label of at least three.
fn is_named(name: &str, common: &str) -> bool {
    match common.strip_prefix("*.") {
        Some(above) => name
            .split_once('.')
            .is_some_and(|(_, rest)| rest == above && rest.contains('.')),
        None => name == common,
    }
}

/// Whether a record speaks of this certificate.
fn matches(record: &Tlsa, certificate: &[u8]) -> bool {
    let selected = match record.selector {
        CERTIFICATE => certificate,
        _ => match X509Certificate::from_der(certificate) {
            Ok((_, parsed)) => parsed.tbs_certificate.subject_pki.raw,
            Err(_) => return false,
        },
    };
    match record.matching {
        WHOLE => selected == record.data,
        SHA256 => digest::digest(&digest::SHA256, selected).as_ref() == record.data,
        _ => digest::digest(&digest::SHA512, selected).as_ref() == record.data,
    }
}

/// The trust anchors that records of usage 2 name: certificates that the server sent with its own and that match, and
/// those that a record carries whole.
fn anchors<'a>(
    records: impl Iterator<Item = &'a Tlsa>,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<RootCertStore, rustls::Error> {
    let mut store = RootCertStore::empty();
    let mut refused = None;
    for record in records {
        let sent = intermediates.iter().filter(|sent| matches(record, sent));
        let carried = match (record.selector, record.matching) {
            (CERTIFICATE, WHOLE) => Some(CertificateDer::from(record.data.as_slice())),
            _ => None,
        };
        for anchor in sent.chain(&carried) {
            match check_anchor(anchor, now) {
                Ok(()) => store.add(anchor.clone().into_owned())?,
                Err(error) => refused = Some(error),
            }
        }
        if (record.selector, record.matching) == (PUBLIC_KEY, WHOLE) {
            let chain = std::iter::once(end_entity).chain(intermediates);
            store.roots.extend(anchors_of_key(&record.data, chain));
        }
    }
    match refused {
        Some(error) if store.is_empty() => Err(error.into()),
        _ => Ok(store),
    }
}

/// A certificate that is trusted must still be one of an authority, and of today.
fn check_anchor(der: &[u8], now: UnixTime) -> Result<(), CertificateError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding)?;
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let now = ASN1Time::from_timestamp(seconds).map_err(|_| CertificateError::BadEncoding)?;
    let validity = certificate.validity();
    if now < validity.not_before {
        return Err(CertificateError::NotValidYet);
    }
    if now > validity.not_after {
        return Err(CertificateError::Expired);
    }
    match certificate.basic_constraints() {
        Ok(Some(constraints)) if !constraints.value.ca => Err(CertificateError::UnknownIssuer),
        Ok(_) => Ok(()),
        Err(_) => Err(CertificateError::BadEncoding),
    }
}

/// A bare key as a trust anchor: under the name of each issuer that the chain speaks of, as a key has none itself.
fn anchors_of_key<'a>(
    key: &[u8],
    chain: impl Iterator<Item = &'a CertificateDer<'a>>,
) -> Vec<TrustAnchor<'static>> {
    let Some(key) = contents(key) else {
        return Vec::new();
    };
    let of = |issuer: &X509Name<'_>| {
        Some(TrustAnchor {
            subject: Der::from(contents(issuer.as_raw())?.to_vec()),
            subject_public_key_info: Der::from(key.to_vec()),
            name_constraints: None,
        })
    };
    chain
        .filter_map(|der| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            of(certificate.issuer())
        })
        .collect()
}

/// What stands in a DER sequence.
fn contents(der: &[u8]) -> Option<&[u8]> {
    let (_, sequence) = x509_parser::der_parser::asn1_rs::Sequence::from_der(der).ok()?;
    match sequence.content {
        std::borrow::Cow::Borrowed(content) => Some(content),
        std::borrow::Cow::Owned(_) => None,
    }
}
