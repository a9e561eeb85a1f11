//! What a certificate says about itself (RFC 5280).

use nightmail_core::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::name::ServedName;

/// A server's certificate, as far as it matters for choosing and renewing it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// The names of its subjectAltName that can be asked for.
    pub names: Vec<ServedName>,
    /// It is valid from then on.
    pub not_before: Timestamp,
    /// It is valid until then.
    pub not_after: Timestamp,
}

impl Leaf {
    /// Reads a certificate; `None` where it cannot be read.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = alternative_names(&certificate)
            .into_iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => ServedName::parse(name).ok(),
                _ => None,
            })
            .collect();
        let validity = certificate.validity();
        Some(Self {
            names,
            not_before: Timestamp::from_secs(validity.not_before.timestamp()),
            not_after: Timestamp::from_secs(validity.not_after.timestamp()),
        })
    }
}

fn alternative_names<'a>(certificate: &'a X509Certificate<'_>) -> Vec<&'a GeneralName<'a>> {
    match certificate.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.iter().collect(),
        _ => Vec::new(),
    }
}

/// The mail addresses that a client's certificate names: those of its subjectAltName (rfc822Name), and only where it has
/// none of them those of its subject (emailAddress, and a common name that looks like one). Verified by nobody here.
pub fn client_addresses(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return Vec::new();
    };
    let named: Vec<String> = alternative_names(&certificate)
        .into_iter()
        .filter_map(|name| match name {
            GeneralName::RFC822Name(address) => Some((*address).to_owned()),
            _ => None,
        })
        .collect();
    if !named.is_empty() {
        return named;
    }
    let subject = certificate.subject();
    let addresses = subject.iter_email().chain(subject.iter_common_name());
    let texts = addresses.filter_map(|attribute| attribute.as_str().ok());
    texts
        .filter(|text| text.contains('@'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn der(params: CertificateParams) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn names_and_times_are_read() {
        let mut params = CertificateParams::new(vec![
            "MX.example.org".to_owned(),
            "*.example.org".to_owned(),
            "192.0.2.1".to_owned(),
        ])
        .unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2026, 4, 2);
        let leaf = Leaf::read(&der(params)).unwrap();
        let names: Vec<&str> = leaf.names.iter().map(ServedName::as_str).collect();
        assert_eq!(names, ["mx.example.org", "*.example.org"]);
        assert_eq!(leaf.not_before.secs(), 1_767_312_000);
        assert_eq!(leaf.not_after.secs() - leaf.not_before.secs(), 90 * 86_400);
    }

    #[test]
    fn what_is_no_certificate_is_none() {
        assert_eq!(Leaf::read(b"nothing"), None);
        assert_eq!(client_addresses(b"nothing"), Vec::<String>::new());
    }

    #[test]
    fn the_alternative_name_goes_before_the_subject() {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "cn@example.org");
        assert_eq!(client_addresses(&der(params.clone())), ["cn@example.org"]);
        let address = "ann@example.org".try_into().unwrap();
        params.subject_alt_names.push(SanType::Rfc822Name(address));
        assert_eq!(client_addresses(&der(params)), ["ann@example.org"]);
    }

    #[test]
    fn a_common_name_without_an_at_sign_is_no_address() {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Ann");
        assert!(client_addresses(&der(params)).is_empty());
    }
}
