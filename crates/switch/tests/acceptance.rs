//! What accepting a message writes: copies here, an entry in the queue, and what the sender is told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use bytes::Bytes;
use nightmail_commit::{Intent, NewBlob};
use nightmail_core::{ForwardPath, ReversePath};
use nightmail_heap::BlobBuilder;
use nightmail_queue::{BodyType, Content, Notify, Source};
use nightmail_switch::{
    Body, Demands, Envelope, EnvelopeRecipient, Outcome, QuotaPolicy, Refusal, SwitchError,
};

use common::{Site, address};

const MESSAGE: &[u8] = b"From: a@x.test\r\nSubject: hello\r\n\r\nthe body\r\n";
const SUCCESS: Notify = Notify::On {
    success: true,
    failure: false,
    delay: false,
};

impl Site {
    /// x.test with alice, who sends, and bob.
    async fn with_accounts() -> Self {
        let site = Self::empty().await;
        site.account("alice@x.test", None).await;
        site.account("bob@x.test", None).await;
        site
    }

    async fn alias(&self, from: &str, to: &[&str]) {
        let to = to.iter().map(|to| address(to)).collect();
        self.directory.add_alias(address(from), to).await.unwrap();
    }

    async fn recipient(&self, to: &str, notify: Notify) -> EnvelopeRecipient {
        let path = ForwardPath::Address(address(to));
        let routed = self.switch.route(&path, true, None).await.unwrap().unwrap();
        EnvelopeRecipient {
            routed,
            notify,
            orcpt: None,
        }
    }

    async fn envelope(&self, to: &[(&str, Notify)]) -> Envelope {
        let mut recipients = Vec::new();
        for (to, notify) in to {
            recipients.push(self.recipient(to, *notify).await);
        }
        Envelope {
            reverse_path: ReversePath::Address(address("alice@x.test")),
            recipients,
            source: Source::Relay,
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: Some("E+2B1".into()),
            trace: Bytes::from_static(b"Received: by x.test\r\n"),
            sealed: Bytes::from_static(b"DKIM-Signature: v=1\r\n"),
            missing_line_ends: 0,
            policy: QuotaPolicy::Together,
            demands: Demands::default(),
            precedence: 0,
            band: nightmail_queue::Rank::NORMAL,
        }
    }

    fn blob(&self) -> NewBlob {
        let mut builder = BlobBuilder::new(self.store.heap());
        builder.push(MESSAGE).unwrap();
        NewBlob {
            blob: builder.finish().unwrap(),
            envelope: Bytes::new(),
            meta: Bytes::from(nightmail_mime::scan(MESSAGE).encode()),
        }
    }

    /// The messages of an account.
    async fn inbox(&self, of: &str) -> Vec<String> {
        let account = self.directory.account_at(&address(of)).await.unwrap();
        let mailbox = self.store.inbox(account.unwrap().id).await.unwrap();
        let mut found = Vec::new();
        for (_, row) in self.store.rows(mailbox, &[1, 2, 3]).await.unwrap() {
            let body = self.store.read_blob(row.blob).await.unwrap();
            found.push(String::from_utf8([row.prefix, body].concat()).unwrap());
        }
        found
    }
}

#[tokio::test]
async fn a_delivery_that_is_to_be_reported_is_reported_in_the_same_commit() {
    let site = Site::with_accounts().await;
    let mut envelope = site
        .envelope(&[("bob@x.test", SUCCESS), ("r@far.test", SUCCESS)])
        .await;
    envelope.recipients[0].orcpt = Some("rfc822;b+2Bb@x.test".into());
    site.switch.accept(envelope, site.blob()).await.unwrap();
    let report = site.inbox("alice@x.test").await.remove(0);
    for part in [
        "Return-Path: <>\r\n",
        "Original-Envelope-Id: E+1\r\n",
        "Original-Recipient: rfc822;b+b@x.test\r\n",
        "Final-Recipient: rfc822; bob@x.test\r\n",
        "Action: delivered\r\n",
        "Status: 2.0.0\r\n",
        "Subject: hello\r\n",
    ] {
        assert!(report.contains(part), "{part:?} is not in\n{report}");
    }
    assert!(!report.contains("the body") && !report.contains("r@far.test"));
    let bob = site.inbox("bob@x.test").await;
    assert_eq!(bob.len(), 1);
    assert!(!bob[0].contains("DKIM-Signature"));
    // What goes elsewhere is the other host's to report, and sealed.
    let queued = site.queue.list(None, 10).await.unwrap().remove(0).1;
    assert_eq!(queued.recipients[0].notify, SUCCESS);
    assert_eq!(
        queued.prefix,
        "DKIM-Signature: v=1\r\nReceived: by x.test\r\n"
    );
}

