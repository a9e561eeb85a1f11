//! One order: names proven, certificate fetched (RFC 8555 §7.4, §7.5).

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::challenge::Answers;
use super::{AcmeError, Wanted};
use crate::name::ServedName;
use crate::store::FetchedKey;

/// How often and how long the authority is asked whether it is done.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(300));

/// A certificate as it came.
pub(super) struct Issued {
    /// DER, the certificate itself first.
    pub(super) chain: Vec<Vec<u8>>,
    /// Its key, PKCS#8.
    pub(super) pkcs8: Vec<u8>,
}

/// Fetches a certificate. What is put in place on the way is noted in `answers`, whatever this ends with.
pub(super) async fn fetch(
    account: &Account,
    wanted: &Wanted,
    answers: &mut Answers,
) -> Result<Issued, AcmeError> {
    let names = wanted.names().iter().map(ServedName::as_str);
    let identifiers: Vec<Identifier> = names.map(|name| Identifier::Dns(name.to_owned())).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    prove(&mut order, answers).await?;
    match order.poll_ready(&PATIENCE).await {
        Ok(OrderStatus::Ready) => {}
        Err(error @ instant_acme::Error::Timeout(_)) => return Err(error.into()),
        refused => {
            return Err(AcmeError::NotProven(
                reasons(&mut order, refused.err()).await,
            ));
        }
    }
    let (request, key) = signing_request(wanted)?;
    order.finalize_csr(&request).await?;
    let pem = order.poll_certificate(&PATIENCE).await?;
    let issued = Issued {
        chain: read_chain(&pem)?,
        pkcs8: key.serialize_der(),
    };
    check(wanted, &issued)?;
    Ok(issued)
}

/// Answers the challenge of every name that the authority does not know as ours yet.
async fn prove(order: &mut Order, answers: &mut Answers) -> Result<(), AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let name = match authorization.identifier().identifier {
            Identifier::Dns(name) => name.clone(),
            other => format!("{other:?}"),
        };
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            other => {
                let says = format!("the authorization for {name} is {other:?}");
                return Err(AcmeError::NotProven(says));
            }
        }
        let Some(mut challenge) = authorization.challenge(answers.kind()) else {
            return Err(answers.not_offered(name));
        };
        answers.put(&name, &challenge).await?;
        challenge.set_ready().await?;
    }
    Ok(())
}

/// What the authority says about the names that it does not believe.
async fn reasons(order: &mut Order, error: Option<instant_acme::Error>) -> String {
    let mut says: Vec<String> = error.iter().map(ToString::to_string).collect();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        let name = state.identifier().to_string();
        let errors = state.challenges.iter().filter_map(|it| it.error.as_ref());
        says.extend(errors.map(|error| format!("{name}: {error}")));
    }
    says.join("; ")
}

/// A signing request with a key made for it.
fn signing_request(wanted: &Wanted) -> Result<(Vec<u8>, KeyPair), AcmeError> {
    let unusable = |error: rcgen::Error| AcmeError::Unusable(error.to_string());
    let names = wanted.names().iter().map(ToString::to_string);
    let mut params = CertificateParams::new(names.collect::<Vec<_>>()).map_err(unusable)?;
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate().map_err(unusable)?;
    let request = params.serialize_request(&key).map_err(unusable)?;
    Ok((request.der().to_vec(), key))
}

fn read_chain(pem: &str) -> Result<Vec<Vec<u8>>, AcmeError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(|certificate| certificate.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|error| AcmeError::Unusable(error.to_string()))
}

/// A certificate is kept only when it belongs to its key and bears every name that was asked for.
fn check(wanted: &Wanted, issued: &Issued) -> Result<(), AcmeError> {
    let key = FetchedKey::new(&issued.chain, &issued.pkcs8)
        .map_err(|error| AcmeError::Unusable(error.to_string()))?;
    let missing = wanted
        .names()
        .iter()
        .find(|name| !key.leaf().names.contains(name));
    match missing {
        Some(name) => Err(AcmeError::Unusable(format!("it does not name {name}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(names: &[&str], key: &KeyPair, shown: &KeyPair) -> Issued {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.self_signed(key).unwrap();
        Issued {
            chain: read_chain(&certificate.pem()).unwrap(),
            pkcs8: shown.serialize_der(),
        }
    }

    #[test]
    fn a_certificate_must_bear_every_name_and_fit_its_key() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let wanted = Wanted::parse("a.test *.a.test").unwrap();
        let names = ["a.test", "*.a.test"];
        check(&wanted, &issued(&names, &key, &key)).unwrap();
        assert!(check(&wanted, &issued(&names, &key, &other)).is_err());
        assert!(check(&wanted, &issued(&names[..1], &key, &key)).is_err());
        let empty = Issued {
            chain: read_chain("").unwrap(),
            pkcs8: key.serialize_der(),
        };
        assert!(check(&wanted, &empty).is_err());
    }

    #[test]
    fn each_request_has_a_key_of_its_own() {
        let wanted = Wanted::parse("a.test").unwrap();
        let ((first, one), (second, two)) = (
            signing_request(&wanted).unwrap(),
            signing_request(&wanted).unwrap(),
        );
        assert_ne!(first, second);
        assert_ne!(one.serialize_der(), two.serialize_der());
    }
}
