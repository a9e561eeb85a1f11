//! The admin API over its socket, as the command line uses it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use nightmail_admin::{
    AdminClient, AdminContext, AdminRequest, AdminResponse, ClientError, DomainSettings, ErrorKind,
    MaintenanceOptions, Password, QuotaView, bind_socket, router,
};
use nightmail_commit::{CommitLimits, Committer, Intent, NewBlob};
use nightmail_core::{AccountId, Address, Flags, QueueId, ReversePath, Timestamp};
use nightmail_directory::{Directory, DirectoryOptions};
use nightmail_engine::MemoryEngine;
use nightmail_heap::{BlobBuilder, Heap, HeapOptions};
use nightmail_queue::{
    BodyType, Content, NewQueueMessage, NewRecipient, Queue, QueueError, Source,
};
use nightmail_store::{MailboxName, NewMessage, Quota, Store, StoreOptions};

struct World {
    context: AdminContext,
    client: AdminClient,
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let heap = Heap::open(dir.path().join("heap"), HeapOptions::default()).unwrap();
        let committer =
            Committer::start(Arc::new(MemoryEngine::new()), heap, CommitLimits::default());
        let context = AdminContext::new(
            Store::new(committer.clone(), &StoreOptions::default()),
            Directory::new(committer.clone(), DirectoryOptions::default()),
            Arc::new(Queue::new(committer)),
            MaintenanceOptions {
                grace_millis: 0,
                undelete_window: std::time::Duration::ZERO,
                live_percent_max: 70,
            },
            Arc::new(|password| {
                let phc = format!("$test${}", password.len());
                Ok(nightmail_directory::PasswordHash::new(phc))
            }),
        )
        .with_metrics(Arc::new(|| "nightmail_logins_total 3\n".to_owned()));
        let socket = dir.path().join("admin.sock");
        let listener = bind_socket(&socket).unwrap();
        let routes = router(context.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let client = AdminClient::new(&socket);
        Self {
            context,
            client,
            socket,
            _dir: dir,
        }
    }

    async fn ask(&self, request: AdminRequest) -> Result<AdminResponse, (ErrorKind, String)> {
        self.client
            .execute(&request)
            .await
            .map_err(|error| match error {
                ClientError::Answered(error) => (error.kind, error.message),
                other => panic!("{other}"),
            })
    }

    async fn with_accounts(accounts: &[&str]) -> Self {
        let world = Self::new().await;
        world.ask(domain_add("x.test")).await.unwrap();
        for account in accounts {
            world.ask(account_add(account)).await.unwrap();
        }
        world
    }

    /// Panics unless a check of everything finds nothing.
    async fn assert_sound(&self) {
        let checked = self
            .ask(AdminRequest::Check {
                read_messages: true,
            })
            .await
            .unwrap();
        let AdminResponse::Checked(view) = checked else {
            panic!("{checked:?}")
        };
        assert_eq!(view.problems, Vec::<String>::new());
    }

    fn blob(&self, text: &[u8]) -> NewBlob {
        let mut builder = BlobBuilder::new(self.context.store.heap());
        builder.push(text).unwrap();
        let blob = builder.finish().unwrap();
        NewBlob {
            blob,
            envelope: Bytes::new(),
            meta: Bytes::new(),
        }
    }

    async fn append_to_inbox(&self, account: &str) {
        let account = AccountId::parse(account).unwrap();
        let inbox = self
            .context
            .store
            .lookup(account, &MailboxName::inbox())
            .await
            .unwrap();
        let message = NewMessage {
            missing_line_ends: 0,
            mailbox: inbox.mailbox,
            flags: Flags::EMPTY,
            keywords: Vec::new(),
            internal_date: Timestamp::from_secs(1),
            prefix: Bytes::new(),
            blob_size: 4,
        };
        let blob = self.blob(b"text");
        self.context
            .store
            .append(account, Quota::default(), blob, message)
            .await
            .unwrap();
    }

