//! Keys that sign mail, what DNS says of a domain, and greylisting, as the operator asks for them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use nightmail_access::{Greylist, GreylistOptions};
use nightmail_admin::{
    AdminContext, AdminError, AdminRequest, AdminResponse, DkimAlgorithm, DkimKeyView,
    DomainSettings, ErrorKind, MaintenanceOptions, Site, execute,
};
use nightmail_commit::{CommitLimits, Committer};
use nightmail_core::{Address, Domain, ForwardPath, ReversePath};
use nightmail_directory::{Directory, DirectoryOptions, PasswordHash};
use nightmail_dns::DnsOptions;
use nightmail_engine::MemoryEngine;
use nightmail_heap::{Heap, HeapOptions};
use nightmail_queue::Queue;
use nightmail_store::{Store, StoreOptions};
use nightmail_testbed::dns::NameServer;

const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 25);

struct World {
    context: AdminContext,
    names: NameServer,
    _dir: tempfile::TempDir,
}

impl World {
    /// A server for x.test, also called alt.test, that asks a name server of its own.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let heap = Heap::open(dir.path(), HeapOptions::default()).unwrap();
        let engine = Arc::new(MemoryEngine::new());
        let committer = Committer::start(engine, heap, CommitLimits::default());
        let names = NameServer::start();
        let site = Site {
            dns: DnsOptions {
                name_servers: vec![names.address()],
                ..DnsOptions::default()
            },
            hostname: Domain::parse("mx.x.test").unwrap(),
            addresses: vec![OWN.into()],
        };
        let context = AdminContext::new(
            Store::new(committer.clone(), &StoreOptions::default()),
            Directory::new(committer.clone(), DirectoryOptions::default()),
            Arc::new(Queue::new(committer)),
            MaintenanceOptions::default(),
            Arc::new(|_| Ok(PasswordHash::new("$test$"))),
        )
        .with_site(site);
        let world = Self {
            context,
            names,
            _dir: dir,
        };
        world
            .done(AdminRequest::DomainAdd {
                domain: "x.test".into(),
                settings: DomainSettings::default(),
            })
            .await;
        world
            .done(AdminRequest::DomainAlternateAdd {
                domain: "x.test".into(),
                alternate: "alt.test".into(),
            })
            .await;
        world
    }

    async fn done(&self, request: AdminRequest) -> AdminResponse {
        execute(&self.context, request).await.unwrap()
    }

    async fn refused(&self, request: AdminRequest) -> AdminError {
        execute(&self.context, request).await.unwrap_err()
    }

    async fn keys(&self, request: AdminRequest) -> Vec<DkimKeyView> {
        match self.done(request).await {
            AdminResponse::DkimKeys { items } | AdminResponse::DkimChanged { items } => items,
            other => panic!("{other:?}"),
        }
    }

    /// What `dns check` says, and its verdicts by kind.
    async fn checked(&self) -> (bool, Vec<(String, String)>) {
        let request = AdminRequest::DnsCheck {
            domain: "x.test".into(),
            server: None,
        };
        match self.done(request).await {
            AdminResponse::DnsChecked { good, items, .. } => {
                let verdicts = items.into_iter().map(|item| (item.kind, item.verdict));
                (good, verdicts.collect())
            }
            other => panic!("{other:?}"),
        }
    }
}

fn new(domain: &str, algorithm: DkimAlgorithm, activate: bool) -> AdminRequest {
    AdminRequest::DkimNew {
        domain: domain.into(),
        algorithm,
        selector: None,
        activate,
    }
}

fn rotate(force: bool) -> AdminRequest {
    AdminRequest::DkimRotate {
        domain: "x.test".into(),
        force,
    }
}

fn list(domain: Option<&str>) -> AdminRequest {
    AdminRequest::DkimList {
        domain: domain.map(str::to_owned),
    }
}

fn states(keys: &[DkimKeyView]) -> Vec<&str> {
    keys.iter().map(|key| key.state.as_str()).collect()
}

