//! A site with a queue and a channel, and the world around it.

#![allow(dead_code, reason = "each test binary uses a part")]

pub mod dns;
pub mod sink;
pub mod tls;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nightmail_commit::{BlobRow, CommitLimits, Committer, Intent, NewBlob, Owner};
use nightmail_core::{Address, MailboxId, QueueId, ReversePath, Uid};
use nightmail_delivery::{
    Delivery, DeliveryError, DeliveryOptions, Relay, Release, ReportChange, Reports, Unroutable,
};
use nightmail_dns::{Dns, DnsOptions};
use nightmail_engine::{BoxFuture, Engine, KeyRange, MemoryEngine, Order, RowKey, Space};
use nightmail_heap::{BlobBuilder, Heap, HeapOptions};
use nightmail_pace::{DestinationRule, PartialSettings, Policies, Retry, Settings, Via};
use nightmail_queue::{
    BodyType, Content, NewQueueMessage, NewRecipient, Notify, Queue, QueueError, QueueMessage,
    Source, tx,
};
use parking_lot::Mutex;

use dns::NameServer;
use sink::{Behaviour, Sink};

pub const MESSAGE: &[u8] =
    b"From: s@near.test\r\nTo: r@far.test\r\nSubject: hello\r\n\r\nfirst\r\n.dotted\r\n..twice\r\n";
pub const PREFIX: &[u8] = b"Received: by near.test; Sun, 22 Nov 2026 16:22:00 +0000\r\n";

/// Waits until `check` holds; fails after ten seconds.
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..1000 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// Reports end in a list of blobs, each linked in the commit that retires the recipients. The domain `gone.test` has
/// no addressee.
#[derive(Default)]
pub struct ReportList {
    next: AtomicU32,
    asked: Arc<Mutex<Vec<(String, Notify)>>>,
}

impl Reports for ReportList {
    fn plan<'a>(
        &'a self,
        to: &'a Address,
        _blob: &'a NewBlob,
        _require_tls: bool,
        notify: Notify,
    ) -> BoxFuture<'a, Result<ReportChange, DeliveryError>> {
        let number = self.next.fetch_add(1, Ordering::SeqCst) + 1;
        let to = to.clone();
        self.asked.lock().push((to.to_string(), notify));
        Box::pin(async move {
            if to.domain().as_str() == "gone.test" {
                return Err(DeliveryError::Unroutable("no such addressee".into()));
            }
            let change: ReportChange = Box::new(move |tx| {
                let owner = Owner::Message(MailboxId::new(1), Uid::new(number).unwrap());
                let blob = tx.link_new_blob::<DeliveryError>(0, owner)?;
                let key = RowKey::new(Space::Directory, number.to_be_bytes());
                tx.put(
                    key,
                    [to.to_string().as_bytes(), b"\n", blob.as_bytes()].concat(),
                );
                Ok(())
            });
            Ok(change)
        })
    }

    fn release<'a>(
        &'a self,
        _message: &'a QueueMessage,
        recipients: &'a [usize],
    ) -> BoxFuture<'a, Result<Release, DeliveryError>> {
        let refused = |index: &usize| {
            let why = Unroutable {
                permanent: true,
                status: "5.1.1".into(),
                text: "no such user".into(),
            };
            (*index, why)
        };
        let refused = recipients.iter().map(refused).collect();
        Box::pin(async move {
            Ok(Release {
                refused,
                ..Release::default()
            })
        })
    }
}

