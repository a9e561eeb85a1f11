//! What an operator does with queued mail, over a queue in memory and a channel that only takes notes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use nightmail_admin::{
    AdminContext, AdminError, AdminRequest, AdminResponse, ErrorKind, MaintenanceOptions,
    QueueAlteredView, QueueChange, QueueView, RecipientWhyView, Sending, Whom, execute,
};
use nightmail_commit::{CommitLimits, Committer, Intent, NewBlob};
use nightmail_core::{QueueId, ReversePath};
use nightmail_directory::{Directory, DirectoryOptions, PasswordHash};
use nightmail_engine::MemoryEngine;
use nightmail_heap::{BlobBuilder, Heap, HeapOptions};
use nightmail_queue::{
    Alteration, BodyType, Content, Destination, Enqueued, NewQueueMessage, NewRecipient, Queue,
    QueueError, Rank, Source,
};
use nightmail_store::{Store, StoreOptions};

struct World {
    context: AdminContext,
    heap: Heap,
    _dir: tempfile::TempDir,
}

/// Gives mail up as a channel does, but for the report.
struct Channel(Arc<Queue>);

impl Sending for Channel {
    fn is_running(&self) -> bool {
        true
    }

    fn explain(&self, _: QueueId) -> BoxFuture<'_, Result<Vec<(usize, String)>, AdminError>> {
        async { Ok(vec![(0, "its site is slow".to_owned())]) }.boxed()
    }

    fn destinations(&self) -> Vec<(Destination, String)> {
        let destination = Destination::Domain("far.test".parse().unwrap());
        vec![(destination, "dead".to_owned())]
    }

    fn run_now(&self, _: &Destination) {}

    fn bounce(&self, id: QueueId, _: String, whom: Whom) -> BoxFuture<'_, Result<u64, AdminError>> {
        async move {
            let message = self.0.show(id).await?.unwrap();
            let meant = message.pending().filter(|(_, one)| whom(&message, one));
            let addresses: Vec<_> = meant.map(|(_, one)| one.address.clone()).collect();
            let whom =
                move |_: &_, one: &nightmail_queue::Recipient| addresses.contains(&one.address);
            Ok(self.0.alter(id, Alteration::Drop, whom).await?)
        }
        .boxed()
    }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let heap = Heap::open(dir.path(), HeapOptions::default()).unwrap();
        let engine = Arc::new(MemoryEngine::new());
        let committer = Committer::start(engine, heap.clone(), CommitLimits::default());
        let queue = Arc::new(Queue::new(committer.clone()));
        let context = AdminContext::new(
            Store::new(committer.clone(), &StoreOptions::default()),
            Directory::new(committer, DirectoryOptions::default()),
            Arc::clone(&queue),
            MaintenanceOptions::default(),
            Arc::new(|_| Ok(PasswordHash::new("$test$"))),
        )
        .with_relays(vec!["hub".to_owned()])
        .with_sending(Arc::new(Channel(queue)));
        Self {
            context,
            heap,
            _dir: dir,
        }
    }

    async fn enqueue(&self, from: &str, to: &[&str]) -> String {
        let id = self.context.queue.next_id().await.unwrap();
        let recipients = to.iter().map(|to| NewRecipient::plain(to.parse().unwrap()));
        let new = NewQueueMessage {
            reverse_path: ReversePath::Address(from.parse().unwrap()),
            prefix: Bytes::new(),
            blob_size: 4,
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            source: Source::Relay,
            recipients: recipients.collect(),
            demands: Default::default(),
            unrouted: None,
            band: Rank::NORMAL,
            handicap_millis: 0,
        };
        let mut blob = BlobBuilder::new(&self.heap);
        blob.push(b"text").unwrap();
        let intent = Intent::synced(move |tx| {
            nightmail_queue::tx::enqueue::<QueueError>(tx, id, Content::New(0), &new)
        });
        let intent = intent.with_blob(NewBlob {
            blob: blob.finish().unwrap(),
            envelope: Bytes::new(),
            meta: Bytes::new(),
        });
        let committer = self.context.queue.committer();
        let _: Enqueued = committer.submit(intent).await.unwrap();
        id.to_string()
    }

    async fn ask(&self, request: AdminRequest) -> Result<AdminResponse, AdminError> {
        Box::pin(execute(&self.context, request)).await
    }

    async fn alter_with(
        &self,
        matching: &str,
        change: QueueChange,
        dry_run: bool,
    ) -> Result<(u64, u64), AdminError> {
        let matching = matching.to_owned();
        let request = AdminRequest::QueueAlter {
            matching,
            change,
            dry_run,
        };
        let AdminResponse::QueueAltered(QueueAlteredView {
            messages,
            recipients,
            ..
        }) = self.ask(request).await?
        else {
            panic!("not what was asked")
        };
        Ok((messages, recipients))
    }

    async fn alter(&self, matching: &str, change: QueueChange) -> (u64, u64) {
        self.alter_with(matching, change, false).await.unwrap()
    }

    async fn list(&self, matching: &str, limit: Option<usize>) -> (Vec<QueueView>, Option<String>) {
        let request = AdminRequest::QueueList {
            matching: Some(matching.to_owned()),
            after: None,
            limit,
        };
        let AdminResponse::Queue { items, next } = self.ask(request).await.unwrap() else {
            panic!("not what was asked")
        };
        (items, next)
    }

    async fn why(&self, id: &str) -> Vec<RecipientWhyView> {
        let request = AdminRequest::QueueWhy { id: id.to_owned() };
        let AdminResponse::QueueWhy(view) = self.ask(request).await.unwrap() else {
            panic!("not what was asked")
        };
        view.recipients
    }
}