#[tokio::test]
async fn a_key_signs_only_after_its_record_is_published() {
    let world = World::new().await;
    let made = world
        .keys(new("x.test", DkimAlgorithm::Ed25519, false))
        .await;
    assert_eq!(states(&made), ["pending"]);
    assert_eq!(made[0].published, "no");
    assert!(made[0].text.starts_with("v=DKIM1; k=ed25519; p="));
    assert_eq!(
        made[0].name,
        format!("{}._domainkey.x.test", made[0].selector)
    );

    let error = world.refused(rotate(false)).await;
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.message.contains("is not published"), "{error}");
    world.names.txt(&made[0].name, "v=DKIM1; k=ed25519; p=AAAA");
    let error = world.refused(rotate(false)).await;
    assert!(error.message.contains("another key"), "{error}");

    world
        .names
        .remove(&made[0].name)
        .txt(&made[0].name, &made[0].text);
    let keys = world.keys(rotate(false)).await;
    assert_eq!(states(&keys), ["active", "pending"]);
    assert_eq!(
        (keys[0].published.as_str(), keys[1].published.as_str()),
        ("yes", "no")
    );
    assert_ne!(keys[0].selector, keys[1].selector);

    let keys = world.keys(rotate(true)).await;
    assert_eq!(states(&keys), ["retired", "active", "pending"]);
    assert!(keys[0].keep_until.as_ref() > Some(&keys[0].changed));
    assert_eq!(keys[1].keep_until, None);
    assert_eq!(world.keys(list(None)).await, keys);
}

#[tokio::test]
async fn each_algorithm_has_its_own_row_of_keys() {
    let world = World::new().await;
    let made = world.keys(new("alt.test", DkimAlgorithm::Both, true)).await;
    assert_eq!(states(&made), ["active", "active"]);
    let error = world
        .refused(new("alt.test", DkimAlgorithm::Both, true))
        .await;
    assert!(error.message.contains("dkim rotate alt.test"), "{error}");
    assert!(world.keys(list(Some("x.test"))).await.is_empty());

    // The first rotation only makes the next keys: there is none to take over yet.
    let rotate = AdminRequest::DkimRotate {
        domain: "alt.test".into(),
        force: false,
    };
    let keys = world.keys(rotate).await;
    assert_eq!(states(&keys), ["active", "active", "pending", "pending"]);
    let activate = AdminRequest::DkimActivate {
        domain: "alt.test".into(),
        selector: keys[3].selector.to_uppercase(),
        force: true,
    };
    let keys = world.keys(activate).await;
    assert_eq!(states(&keys), ["active", "retired", "pending", "active"]);
    let AdminResponse::Domain(shown) = world
        .done(AdminRequest::DomainShow {
            domain: "x.test".into(),
        })
        .await
    else {
        panic!("no domain")
    };
    let shown: Vec<(String, String)> = shown
        .dkim
        .unwrap()
        .into_iter()
        .map(|key| (key.algorithm, key.state))
        .collect();
    let row = |algorithm: &str, state: &str| (algorithm.to_owned(), state.to_owned());
    assert_eq!(
        shown,
        [
            row("rsa2048", "active"),
            row("ed25519", "retired"),
            row("rsa2048", "pending"),
            row("ed25519", "active"),
        ]
    );
}

#[tokio::test]
async fn an_active_key_is_removed_only_by_force() {
    let world = World::new().await;
    let made = world
        .keys(new("x.test", DkimAlgorithm::Ed25519, true))
        .await;
    let remove = |force| AdminRequest::DkimRemove {
        domain: "x.test".into(),
        selector: made[0].selector.clone(),
        force,
    };
    assert_eq!(world.refused(remove(false)).await.kind, ErrorKind::Refused);
    world.done(remove(true)).await;
    let error = world.refused(remove(true)).await;
    assert!(error.message.contains("no DKIM key"), "{error}");
    let error = world.refused(rotate(false)).await;
    assert!(error.message.contains("dkim new"), "{error}");
    let error = world
        .refused(new("y.test", DkimAlgorithm::Ed25519, false))
        .await;
    assert_eq!(error.kind, ErrorKind::Usage);
}

#[tokio::test]
async fn a_selector_of_ones_own_is_taken_once() {
    let world = World::new().await;
    let named = |algorithm| AdminRequest::DkimNew {
        domain: "x.test".into(),
        algorithm,
        selector: Some("Mail".into()),
        activate: false,
    };
    let made = world.keys(named(DkimAlgorithm::Both)).await;
    assert_eq!(made[0].selector, "mail-rsa");
    assert_eq!(made[1].name, "mail-ed25519._domainkey.x.test");
    assert!(
        made[0].zone.contains("\" \""),
        "a long text is cut: {}",
        made[0].zone
    );
    let error = world.refused(named(DkimAlgorithm::Both)).await;
    assert!(error.message.contains("mail-rsa already"), "{error}");
}

