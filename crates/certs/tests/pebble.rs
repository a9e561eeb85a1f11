//! Certificates fetched from a real authority, by each kind of challenge.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use nightmail_certs::acme::{
    Acme, AcmeOptions, Challenge, OrderStatus, Wanted, answer_http, answer_tls, list,
    request_renewal,
};
use nightmail_certs::{CertificateFiles, CertificateStore, FilePair, Source, read_certificates};
use nightmail_cluster::Leases;
use nightmail_engine::{Engine, MemoryEngine};
use nightmail_testbed::pebble::Pebble;
use nightmail_testbed::programs;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_secs(120);

/// The nodes of one test, over the same rows.
struct Nodes {
    _dir: tempfile::TempDir,
    engine: Arc<MemoryEngine>,
    pebble: Pebble,
    options: AcmeOptions,
    files: CertificateFiles,
    tasks: JoinSet<()>,
}

impl Nodes {
    fn new(names: &str, challenge: impl FnOnce(&Pebble) -> Challenge) -> Option<Self> {
        let pebble = Pebble::start()?;
        let dir = tempfile::tempdir().unwrap();
        let options = AcmeOptions {
            directory: pebble.directory(),
            certificates: vec![Wanted::parse(names).unwrap()],
            contact: Some("postmaster@mx.test".to_owned()),
            terms_agreed: true,
            challenge: challenge(&pebble),
            renew_before: Duration::from_secs(86_400),
            authorities: read_certificates(&pebble.authority()).unwrap(),
            interval: Duration::from_millis(200),
        };
        let files = CertificateFiles {
            hostname: "mx.test".to_owned(),
            own: None,
            self_signed: FilePair::self_signed(dir.path()),
            further: Vec::new(),
        };
        Some(Self {
            engine: Arc::new(MemoryEngine::new()),
            tasks: JoinSet::new(),
            _dir: dir,
            pebble,
            options,
            files,
        })
    }