pub struct World {
    pub engine: Arc<MemoryEngine>,
    pub heap: Heap,
    pub queue: Arc<Queue>,
    pub dns: NameServer,
    pub options: DeliveryOptions,
    /// What holds for all destinations, but for `rules`.
    pub settings: Settings,
    pub rules: Vec<DestinationRule>,
    /// To whom reports were planned, and what was asked for them.
    pub asked: Arc<Mutex<Vec<(String, Notify)>>>,
    subnet: u8,
    port: u16,
    _dir: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        static SUBNET: AtomicU8 = AtomicU8::new(1);
        let subnet = SUBNET.fetch_add(1, Ordering::SeqCst);
        let dir = tempfile::tempdir().unwrap();
        let heap = Heap::open(dir.path(), HeapOptions::default()).unwrap();
        let engine = Arc::new(MemoryEngine::new());
        let queue = queue_over(&engine, &heap);
        let dns = NameServer::start();
        // One port for all hosts of this world: free at the first address, and its subnet is its own.
        let probe = std::net::TcpListener::bind((Ipv4Addr::new(127, 77, subnet, 1), 0)).unwrap();
        let port = probe.local_addr().unwrap().port();
        let options = options(&dns, port);
        Self {
            engine,
            heap,
            queue,
            dns,
            options,
            settings: settings(),
            rules: Vec::new(),
            asked: Arc::default(),
            subnet,
            port,
            _dir: dir,
        }
    }

    pub fn ip(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 77, self.subnet, host)
    }

    /// Starts a host and enters its address under `name`.
    pub async fn sink(&self, name: &str, host: u8, behaviour: Behaviour) -> Sink {
        self.dns.address_of(name, self.ip(host).into());
        Sink::start(self.ip(host), self.port, behaviour).await
    }

    pub fn start(&self) -> Delivery {
        self.start_with(Arc::new(ReportList {
            next: AtomicU32::new(0),
            asked: Arc::clone(&self.asked),
        }))
    }

    pub fn start_with(&self, reports: Arc<dyn Reports>) -> Delivery {
        Delivery::start(Arc::clone(&self.queue), reports, self.options()).unwrap()
    }

    /// What a channel is told.
    pub fn options(&self) -> DeliveryOptions {
        let mut options = self.options.clone();
        options.policies = Arc::new(Policies::new(self.rules.clone(), self.settings.clone()));
        options
    }

    /// All mail goes to that relay.
    pub fn relay_all(&mut self, relay: Relay) {
        self.settings.route = Via::Relay(relay.name.clone());
        self.options.relays.insert(relay.name.clone(), relay);
    }

    /// What holds for one domain.
    pub fn rule(&mut self, domain: &str, settings: PartialSettings) {
        self.rules.push(DestinationRule {
            patterns: vec![domain.parse().unwrap()],
            settings,
        });
    }

    /// The world after a power loss here.
    pub fn after_power_loss(self, seed: u64) -> Self {
        let engine = Arc::new(self.engine.after_power_loss(seed));
        let queue = queue_over(&engine, &self.heap);
        Self {
            engine,
            queue,
            ..self
        }
    }

    pub async fn enqueue(&self, recipients: &[&str]) -> QueueId {
        self.enqueue_message(message(recipients), MESSAGE).await
    }

    pub async fn enqueue_message(&self, mut message: NewQueueMessage, bytes: &[u8]) -> QueueId {
        let id = self.queue.next_id().await.unwrap();
        message.blob_size = bytes.len() as u64;
        let mut builder = BlobBuilder::new(&self.heap);
        builder.push(bytes).unwrap();
        let blob = NewBlob {
            blob: builder.finish().unwrap(),
            envelope: Bytes::new(),
            meta: Bytes::new(),
        };
        let intent =
            Intent::synced(move |tx| tx::enqueue::<QueueError>(tx, id, Content::New(0), &message));
        self.queue
            .committer()
            .submit(intent.with_blob(blob))
            .await
            .unwrap();
        id
    }

    pub async fn show(&self, id: QueueId) -> Option<QueueMessage> {
        self.queue.show(id).await.unwrap()
    }

    /// Whether the next read of the store fails.
    pub async fn show_fails(&self) -> bool {
        self.queue.show(QueueId::new(1)).await.is_err()
    }

    pub async fn gone(&self, id: QueueId) {
        eventually("the message leaves the queue", async || {
            self.show(id).await.is_none()
        })
        .await;
    }

    /// Waits until recipient 0 has been tried, and returns it.
    pub async fn tried(&self, id: QueueId) -> nightmail_queue::Recipient {
        eventually("an attempt is recorded", async || {
            self.show(id)
                .await
                .is_none_or(|message| message.recipients[0].attempts > 0)
        })
        .await;
        self.show(id)
            .await
            .expect("the message is still queued")
            .recipients[0]
            .clone()
    }

    /// The reports so far: to whom, and their text.
    pub async fn reports(&self) -> Vec<(String, String)> {
        let rows = self
            .engine
            .scan(Space::Directory, KeyRange::all(), Order::Ascending, 100)
            .await
            .unwrap();
        let mut reports = Vec::new();
        for (_, value) in rows {
            let split = value.iter().position(|byte| *byte == b'\n').unwrap();
            let blob = nightmail_core::BlobId::new(value[split + 1..].try_into().unwrap());
            let row = self
                .engine
                .get_many(&[BlobRow::key(blob)])
                .await
                .unwrap()
                .pop()
                .flatten()
                .unwrap();
            let location = BlobRow::decode(&row).unwrap().location;
            let bytes = self.heap.read(&location, 0..u64::MAX).await.unwrap();
            let to = String::from_utf8(value[..split].to_vec()).unwrap();
            reports.push((to, String::from_utf8(bytes.to_vec()).unwrap()));
        }
        reports
    }
}

pub fn queue_over(engine: &Arc<MemoryEngine>, heap: &Heap) -> Arc<Queue> {
    let engine = Arc::clone(engine) as Arc<dyn Engine>;
    Arc::new(Queue::new(Committer::start(
        engine,
        heap.clone(),
        CommitLimits::default(),
    )))
}

fn options(dns: &NameServer, port: u16) -> DeliveryOptions {
    let dns = Dns::new(&DnsOptions {
        name_servers: vec![dns.address],
        timeout: Duration::from_millis(300),
        attempts: 1,
        ..DnsOptions::default()
    });
    let mut options = DeliveryOptions::new("mx.near.test".parse().unwrap(), dns.unwrap());
    options.mx_port = port;
    options.seed = Some(7);
    options.limits.store_pause = Duration::from_millis(50);
    options.timeouts.greeting = Duration::from_millis(500);
    options
}

fn settings() -> Settings {
    Settings {
        retry: pauses(&[3_600_000]),
        idle: Duration::ZERO,
        ..Settings::default()
    }
}

/// Pauses in milliseconds, without jitter.
pub fn pauses(millis: &[u64]) -> Retry {
    Retry::Steps {
        pauses: millis.iter().copied().map(Duration::from_millis).collect(),
        jitter_percent: 0,
    }
}

pub fn message(recipients: &[&str]) -> NewQueueMessage {
    NewQueueMessage {
        reverse_path: ReversePath::Address("s@near.test".parse().unwrap()),
        prefix: Bytes::from_static(PREFIX),
        blob_size: 0,
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
        source: Source::Relay,
        recipients: recipients
            .iter()
            .map(|text| NewRecipient::plain(text.parse().unwrap()))
            .collect(),
        demands: Default::default(),
        unrouted: None,
        band: nightmail_queue::Rank::NORMAL,
        handicap_millis: 0,
    }
}

/// The value of a field of a report's status part, the first one if there are several.
pub fn field<'a>(report: &'a str, name: &str) -> Option<&'a str> {
    report
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}
