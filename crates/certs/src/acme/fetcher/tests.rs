//! What is due when, and what an attempt that fails leaves behind.

use std::sync::Arc;

use super::*;
use crate::acme::{Challenge, OrderStatus, list, request_renewal};
use crate::store::CertificateFiles;
use crate::{FilePair, Source};
use nightmail_engine::{Engine, MemoryEngine};
use rcgen::{CertificateParams, KeyPair};

const DAY: Duration = Duration::from_secs(86_400);

struct Place {
    _dir: tempfile::TempDir,
    engine: Arc<MemoryEngine>,
    store: CertificateStore,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = CertificateFiles {
            hostname: "mx.test".to_owned(),
            own: None,
            self_signed: FilePair::self_signed(dir.path()),
            further: Vec::new(),
        };
        Self {
            store: CertificateStore::load(files).unwrap(),
            engine: Arc::new(MemoryEngine::new()),
            _dir: dir,
        }
    }

    /// One that asks an authority which is not there.
    fn acme(&self) -> Acme {
        let options = AcmeOptions {
            directory: "https://127.0.0.1:1/directory".to_owned(),
            certificates: vec![Wanted::parse("mx.test").unwrap()],
            contact: None,
            terms_agreed: true,
            challenge: Challenge::Http,
            renew_before: 30 * DAY,
            authorities: Vec::new(),
            interval: Duration::from_secs(60),
        };
        let engine = Arc::clone(&self.engine) as Arc<dyn Engine>;
        Acme::new(engine, Leases::everything(), self.store.clone(), options).unwrap()
    }

    async fn put(&self, acme: &Acme, days: i64) {
        let wanted = &acme.options.certificates[0];
        let mut params = CertificateParams::new(vec!["mx.test".to_owned()]).unwrap();
        let now = nightmail_commit::now().secs();
        let day = |days: i64| {
            rcgen::date_time_ymd(1970, 1, 1) + DAY * u32::try_from(now / 86_400 + days).unwrap()
        };
        params.not_before = day(-90);
        params.not_after = day(days);
        let key = KeyPair::generate().unwrap();
        let issued = Issued {
            chain: vec![params.self_signed(&key).unwrap().der().to_vec()],
            pkcs8: key.serialize_der(),
        };
        acme.keep(wanted, &LeaseGuard::none(), issued)
            .await
            .unwrap();
    }
}

fn never() -> impl Future<Output = ()> {
    std::future::pending()
}

#[tokio::test]
async fn an_attempt_that_fails_is_written_down_and_not_repeated_at_once() {
    let place = Place::new();
    let mut acme = place.acme();
    let hold = LeaseHold::none();
    for _ in 0..3 {
        assert_eq!(acme.work(&hold, pin!(never())).await, Going::On);
    }
    let listed = list(place.engine.as_ref()).await.unwrap();
    assert_eq!(listed.len(), 1);
    let OrderStatus::Failing { error, next } = &listed[0].status else {
        panic!("{listed:?}");
    };
    assert!(error.contains("cannot be asked"), "{error}");
    let wait = next.millis() - listed[0].attempted.unwrap().millis();
    assert_eq!(wait, millis(schedule::RETRY_MIN), "after one attempt");
}

#[tokio::test]
async fn an_operator_gets_one_more_attempt() {
    let place = Place::new();
    let mut acme = place.acme();
    let hold = LeaseHold::none();
    acme.work(&hold, pin!(never())).await;
    let asked = request_renewal(place.engine.as_ref(), Some("MX.test")).await;
    assert_eq!(asked.unwrap(), 1);
    let status = || async { list(place.engine.as_ref()).await.unwrap().remove(0).status };
    assert_eq!(status().await, OrderStatus::Requested);
    acme.work(&hold, pin!(never())).await;
    assert!(matches!(status().await, OrderStatus::Failing { .. }));
    let key = rows::order_key(acme.options.certificates[0].id());
    let row = rows::get(place.engine.as_ref(), &key).await.unwrap();
    assert_eq!(decoded(row.as_ref()).failures, 2);
    let none = request_renewal(place.engine.as_ref(), Some("other.test")).await;
    assert_eq!(none.unwrap(), 0);
}

#[tokio::test]
async fn an_attempt_that_was_stopped_leaves_no_wait() {
    let place = Place::new();
    let mut acme = place.acme();
    let stopped = acme.work(&LeaseHold::none(), pin!(async {})).await;
    // The authority is not there: which of the two comes first is open, and so is what is left.
    let listed = list(place.engine.as_ref()).await.unwrap();
    match stopped {
        Going::Stopped => assert_eq!(listed[0].status, OrderStatus::Waiting),
        Going::On => assert!(matches!(listed[0].status, OrderStatus::Failing { .. })),
    }
}

#[tokio::test]
async fn a_certificate_in_the_rows_is_shown_until_it_is_over() {
    let place = Place::new();
    let mut acme = place.acme();
    let fetched = |store: &CertificateStore| {
        let listed = store.list();
        listed.iter().any(|info| info.source == Source::Fetched)
    };
    place.put(&acme, 90).await;
    acme.pick_up().await;
    assert!(fetched(&place.store));
    let now = nightmail_commit::now();
    let wanted = acme.options.certificates[0].clone();
    assert!(!acme.is_due(&wanted, now).await.unwrap());
    place.put(&acme, 20).await;
    assert!(acme.is_due(&wanted, now).await.unwrap());
    place.put(&acme, -1).await;
    acme.pick_up().await;
    assert!(!fetched(&place.store));
}

#[tokio::test]
async fn another_authority_is_asked_at_once() {
    let place = Place::new();
    let mut acme = place.acme();
    place.put(&acme, 90).await;
    acme.options.directory = "https://127.0.0.1:2/directory".to_owned();
    let wanted = acme.options.certificates[0].clone();
    assert!(acme.is_due(&wanted, nightmail_commit::now()).await.unwrap());
}

#[tokio::test]
async fn what_is_over_and_not_wanted_is_swept() {
    let place = Place::new();
    let mut acme = place.acme();
    place.put(&acme, -1).await;
    let guard = LeaseGuard::none();
    let wanted = acme.options.certificates[0].clone();
    acme.begin(&wanted, &guard).await.unwrap();
    let mut batch = Batch::new();
    for (token, until) in [("old", 1), ("new", i64::MAX / 2000)] {
        let row = ChallengeRow {
            answer: Vec::new(),
            until: Timestamp::from_secs(until),
        };
        batch.put(rows::Asked::Token(token).key().unwrap(), row.encode());
    }
    place
        .engine
        .commit(batch, Durability::Synced)
        .await
        .unwrap();
    acme.sweep(nightmail_commit::now(), &guard).await.unwrap();
    let left = |prefix: &'static str| {
        let engine = Arc::clone(&place.engine);
        async move { rows::all(engine.as_ref(), prefix).await.unwrap().len() }
    };
    assert_eq!(left(rows::CHALLENGE).await, 1);
    assert_eq!(
        (left(rows::CERTIFICATE).await, left(rows::ORDER).await),
        (1, 1)
    );
    acme.options.certificates.clear();
    acme.sweep(nightmail_commit::now(), &guard).await.unwrap();
    assert_eq!(
        (left(rows::CERTIFICATE).await, left(rows::ORDER).await),
        (0, 0)
    );
}

#[test]
fn an_error_is_cut_between_characters() {
    let long = "é".repeat(ERROR_OCTETS_MAX);
    let short = shorten(format!("a{long}"));
    assert!(short.len() <= ERROR_OCTETS_MAX && short.ends_with('é'));
    assert_eq!(shorten("short".to_owned()), "short");
}