#[tokio::test]
async fn an_alias_for_several_is_reported_as_expanded_and_its_copies_are_silent() {
    let site = Site::with_accounts().await;
    site.alias("team@x.test", &["bob@x.test", "r@far.test"])
        .await;
    let envelope = site.envelope(&[("team@x.test", SUCCESS)]).await;
    site.switch.accept(envelope, site.blob()).await.unwrap();
    let report = site.inbox("alice@x.test").await.remove(0);
    assert!(report.contains("Final-Recipient: rfc822; team@x.test\r\n"));
    assert!(report.contains("Action: expanded\r\n"), "{report}");
    assert!(!report.contains("r@far.test") && !report.contains("bob@x.test"));
    let queued = site.queue.list(None, 10).await.unwrap().remove(0).1;
    assert_eq!(queued.recipients[0].notify, Notify::Never);
    assert_eq!(
        queued.recipients[0].orcpt.as_deref(),
        Some("rfc822;team@x.test")
    );
}

#[tokio::test]
async fn a_report_on_a_message_that_needs_tls_needs_it_too() {
    let site = Site::with_accounts().await;
    let mut envelope = site.envelope(&[("bob@x.test", SUCCESS)]).await;
    envelope.reverse_path = ReversePath::Address("s@far.test".parse().unwrap());
    envelope.demands.require_tls = true;
    site.switch.accept(envelope, site.blob()).await.unwrap();
    let report = site.queue.list(None, 10).await.unwrap().remove(0).1;
    assert_eq!(report.reverse_path, ReversePath::Null);
    assert!(report.demands.require_tls);
}

#[tokio::test]
async fn nobody_is_told_who_did_not_ask_or_has_no_address() {
    let site = Site::with_accounts().await;
    for notify in [Notify::Unspecified, Notify::Never] {
        let envelope = site.envelope(&[("bob@x.test", notify)]).await;
        site.switch.accept(envelope, site.blob()).await.unwrap();
    }
    let null = Envelope {
        reverse_path: ReversePath::Null,
        ..site.envelope(&[("bob@x.test", SUCCESS)]).await
    };
    site.switch.accept(null, site.blob()).await.unwrap();
    assert_eq!(site.inbox("bob@x.test").await.len(), 3);
    assert!(site.inbox("alice@x.test").await.is_empty());
}

#[tokio::test]
async fn of_recipients_with_answers_of_their_own_only_those_who_took_it_are_reported() {
    let site = Site::with_accounts().await;
    site.account("full@x.test", Some(10)).await;
    let to = [("full@x.test", SUCCESS), ("bob@x.test", SUCCESS)];
    let envelope = Envelope {
        policy: QuotaPolicy::PerRecipient,
        ..site.envelope(&to).await
    };
    let receipt = site.switch.accept(envelope, site.blob()).await.unwrap();
    assert_eq!(
        receipt.outcomes,
        [
            Outcome::Refused(Refusal::OverQuota { temporary: true }),
            Outcome::Accepted
        ]
    );
    let reports = site.inbox("alice@x.test").await;
    assert_eq!(reports.len(), 1);
    assert!(reports[0].contains("bob@x.test") && !reports[0].contains("full@x.test"));
}

#[tokio::test]
async fn a_message_that_is_held_back_is_queued_whole_and_routed_when_it_is_let_go() {
    let site = Site::with_accounts().await;
    let until = nightmail_commit::now().plus_millis(3_600_000);
    let mut envelope = site
        .envelope(&[("bob@x.test", SUCCESS), ("r@far.test", SUCCESS)])
        .await;
    envelope.demands.hold_until = Some(until);
    let receipt = site.switch.accept(envelope, site.blob()).await.unwrap();
    assert_eq!(receipt.outcomes, [Outcome::Accepted, Outcome::Accepted]);
    assert!(receipt.appended.is_empty());
    assert!(site.inbox("bob@x.test").await.is_empty());
    assert!(site.inbox("alice@x.test").await.is_empty());
    let held = site.queue.show(receipt.queue_id.unwrap()).await.unwrap();
    let held = held.unwrap();
    assert_eq!(held.due(), Some(until));
    assert_eq!(held.recipients.len(), 2);
    assert_eq!(held.local_prefix(), "Received: by x.test\r\n");

    let again = Envelope {
        trace: held.local_prefix(),
        sealed: Bytes::new(),
        ..site.envelope(&[("bob@x.test", SUCCESS)]).await
    };
    let body = Body::Stored {
        blob: held.blob,
        size: held.blob_size,
    };
    let plan = site.switch.plan(again, body).await.unwrap();
    let (reports, content) = (plan.further_blobs(), Content::Stored(held.blob));
    let intent = Intent::synced(move |tx| plan.apply(tx, content, 0));
    let intent = reports.into_iter().fold(intent, Intent::with_blob);
    let committer = site.store.committer();
    committer
        .submit(intent)
        .await
        .map_err(SwitchError::from)
        .unwrap();
    let bob = site.inbox("bob@x.test").await.remove(0);
    assert!(bob.contains("Delivered-To: bob@x.test\r\nReceived: by x.test\r\n"));
    assert!(bob.ends_with("the body\r\n"));
    let report = site.inbox("alice@x.test").await.remove(0);
    assert!(report.contains("Action: delivered\r\n") && report.contains("Subject: hello\r\n"));
}
