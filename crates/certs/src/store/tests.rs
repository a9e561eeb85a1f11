//! Which certificate is shown for which name, and what a reload changes.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::*;
use rcgen::{CertificateParams, KeyPair};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn pair(&self, file: &str) -> FilePair {
        FilePair {
            certificate: self.0.path().join(format!("{file}.crt")),
            key: self.0.path().join(format!("{file}.key")),
        }
    }

    /// Writes a certificate for names; gives its DER.
    fn write(&self, file: &str, names: &[&str]) -> Vec<u8> {
        let pair = self.pair(file);
        let (certificate, key) = made(names, 30);
        std::fs::write(&pair.certificate, certificate.pem()).unwrap();
        std::fs::write(&pair.key, key.serialize_pem()).unwrap();
        age(&pair.certificate);
        certificate.der().to_vec()
    }

    fn files(&self) -> CertificateFiles {
        CertificateFiles {
            hostname: "MX.test".to_owned(),
            own: None,
            self_signed: FilePair::self_signed(self.0.path()),
            further: Vec::new(),
        }
    }
}

/// Every write is seen as a change, however fast the clock of the file system goes.
fn age(path: &Path) {
    static SECONDS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let seconds = SECONDS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let later = SystemTime::now() + Duration::from_secs(10 * seconds);
    file.set_modified(later).unwrap();
}

fn made(names: &[&str], days: u32) -> (rcgen::Certificate, KeyPair) {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = params.not_before + Duration::from_secs(86_400) * days;
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), key)
}

fn fetched(names: &[&str], days: u32) -> (Vec<u8>, FetchedKey) {
    let (certificate, key) = made(names, days);
    let der = certificate.der().to_vec();
    let fetched = FetchedKey::new(std::slice::from_ref(&der), &key.serialize_der()).unwrap();
    (der, fetched)
}

/// While all certificates of these tests are valid.
fn then() -> Timestamp {
    Timestamp::from_secs(1_577_836_800 + 86_400)
}

fn shown(store: &CertificateStore, name: Option<&str>) -> Vec<u8> {
    store.certificate_for(name).cert[0].to_vec()
}

#[test]
fn exact_names_go_before_wildcards_and_strangers_get_the_own_one() {
    let place = Place::new();
    let own = place.write("own", &["mx.test"]);
    let wild = place.write("wild", &["*.test"]);
    let exact = place.write("exact", &["a.test", "deep.b.test"]);
    let named = place.write("named", &["x.test"]);
    let store = CertificateStore::load(CertificateFiles {
        own: Some(place.pair("own")),
        further: vec![
            (place.pair("wild"), Vec::new()),
            (place.pair("exact"), Vec::new()),
            (
                place.pair("named"),
                vec![ServedName::parse("named.example").unwrap()],
            ),
        ],
        ..place.files()
    })
    .unwrap();
    for (name, certificate) in [
        (Some("mx.test"), &own),
        (Some("A.test"), &exact),
        (Some("b.test"), &wild),
        (Some("x.test"), &wild),
        (Some("deep.b.test"), &exact),
        (Some("deep.c.test"), &own),
        (Some("test"), &own),
        (Some("named.example"), &named),
        (None, &own),
    ] {
        assert_eq!(&shown(&store, name), certificate, "{name:?}");
    }
    assert_eq!(store.list().len(), 4);
}

#[test]
fn fetched_certificates_go_before_files_while_they_are_valid() {
    let place = Place::new();
    let own = place.write("own", &["mx.test", "a.test"]);
    let store = CertificateStore::load(CertificateFiles {
        own: Some(place.pair("own")),
        ..place.files()
    })
    .unwrap();
    let ((short, one), (long, two)) = (fetched(&["a.test"], 30), fetched(&["a.test"], 60));
    store.set_fetched(vec![one.clone(), two], then());
    assert_eq!(shown(&store, Some("a.test")), long);
    assert_eq!(
        shown(&store, None),
        own,
        "the host's own name was not fetched"
    );
    store.set_fetched(vec![one.clone()], then());
    assert_eq!(shown(&store, Some("a.test")), short);
    store.set_fetched(vec![one], then().plus_millis(40 * 86_400_000));
    assert_eq!(shown(&store, Some("a.test")), own);
}

#[test]
fn a_fetched_certificate_of_the_host_is_what_strangers_get() {
    let place = Place::new();
    let store = CertificateStore::load(place.files()).unwrap();
    let made_here = shown(&store, None);
    let (certificate, key) = fetched(&["*.test"], 30);
    store.set_fetched(vec![key], then());
    assert_eq!(shown(&store, None), certificate);
    assert_eq!(shown(&store, Some("else.example")), certificate);
    store.set_fetched(Vec::new(), then());
    assert_eq!(shown(&store, None), made_here);
}

#[test]
fn a_reload_takes_what_is_good_and_keeps_what_is_not() {
    let place = Place::new();
    place.write("own", &["mx.test"]);
    let old = place.write("more", &["a.test"]);
    let store = CertificateStore::load(CertificateFiles {
        own: Some(place.pair("own")),
        further: vec![(place.pair("more"), Vec::new())],
        ..place.files()
    })
    .unwrap();
    assert!(!store.reload_if_changed().unwrap());

    let fresh = place.write("own", &["mx.test"]);
    let broken = place.pair("more").certificate;
    std::fs::write(&broken, "nothing").unwrap();
    age(&broken);
    let error = store.reload_if_changed().unwrap_err();
    assert!(matches!(error, CertificateError::Pem { .. }), "{error}");
    assert_eq!(shown(&store, None), fresh);
    assert_eq!(shown(&store, Some("a.test")), old);
    // It is looked at again when it has changed again, and by whoever asks for a reload.
    assert!(!store.reload_if_changed().unwrap());
    assert!(store.reload().is_err());
    let mended = place.write("more", &["b.test"]);
    assert!(store.reload_if_changed().unwrap());
    assert_eq!(shown(&store, Some("b.test")), mended);
    assert_eq!(
        shown(&store, Some("a.test")),
        fresh,
        "no longer named by any"
    );
}

#[test]
fn a_further_certificate_without_names_is_refused() {
    let place = Place::new();
    place.write("more", &["192.0.2.1"]);
    let files = CertificateFiles {
        further: vec![(place.pair("more"), Vec::new())],
        ..place.files()
    };
    let error = CertificateStore::load(files).unwrap_err();
    assert!(
        matches!(error, CertificateError::Nameless { .. }),
        "{error}"
    );
}

#[test]
fn an_inspection_makes_nothing_and_says_what_is_broken() {
    let place = Place::new();
    place.write("good", &["a.test"]);
    let files = CertificateFiles {
        further: vec![
            (place.pair("good"), Vec::new()),
            (place.pair("missing"), Vec::new()),
        ],
        ..place.files()
    };
    let found = files.inspect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0].as_ref().unwrap().names[0].as_str(), "a.test");
    assert!(matches!(found[1], Err(CertificateError::Pem { .. })));
    assert!(!files.self_signed.certificate.exists());
}

#[test]
fn a_chain_without_its_key_is_refused() {
    let (certificate, _) = made(&["a.test"], 30);
    let other = KeyPair::generate().unwrap();
    let chain = [certificate.der().to_vec()];
    assert!(FetchedKey::new(&chain, &other.serialize_der()).is_err());
    assert!(FetchedKey::new(&[], &other.serialize_der()).is_err());
}