fn hold() -> QueueChange {
    QueueChange::Hold {
        reason: Some("by hand".to_owned()),
    }
}

fn reroute(to: Option<&str>) -> QueueChange {
    QueueChange::Reroute {
        to: to.map(str::to_owned),
    }
}

#[tokio::test]
async fn only_the_recipients_that_fit_are_held_and_released() {
    let world = World::new();
    let id = world
        .enqueue("s@x.test", &["a@far.test", "b@near.test"])
        .await;
    world.enqueue("s@x.test", &["c@near.test"]).await;
    assert_eq!(
        world.alter_with("domain = far.test", hold(), true).await,
        Ok((1, 1))
    );
    assert!(world.list("held", None).await.0.is_empty());
    assert_eq!(world.alter("domain = far.test", hold()).await, (1, 1));
    assert_eq!(world.alter("domain = far.test", hold()).await, (0, 0));
    let held = world.list("held", None).await.0.remove(0);
    assert_eq!(held.id, id);
    assert_eq!(held.recipients[0].state, "held");
    assert_eq!(held.recipients[0].hold.as_deref(), Some("by hand"));
    assert_eq!(held.recipients[0].next_attempt, None);
    assert_eq!(held.recipients[1].state, "pending");
    let because = &world.why(&id).await[0].because;
    assert!(
        because.iter().any(|text| text.contains("by hand")),
        "{because:?}"
    );
    assert_eq!(world.alter("held", QueueChange::Retry).await, (0, 0));
    assert_eq!(
        world.alter("domain = far.test", QueueChange::Release).await,
        (1, 1)
    );
    assert!(world.list("held", None).await.0.is_empty());
}

#[tokio::test]
async fn a_domains_mail_is_found_wherever_it_was_rerouted_and_counted_once() {
    let world = World::new();
    let both = world
        .enqueue("s@x.test", &["a@far.test", "b@far.test"])
        .await;
    world
        .enqueue("s@x.test", &["c@far.test", "d@near.test"])
        .await;
    assert_eq!(
        world
            .alter("recipient = a@far.test", reroute(Some("hub")))
            .await,
        (1, 1)
    );
    assert_eq!(
        world
            .alter("recipient = c@far.test", reroute(Some("hub")))
            .await,
        (1, 1)
    );
    for dry_run in [true, false] {
        let retried = world
            .alter_with("domain = far.test", QueueChange::Retry, dry_run)
            .await;
        assert_eq!(retried, Ok((2, 3)), "{dry_run}");
    }
    // What is hurried is due already.
    assert_eq!(
        world.alter("domain = far.test", QueueChange::Retry).await,
        (0, 0)
    );
    assert_eq!(world.list("relay = hub", None).await.0.len(), 2);
    assert_eq!(world.why(&both).await[0].destination, "relay hub");
    assert_eq!(
        world.alter("domain = far.test", reroute(Some("hub"))).await,
        (1, 1)
    );
    assert_eq!(
        world.alter("domain = far.test", reroute(None)).await,
        (2, 3)
    );
    assert_eq!(world.alter("relay = hub", hold()).await, (0, 0));
}

#[tokio::test]
async fn mail_is_dropped_and_given_up_by_recipient() {
    let world = World::new();
    let id = world
        .enqueue("s@x.test", &["a@far.test", "b@near.test"])
        .await;
    world.enqueue("t@x.test", &["a@far.test"]).await;
    world.alter("sender = t@x.test", hold()).await;
    let bounce = QueueChange::Bounce { reason: None };
    assert_eq!(
        world.alter("domain = far.test", bounce.clone()).await,
        (2, 2)
    );
    let left = world.list("all", None).await.0;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].recipients[0].state, "failed");
    assert_eq!(world.alter("domain = far.test", bounce).await, (0, 0));
    assert_eq!(world.alter(&id, QueueChange::Drop).await, (1, 1));
    assert!(world.list("all", None).await.0.is_empty());
    let gone = world
        .alter_with(&id, QueueChange::Drop, false)
        .await
        .unwrap_err();
    assert_eq!(gone.kind, ErrorKind::Refused, "{gone}");
}