    async fn enqueue(&self) -> QueueId {
        let id = self.context.queue.next_id().await.unwrap();
        let new = NewQueueMessage {
            reverse_path: ReversePath::Null,
            prefix: Bytes::new(),
            blob_size: 4,
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            source: Source::Relay,
            recipients: vec![NewRecipient::plain(Address::parse("far@z.test").unwrap())],
            demands: Default::default(),
            unrouted: None,
            band: nightmail_queue::Rank::NORMAL,
            handicap_millis: 0,
        };
        let intent = Intent::synced(move |tx| {
            nightmail_queue::tx::enqueue::<QueueError>(tx, id, Content::New(0), &new)
        });
        let intent = intent.with_blob(self.blob(b"text"));
        self.context.store.committer().submit(intent).await.unwrap();
        id
    }
}

fn domain_add(domain: &str) -> AdminRequest {
    AdminRequest::DomainAdd {
        domain: domain.to_owned(),
        settings: DomainSettings::default(),
    }
}

fn account_add(address: &str) -> AdminRequest {
    AdminRequest::AccountAdd {
        address: address.to_owned(),
        password: Some(Password::new("secret")),
        logins: Vec::new(),
        quota: None,
        full_name: String::new(),
        admin: false,
    }
}

fn show(account: &str) -> AdminRequest {
    AdminRequest::AccountShow {
        account: account.to_owned(),
    }
}