#[tokio::test]
async fn no_answer_shows_a_private_key() {
    let world = World::new().await;
    world
        .done(new("x.test", DkimAlgorithm::Ed25519, true))
        .await;
    let directory = &world.context.directory;
    let keys = directory.dkim_keys(None).await.unwrap();
    let secret: Vec<String> = keys[0].pkcs8.iter().map(u8::to_string).collect();
    let shown = [
        format!("{keys:?}"),
        format!("{:?}", world.done(list(None)).await),
        serde_json::to_string(&world.done(list(None)).await).unwrap(),
    ];
    for text in shown {
        assert!(!text.contains("pkcs8"), "{text}");
        assert!(
            !text.replace(' ', "").contains(&secret[16..24].join(",")),
            "{text}"
        );
    }
}

#[tokio::test]
async fn the_check_of_dns_is_good_once_every_record_is_there() {
    let world = World::new().await;
    let (good, verdicts) = world.checked().await;
    assert!(!good);
    assert!(
        verdicts.contains(&("MX".into(), "missing".into())),
        "{verdicts:?}"
    );
    let made = world
        .keys(new("x.test", DkimAlgorithm::Ed25519, false))
        .await;
    world
        .names
        .mx("x.test", 10, "mx.x.test")
        .a("mx.x.test", OWN)
        .ptr(OWN.into(), "mx.x.test")
        .txt("x.test", "v=spf1 mx -all")
        .txt(&made[0].name, &made[0].text)
        .txt(
            "_dmarc.x.test",
            "v=DMARC1; p=reject; rua=mailto:dmarc@x.test",
        );
    let (good, verdicts) = world.checked().await;
    assert!(!good, "nothing signs yet: {verdicts:?}");
    let keys = world.keys(rotate(false)).await;
    world.names.txt(&keys[1].name, &keys[1].text);
    let (good, verdicts) = world.checked().await;
    assert!(good, "{verdicts:?}");
    let empty = NameServer::start();
    let bad = AdminRequest::DnsCheck {
        domain: "x.test".into(),
        server: Some(empty.address()),
    };
    let AdminResponse::DnsChecked { good, .. } = world.done(bad).await else {
        panic!("not checked")
    };
    assert!(!good, "another server was asked");
}

#[tokio::test]
async fn who_has_to_come_back_is_listed_let_in_and_forgotten() {
    let world = World::new().await;
    let greylist = Greylist::new(
        Arc::clone(world.context.store.committer().engine()),
        GreylistOptions::default(),
    );
    let client = |last| IpAddr::V4(Ipv4Addr::new(198, 51, 100, last));
    let sender = ReversePath::Address(Address::parse("a@far.test").unwrap());
    let recipient = ForwardPath::Address(Address::parse("ann@x.test").unwrap());
    let now = nightmail_commit::now();
    greylist
        .look(client(1), &sender, &recipient, now)
        .await
        .unwrap();
    let entries = async || {
        let request = AdminRequest::GreylistList {
            after: None,
            limit: None,
        };
        match world.done(request).await {
            AdminResponse::Greylist { items, next: None } => items,
            other => panic!("{other:?}"),
        }
    };
    let listed = entries().await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].state, "waiting");
    assert_eq!(listed[0].recipient.as_deref(), Some("ann@x.test"));

    world
        .done(AdminRequest::GreylistAllow { client: client(7) })
        .await;
    let known = greylist.look(client(1), &sender, &recipient, now).await;
    assert_eq!(known.unwrap(), nightmail_access::Verdict::Known);
    assert!(entries().await.iter().any(|entry| entry.state == "allowed"));

    let remove = |entry: &str| AdminRequest::GreylistRemove {
        entry: entry.to_owned(),
    };
    world.done(remove(&listed[0].key)).await;
    assert_eq!(
        world.refused(remove(&listed[0].key)).await.kind,
        ErrorKind::Refused
    );
    let removed = world.done(remove("198.51.100.9")).await;
    assert_eq!(removed, AdminResponse::GreylistRemoved { count: 1 });
    assert!(entries().await.is_empty());
    assert_eq!(
        world.refused(remove("everything")).await.kind,
        ErrorKind::Usage
    );
}