    fn rows(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.engine) as Arc<dyn Engine>
    }

    /// Starts what answers challenges, on what may be another node than the one that fetches.
    async fn answer(&mut self) {
        let rows = self.rows();
        match self.options.challenge {
            Challenge::Http => {
                let listener = TcpListener::bind(self.pebble.http()).await.unwrap();
                self.tasks.spawn(answer_http(listener, rows));
            }
            Challenge::TlsAlpn => {
                let listener = TcpListener::bind(self.pebble.tls()).await.unwrap();
                self.tasks.spawn(answer_tls(listener, rows));
            }
            Challenge::Dns { .. } => {}
        }
    }

    /// Starts what fetches.
    fn fetch(&mut self) -> CertificateStore {
        let store = CertificateStore::load(self.files.clone()).unwrap();
        let leases = Leases::everything();
        let acme = Acme::new(self.rows(), leases, store.clone(), self.options.clone()).unwrap();
        self.tasks.spawn(acme.run(std::future::pending()));
        store
    }

    /// Waits until what is listed is so.
    async fn until(&self, what: &str, is_so: impl Fn(&OrderStatus) -> bool) {
        let began = Instant::now();
        loop {
            let listed = list(self.engine.as_ref()).await.unwrap();
            if listed.iter().any(|order| is_so(&order.status)) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "in vain: {what}: {listed:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Waits until a store shows another certificate than `before` for a name; gives its DER.
async fn shown(store: &CertificateStore, name: &str, before: &[u8]) -> Vec<u8> {
    let began = Instant::now();
    loop {
        let certificate = store.certificate_for(Some(name)).cert[0].to_vec();
        if certificate != before {
            return certificate;
        }
        assert!(began.elapsed() < PATIENCE, "in vain: {name}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn good(status: &OrderStatus) -> bool {
    *status == OrderStatus::Good
}

async fn fetched_and_renewed(
    names: &str,
    name: &str,
    challenge: impl FnOnce(&Pebble) -> Challenge,
) {
    let Some(mut nodes) = Nodes::new(names, challenge) else {
        return;
    };
    nodes.answer().await;
    let store = nodes.fetch();
    nodes.until("fetched", good).await;
    let made_here = std::fs::read(&nodes.files.self_signed.certificate).unwrap();
    let first = shown(&store, name, &made_here).await;
    let info = store.list().remove(0);
    assert_eq!(info.source, Source::Fetched);
    let wanted = nodes.options.certificates[0].names();
    assert!(
        wanted.iter().all(|name| info.names.contains(name)),
        "{info:?}"
    );

    let asked = request_renewal(nodes.engine.as_ref(), Some(wanted[0].as_str())).await;
    assert_eq!(asked.unwrap(), 1);
    let second = shown(&store, name, &first).await;
    assert_ne!(second, first);
    nodes.until("renewed", good).await;
    let left = nodes.engine.as_ref();
    let challenges = nightmail_engine::KeyRange::prefix(b"acme/challenge/");
    let left = left
        .scan(
            nightmail_engine::Space::Meta,
            challenges,
            Default::default(),
            10,
        )
        .await
        .unwrap();
    assert!(left.is_empty(), "answers are taken away");
    if let Challenge::Dns { .. } = nodes.options.challenge {
        let log = nodes.pebble.hook_log();
        let count = |word: &str| log.lines().filter(|line| line.starts_with(word)).count();
        assert!(count("set _acme-challenge.wild.test ") >= 2, "{log}");
        assert_eq!(count("set "), count("remove "), "{log}");
    }
}

#[tokio::test]
async fn names_are_proven_over_http() {
    fetched_and_renewed("mx.test imap.mx.test", "imap.mx.test", |_| Challenge::Http).await;
}

#[tokio::test]
async fn names_are_proven_in_a_tls_handshake() {
    fetched_and_renewed("mx.test imap.mx.test", "mx.test", |_| Challenge::TlsAlpn).await;
}

#[tokio::test]
async fn names_are_proven_by_a_record_wildcards_among_them() {
    if programs::find("curl", &[]).is_none() {
        programs::skip("curl is not installed");
        return;
    }
    let hook = |pebble: &Pebble| Challenge::Dns {
        hook: pebble.hook(),
    };
    fetched_and_renewed("wild.test *.wild.test", "any.wild.test", hook).await;
}

#[tokio::test]
async fn the_reason_why_a_name_is_not_believed_is_told() {
    let Some(mut nodes) = Nodes::new("mx.test", |_| Challenge::Http) else {
        return;
    };
    // Nobody answers.
    nodes.fetch();
    nodes
        .until("refused", |status| match status {
            OrderStatus::Failing { error, .. } => error.contains("mx.test: "),
            _ => false,
        })
        .await;
}

#[tokio::test]
async fn a_node_that_fetches_nothing_shows_what_another_fetched() {
    let Some(mut nodes) = Nodes::new("mx.test", |_| Challenge::Http) else {
        return;
    };
    nodes.answer().await;
    let one = nodes.fetch();
    nodes.until("fetched", good).await;
    let two = CertificateStore::load(nodes.files.clone()).unwrap();
    let made_here = two.certificate_for(None).cert[0].to_vec();
    let leases = Leases::everything();
    let acme = Acme::new(nodes.rows(), leases, two.clone(), nodes.options.clone());
    acme.unwrap().pick_up().await;
    let fetched = shown(&one, "mx.test", &made_here).await;
    assert_eq!(shown(&two, "mx.test", &made_here).await, fetched);
    // What was fetched is good: nothing is fetched again, whoever begins.
    let before = list(nodes.engine.as_ref()).await.unwrap();
    nodes.fetch();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(list(nodes.engine.as_ref()).await.unwrap(), before);
}

#[tokio::test]
async fn an_account_that_the_authority_has_forgotten_is_made_anew() {
    let Some(mut nodes) = Nodes::new("mx.test", |_| Challenge::Http) else {
        return;
    };
    nodes.answer().await;
    let store = nodes.fetch();
    nodes.until("fetched", good).await;
    let first = store.certificate_for(None).cert[0].to_vec();
    nodes.pebble.forget_all();
    let asked = request_renewal(nodes.engine.as_ref(), None).await;
    assert_eq!(asked.unwrap(), 1);
    shown(&store, "mx.test", &first).await;
    nodes.until("renewed", good).await;
}

#[tokio::test]
async fn the_authority_is_told_of_another_contact() {
    let Some(mut nodes) = Nodes::new("mx.test", |_| Challenge::Http) else {
        return;
    };
    nodes.answer().await;
    nodes.fetch();
    nodes.until("fetched", good).await;
    nodes.tasks.shutdown().await;
    nodes.answer().await;
    nodes.options.contact = Some("other@mx.test".to_owned());
    let store = nodes.fetch();
    let first = store.certificate_for(None).cert[0].to_vec();
    request_renewal(nodes.engine.as_ref(), None).await.unwrap();
    shown(&store, "mx.test", &first).await;
    nodes.until("renewed", good).await;
}