#[tokio::test]
async fn an_account_comes_with_mailboxes_and_goes_with_them() {
    let world = World::with_accounts(&["ann@x.test"]).await;
    let list = AdminRequest::MailboxList {
        account: "ann@x.test".to_owned(),
    };
    let AdminResponse::Mailboxes { items } = world.ask(list.clone()).await.unwrap() else {
        panic!("no list")
    };
    assert!(items.iter().any(|mailbox| mailbox.name == "INBOX"));
    assert!(
        items
            .iter()
            .any(|mailbox| mailbox.special_use.as_deref() == Some("\\Sent"))
    );
    let AdminResponse::Account(view) = world.ask(show("ann@x.test")).await.unwrap() else {
        panic!("no account")
    };
    assert!(view.has_password && view.enabled);
    let id = view.id.clone();
    assert_eq!(
        world.ask(show(&view.id)).await.unwrap(),
        AdminResponse::Account(view)
    );

    world.append_to_inbox(&id).await;
    world.assert_sound().await;
    let remove = AdminRequest::AccountRemove {
        account: "ann@x.test".to_owned(),
    };
    assert_eq!(world.ask(remove.clone()).await, Ok(AdminResponse::Done));
    assert_eq!(world.ask(remove).await.unwrap_err().0, ErrorKind::Refused);
    world.assert_sound().await;
    world
        .ask(AdminRequest::DomainRemove {
            domain: "x.test".to_owned(),
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn rights_are_given_taken_and_forgotten_with_the_account() {
    let world = World::with_accounts(&["ann@x.test", "bob@x.test"]).await;
    let acl = |identifier: Option<&str>, rights: Option<&str>| AdminRequest::MailboxAcl {
        account: "ann@x.test".to_owned(),
        name: "INBOX".to_owned(),
        identifier: identifier.map(str::to_owned),
        rights: rights.map(str::to_owned),
    };
    let told = async |request| match world.ask(request).await.unwrap() {
        AdminResponse::MailboxAcl { items } => {
            let items = items.iter();
            let items = items.map(|entry| format!("{} {}", entry.identifier, entry.rights));
            items.collect::<Vec<_>>().join(", ")
        }
        other => panic!("{other:?}"),
    };
    let owner = "ann@x.test lrswipkxtea";
    assert_eq!(told(acl(None, None)).await, owner);
    told(acl(Some("bob@x.test"), Some("lrs"))).await;
    told(acl(Some("anyone"), Some("l"))).await;
    told(acl(Some("-bob@x.test"), Some("s"))).await;
    assert_eq!(
        told(acl(Some("bob@x.test"), Some("+w"))).await,
        format!("{owner}, anyone l, bob@x.test lrsw, -bob@x.test s")
    );
    for (identifier, rights, kind) in [
        ("ann@x.test", "l", ErrorKind::Refused),
        ("zoe@x.test", "l", ErrorKind::Refused),
        ("bob@x.test", "lz", ErrorKind::Usage),
    ] {
        let refused = world.ask(acl(Some(identifier), Some(rights))).await;
        assert_eq!(refused.unwrap_err().0, kind, "{identifier} {rights}");
    }
    let remove = AdminRequest::AccountRemove {
        account: "bob@x.test".to_owned(),
    };
    world.ask(remove).await.unwrap();
    assert_eq!(told(acl(None, None)).await, format!("{owner}, anyone l"));
    assert_eq!(told(acl(Some("anyone"), Some(""))).await, owner);
    world.assert_sound().await;
}

#[tokio::test]
async fn a_taken_address_is_refused_and_leaves_no_mailboxes() {
    let world = World::with_accounts(&["ann@x.test"]).await;
    let (kind, message) = world.ask(account_add("Ann@x.test")).await.unwrap_err();
    assert_eq!(kind, ErrorKind::Refused);
    assert!(message.contains("taken by an account"), "{message}");
    world.assert_sound().await;
}

#[tokio::test]
async fn what_cannot_be_meant_is_a_usage_error_that_says_how_to_mend_it() {
    let world = World::with_accounts(&[]).await;
    let set = |subaddress: &str| AdminRequest::DomainSet {
        domain: "x.test".to_owned(),
        settings: DomainSettings {
            subaddress: Some(subaddress.to_owned()),
            ..Default::default()
        },
    };
    for (request, says) in [
        (account_add("ann@y.test"), "add it first"),
        (account_add("ann"), "user@domain"),
        (show("ann@y.test"), "see `domain list`"),
        (set("++"), "one punctuation character"),
        (
            AdminRequest::QueueShow { id: "x".to_owned() },
            "see `queue list`",
        ),
        (domain_add("a b"), "example.org"),
    ] {
        let (kind, message) = world.ask(request).await.unwrap_err();
        assert_eq!(kind, ErrorKind::Usage, "{message}");
        assert!(message.contains(says), "{message}");
    }
}

#[tokio::test]
async fn an_alias_is_extended_cut_and_resolved() {
    let world = World::with_accounts(&["ann@x.test"]).await;
    let address = "team@x.test".to_owned();
    let add = |target: &str| AdminRequest::AliasAdd {
        address: address.clone(),
        targets: vec![target.to_owned()],
    };
    world.ask(add("ann@x.test")).await.unwrap();
    world.ask(add("far@z.test")).await.unwrap();
    let resolve = AdminRequest::Resolve {
        address: address.clone(),
    };
    let AdminResponse::Resolved(view) = world.ask(resolve).await.unwrap() else {
        panic!("not resolved")
    };
    assert_eq!(view.result, "recipients");
    assert_eq!(
        (view.accounts, view.remote),
        (vec!["ann@x.test".into()], vec!["far@z.test".into()])
    );
    let remove = |targets| AdminRequest::AliasRemove {
        address: address.clone(),
        targets,
    };
    let cut = world
        .ask(remove(vec!["far@z.test".to_owned()]))
        .await
        .unwrap();
    let AdminResponse::Alias(view) = cut else {
        panic!("{cut:?}")
    };
    assert_eq!(view.targets, ["ann@x.test"]);
    assert_eq!(world.ask(remove(Vec::new())).await, Ok(AdminResponse::Done));
    let gone = AdminRequest::AliasShow {
        address: address.clone(),
    };
    assert_eq!(world.ask(gone).await.unwrap_err().0, ErrorKind::Refused);
}

#[tokio::test]
async fn mailboxes_and_quota_are_changed_and_shown() {
    let world = World::with_accounts(&["ann@x.test"]).await;
    let account = "ann@x.test".to_owned();
    let (name, to) = ("Work/Old".to_owned(), "Work/New".to_owned());
    let create = AdminRequest::MailboxCreate {
        account: account.clone(),
        name: name.clone(),
    };
    world.ask(create.clone()).await.unwrap();
    assert_eq!(world.ask(create).await.unwrap_err().0, ErrorKind::Refused);
    let rename = AdminRequest::MailboxRename {
        account: account.clone(),
        name,
        to: to.clone(),
    };
    world.ask(rename).await.unwrap();
    let delete = AdminRequest::MailboxDelete {
        account: account.clone(),
        name: to,
    };
    world.ask(delete).await.unwrap();
    let quota = QuotaView {
        bytes: Some(1 << 30),
        ..QuotaView::default()
    };
    let set = AdminRequest::QuotaSet {
        account: account.clone(),
        quota,
    };
    let AdminResponse::Quota(view) = world.ask(set).await.unwrap() else {
        panic!("no quota")
    };
    assert_eq!((view.quota, view.messages), (quota, 0));
    world.assert_sound().await;
}

#[tokio::test]
async fn the_queue_is_listed_retried_and_emptied() {
    let world = World::with_accounts(&[]).await;
    let id = world.enqueue().await.to_string();
    let list = AdminRequest::QueueList {
        matching: None,
        after: None,
        limit: None,
    };
    let AdminResponse::Queue { items, next } = world.ask(list.clone()).await.unwrap() else {
        panic!("no queue")
    };
    assert_eq!((items.len(), next), (1, None));
    assert_eq!(
        (items[0].id.as_str(), items[0].from.as_str()),
        (id.as_str(), "")
    );
    assert_eq!(items[0].recipients[0].state, "pending");
    let retry = AdminRequest::QueueRetry {
        id: Some(id.clone()),
    };
    assert_eq!(
        world.ask(retry).await,
        Ok(AdminResponse::Retried { count: 1 })
    );
    world
        .ask(AdminRequest::QueueRemove { id: id.clone() })
        .await
        .unwrap();
    assert_eq!(
        world
            .ask(AdminRequest::QueueShow { id })
            .await
            .unwrap_err()
            .0,
        ErrorKind::Refused
    );
    world.assert_sound().await;
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let reclaimed = world.ask(AdminRequest::Reclaim).await.unwrap();
    let AdminResponse::Reclaimed(view) = reclaimed else {
        panic!("{reclaimed:?}")
    };
    assert!(view.condemned + view.reclaimed > 0, "{view:?}");
}

#[tokio::test]
async fn status_counts_and_quotes_metrics() {
    let world = World::with_accounts(&["ann@x.test", "bob@x.test"]).await;
    let AdminResponse::Status(view) = world.ask(AdminRequest::Status).await.unwrap() else {
        panic!("no status")
    };
    assert_eq!((view.domains, view.accounts, view.aliases), (1, 2, 0));
    assert_eq!(view.metrics["nightmail_logins_total"], "3");
}

#[tokio::test]
async fn only_the_owner_can_open_the_socket_and_a_stale_one_is_replaced() {
    let world = World::new().await;
    let mode = std::fs::metadata(&world.socket)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = bind_socket(&world.socket).unwrap();
    drop(again);
    let error = world
        .client
        .execute(&AdminRequest::Status)
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error}");
    let left: Vec<_> = std::fs::read_dir(world.socket.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().starts_with(".admin"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn passwords_are_sent_but_never_printed() {
    let request = account_add("ann@x.test");
    assert!(!format!("{request:?}").contains("secret"));
    let json = serde_json::to_string(&request).unwrap();
    assert!(json.contains(r#""command":"account-add""#) && json.contains(r#""password":"secret""#));
    assert_eq!(
        serde_json::from_str::<AdminRequest>(&json).unwrap(),
        request
    );
}

#[test]
fn answers_read_back_as_written() {
    for response in [
        AdminResponse::Done,
        AdminResponse::Retried { count: 3 },
        AdminResponse::Domains {
            items: Vec::new(),
            next: Some("x".to_owned()),
        },
    ] {
        let json = serde_json::to_string(&response).unwrap();
        assert_eq!(
            serde_json::from_str::<AdminResponse>(&json).unwrap(),
            response
        );
    }
}