#[tokio::test]
async fn a_long_queue_is_changed_whole_and_listed_in_pages() {
    let world = World::new();
    for number in 0..1200 {
        let to = ["a@far.test", "b@near.test"][number % 2];
        world.enqueue("s@x.test", &[to]).await;
    }
    let (page, next) = world.list("domain = far.test", Some(100)).await;
    assert_eq!(page.len(), 100);
    assert_eq!(next.as_ref(), Some(&page[99].id));
    assert_eq!(
        world.alter("domain = far.test", QueueChange::Retry).await,
        (600, 600)
    );
    assert_eq!(
        world.alter("domain = far.test and age < 1d", hold()).await,
        (600, 600)
    );
    assert_eq!(world.alter("all", QueueChange::Release).await, (600, 600));
    assert_eq!(
        world.alter("domain = far.test", QueueChange::Drop).await,
        (600, 600)
    );
    assert_eq!(world.list("all", None).await.0.len(), 600);
}

#[tokio::test]
async fn what_cannot_be_understood_is_refused_with_the_remedy() {
    let world = World::new();
    for (matching, change, says) in [
        ("domian = x", hold(), "at character 1"),
        ("all", reroute(Some("nowhere")), "it has hub"),
    ] {
        let error = world.alter_with(matching, change, false).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(error.message.contains(says), "{error}");
    }
}

#[tokio::test]
async fn destinations_are_counted_with_what_the_channel_knows() {
    let world = World::new();
    world
        .enqueue("s@x.test", &["a@far.test", "b@near.test"])
        .await;
    world.enqueue("s@x.test", &["a@far.test"]).await;
    let mut after = None;
    let mut found = Vec::new();
    loop {
        let request = AdminRequest::QueueDestinations {
            after: after.clone(),
            limit: Some(1),
        };
        let AdminResponse::QueueDestinations { items, next } = world.ask(request).await.unwrap()
        else {
            panic!("not what was asked")
        };
        found.extend(items);
        after = next;
        if after.is_none() {
            break;
        }
    }
    let counts: Vec<_> = found
        .iter()
        .map(|one| (one.destination.as_str(), one.pending, one.state.as_str()))
        .collect();
    assert_eq!(counts, [("far.test", 2, "dead"), ("near.test", 1, "")]);
    let run = AdminRequest::QueueRun {
        domain: "far.test".to_owned(),
    };
    assert!(matches!(
        world.ask(run).await,
        Ok(AdminResponse::Retried { .. })
    ));
}

#[tokio::test]
async fn the_channel_is_heard_after_the_row() {
    let world = World::new();
    let id = world.enqueue("s@x.test", &["a@far.test"]).await;
    let because = &world.why(&id).await[0].because;
    assert!(because[0].starts_with("due since "), "{because:?}");
    assert_eq!(because[1], "here: its site is slow");
}

#[tokio::test]
async fn rules_stand_until_they_are_removed() {
    let world = World::new();
    let add = |name: &str, matching: &str, change| AdminRequest::QueueRuleAdd {
        name: name.to_owned(),
        matching: matching.to_owned(),
        change,
    };
    world
        .ask(add("no-far", "domain = far.test", hold()))
        .await
        .unwrap();
    world
        .ask(add("via-hub", "domain ~ *.test", reroute(Some("hub"))))
        .await
        .unwrap();
    for (request, kind) in [
        (add("no-far", "all", hold()), ErrorKind::Refused),
        (add("a b", "all", hold()), ErrorKind::Usage),
        (
            add("loop", "relay = hub", reroute(None)),
            ErrorKind::Refused,
        ),
        (add("again", "all", QueueChange::Retry), ErrorKind::Usage),
        (add("else", "all", reroute(Some("x"))), ErrorKind::Usage),
    ] {
        assert_eq!(
            world.ask(request.clone()).await.unwrap_err().kind,
            kind,
            "{request:?}"
        );
    }
    let id = world
        .enqueue("s@x.test", &["a@far.test", "b@near.test"])
        .await;
    let why = world.why(&id).await;
    let says = |place: usize, text: &str| why[place].because.iter().any(|one| one.contains(text));
    assert!(says(0, "rule no-far") && says(1, "rule via-hub"), "{why:?}");
    let AdminResponse::QueueRules { items } = world.ask(AdminRequest::QueueRuleList).await.unwrap()
    else {
        panic!("not what was asked")
    };
    let names: Vec<_> = items
        .iter()
        .map(|rule| (rule.name.as_str(), rule.action.as_str()))
        .collect();
    assert_eq!(
        names,
        [("no-far", "hold: by hand"), ("via-hub", "reroute to hub")]
    );
    let remove = AdminRequest::QueueRuleRemove {
        name: "no-far".to_owned(),
    };
    world.ask(remove.clone()).await.unwrap();
    assert_eq!(
        world.ask(remove).await.unwrap_err().kind,
        ErrorKind::Refused
    );
    let why = world.why(&id).await;
    assert!(
        why[0]
            .because
            .iter()
            .any(|one| one.contains("rule via-hub"))
    );
}
