//! What accounts want done with a message beyond keeping it: sending it on, answering it, breaking it apart, keeping what
//! was sent; each in the intent that accepts the message, and never going round in a circle.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use bytes::Bytes;
use nightmail_commit::NewBlob;
use nightmail_core::{AccountId, Flags, ForwardPath, ReversePath};
use nightmail_directory::{AccountChange, AttachmentMode, OverQuota, Quota, Vacation};
use nightmail_heap::BlobBuilder;
use nightmail_queue::{BodyType, Notify, QueueMessage, Source};
use nightmail_store::MailboxName;
use nightmail_switch::{
    Demands, Envelope, EnvelopeRecipient, Outcome, QuotaPolicy, Receipt, Refusal,
};

use common::{Site, address};

const SENDER: &str = "s@far.test";
const MESSAGE: &str = "From: s@far.test\r\nTo: ann@x.test, bob@x.test, cat@x.test\r\nSubject: hello\r\n\
    Message-ID: <1@far.test>\r\n\r\nthe body\r\n";

impl Site {
    /// x.test with ann, bob and cat.
    async fn with_accounts() -> Self {
        let site = Self::empty().await;
        for user in ["ann", "bob", "cat"] {
            site.account(&format!("{user}@x.test"), None).await;
        }
        site
    }

    async fn id(&self, user: &str) -> AccountId {
        let at = address(&format!("{user}@x.test"));
        self.directory.account_at(&at).await.unwrap().unwrap().id
    }

    async fn change(&self, user: &str, change: AccountChange) {
        let id = self.id(user).await;
        self.directory.update_account(id, change).await.unwrap();
    }

    async fn forward(&self, user: &str, to: &[&str], keeps_copy: bool) {
        let to = to.iter().map(|to| address(to)).collect();
        let change = AccountChange {
            forward: Some((to, keeps_copy)),
            ..AccountChange::default()
        };
        self.change(user, change).await;
    }

    async fn away(&self, user: &str) {
        let vacation = Vacation {
            subject: String::new(),
            text: format!("{user} is away"),
            from: None,
            until: None,
            interval_days: 7,
        };
        let change = AccountChange {
            vacation: Some(Some(vacation)),
            ..AccountChange::default()
        };
        self.change(user, change).await;
    }

    async fn envelope(&self, from: &str, to: &[&str]) -> Envelope {
        let mut recipients = Vec::new();
        for to in to {
            let path = ForwardPath::Address(address(to));
            let routed = self.switch.route(&path, true, None).await.unwrap();
            recipients.push(EnvelopeRecipient {
                routed: routed.unwrap(),
                notify: Notify::Unspecified,
                orcpt: None,
            });
        }
        Envelope {
            reverse_path: match from {
                "" => ReversePath::Null,
                from => ReversePath::Address(address(from)),
            },
            recipients,
            source: Source::Relay,
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: Some("E1".into()),
            trace: Bytes::from_static(b"Received: by x.test\r\n"),
            sealed: Bytes::new(),
            missing_line_ends: 0,
            policy: QuotaPolicy::Together,
            demands: Demands::default(),
            precedence: 0,
            band: nightmail_queue::Rank::NORMAL,
        }
    }

    fn blob(&self, message: &str) -> NewBlob {
        let mut builder = BlobBuilder::new(self.store.heap());
        builder.push(message.as_bytes()).unwrap();
        NewBlob {
            blob: builder.finish().unwrap(),
            envelope: Bytes::new(),
            meta: Bytes::from(nightmail_mime::scan(message.as_bytes()).encode()),
        }
    }

    async fn accept(&self, envelope: Envelope, message: &str) -> Receipt {
        self.switch
            .accept(envelope, self.blob(message))
            .await
            .unwrap()
    }

    async fn send(&self, from: &str, to: &[&str], message: &str) -> Receipt {
        let envelope = self.envelope(from, to).await;
        self.accept(envelope, message).await
    }

    async fn folder(&self, user: &str, name: &str) -> Vec<String> {
        let account = self.id(user).await;
        let name = MailboxName::parse(name).unwrap();
        let mailbox = self.store.lookup(account, &name).await.unwrap().mailbox;
        let uids: Vec<u32> = (1..=20).collect();
        let mut found = Vec::new();
        for (_, row) in self.store.rows(mailbox, &uids).await.unwrap() {
            let body = self.store.read_blob(row.blob).await.unwrap();
            found.push(String::from_utf8([row.prefix, body].concat()).unwrap());
        }
        found
    }

    async fn inbox(&self, user: &str) -> Vec<String> {
        self.folder(user, "INBOX").await
    }

    async fn queued(&self) -> Vec<QueueMessage> {
        let listed = self.queue.list(None, 100).await.unwrap();
        listed.into_iter().map(|(_, message)| message).collect()
    }
}

fn recipients(message: &QueueMessage) -> Vec<String> {
    let recipients = message.recipients.iter();
    recipients
        .map(|recipient| recipient.address.to_string())
        .collect()
}

#[tokio::test]
async fn mail_is_sent_on_in_the_name_of_the_account_that_wants_it() {
    let site = Site::with_accounts().await;
    site.forward("ann", &["a@out.test", "b@out.test"], false)
        .await;
    site.forward("bob", &["a@out.test"], true).await;
    let to = ["ann@x.test", "bob@x.test", "r@else.test"];
    let receipt = site.send(SENDER, &to, MESSAGE).await;
    assert_eq!(receipt.outcomes, vec![Outcome::Accepted; 3]);
    assert!(site.inbox("ann").await.is_empty());
    let bob = site.inbox("bob").await;
    assert_eq!(bob.len(), 1);
    assert!(bob[0].starts_with("Return-Path: <s@far.test>\r\nDelivered-To: bob@x.test\r\n"));
    let mut queued = site.queued().await;
    queued.sort_by_key(|message| message.reverse_path.to_string());
    let shown: Vec<_> = queued
        .iter()
        .map(|message| (message.reverse_path.to_string(), recipients(message)))
        .collect();
    let of = |from: &str, to: &[&str]| {
        let to = to.iter().map(ToString::to_string).collect();
        (from.to_owned(), to)
    };
    assert_eq!(
        shown,
        [
            of("ann@x.test", &["a@out.test", "b@out.test"]),
            of("bob@x.test", &["a@out.test"]),
            of(SENDER, &["r@else.test"]),
        ]
    );
    let ann = &queued[0];
    assert!(
        ann.prefix
            .starts_with(b"Delivered-To: ann@x.test\r\nReceived: by x.test")
    );
    assert_eq!((&ann.envid, ann.source), (&None, Source::Relay));
    let failures = Notify::On {
        success: false,
        failure: true,
        delay: false,
    };
    assert_eq!(ann.recipients[0].notify, failures);
}

#[tokio::test]
async fn mail_without_a_sender_is_sent_on_without_one_and_nobody_is_told_of_its_failure() {
    let site = Site::with_accounts().await;
    site.forward("ann", &["a@out.test"], false).await;
    site.send("", &["ann@x.test"], MESSAGE).await;
    let queued = site.queued().await;
    assert_eq!(queued[0].reverse_path, ReversePath::Null);
    assert_eq!(queued[0].recipients[0].notify, Notify::Never);
    assert!(site.inbox("ann").await.is_empty());
}

#[tokio::test]
async fn what_an_account_has_sent_on_before_stays_with_it() {
    let site = Site::with_accounts().await;
    site.forward("ann", &["a@out.test", "bob@x.test"], false)
        .await;
    let again = format!(
        "Received: from out.test\r\nDelivered-To: a@out.test\r\nDelivered-To: Ann@x.test\r\n{MESSAGE}"
    );
    site.send("ann@x.test", &["ann@x.test"], &again).await;
    assert!(site.queued().await.is_empty());
    assert_eq!(site.inbox("ann").await.len(), 1);
    assert_eq!(site.inbox("bob").await.len(), 1);
}

#[tokio::test]
async fn accounts_that_send_to_each_other_end_in_one_delivery() {
    let site = Site::with_accounts().await;
    site.forward("ann", &["bob@x.test"], false).await;
    site.forward("bob", &["ann@x.test"], false).await;
    let receipt = site.send(SENDER, &["ann@x.test"], MESSAGE).await;
    assert_eq!(receipt.outcomes, [Outcome::Accepted]);
    let copies = (site.inbox("ann").await.len(), site.inbox("bob").await.len());
    assert_eq!(copies, (0, 1));
    assert!(site.queued().await.is_empty());
}

#[tokio::test]
async fn a_report_to_an_account_is_sent_on_and_kept() {
    let site = Site::with_accounts().await;
    site.forward("ann", &["a@out.test"], false).await;
    let path = ForwardPath::Address(address("ann@x.test"));
    let routed = site.switch.route(&path, true, None).await.unwrap().unwrap();
    site.accept(Envelope::of_report(routed), MESSAGE).await;
    assert_eq!(site.inbox("ann").await.len(), 1);
    assert_eq!(site.queued().await[0].recipients[0].notify, Notify::Never);
}

#[tokio::test]
async fn a_sender_is_told_of_a_delivery_and_not_where_it_is_sent_on_to() {
    let site = Site::with_accounts().await;
    site.forward("ann", &["a@out.test", "bob@x.test"], true)
        .await;
    let mut envelope = site.envelope("cat@x.test", &["ann@x.test"]).await;
    envelope.recipients[0].notify = Notify::On {
        success: true,
        failure: true,
        delay: false,
    };
    site.accept(envelope, MESSAGE).await;
    let report = site.inbox("cat").await.remove(0);
    assert!(report.contains("Final-Recipient: rfc822; ann@x.test\r\n"));
    assert!(!report.contains("out.test"), "{report}");
}

#[tokio::test]
async fn a_sender_is_answered_once() {
    let site = Site::with_accounts().await;
    site.away("ann").await;
    site.away("bob").await;
    let to = ["ann@x.test", "bob@x.test"];
    let receipt = site.send(SENDER, &to, MESSAGE).await;
    assert_eq!(receipt.replied.len(), 2);
    assert!(site.send(SENDER, &to, MESSAGE).await.replied.is_empty());
    let queued = site.queued().await;
    assert_eq!(queued.len(), 2);
    for reply in &queued {
        assert_eq!(reply.reverse_path, ReversePath::Null);
        assert_eq!(recipients(reply), [SENDER]);
        let text = site.store.read_blob(reply.blob).await.unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        assert!(text.contains("Subject: Auto: hello\r\n"), "{text}");
        assert!(text.contains("In-Reply-To: <1@far.test>\r\n"));
        assert!(text.contains("Auto-Submitted: auto-replied"));
        assert!(text.contains(" is away\r\n"));
    }
    assert_eq!(site.inbox("ann").await.len(), 2);
    assert_eq!(site.send("t@far.test", &to, MESSAGE).await.replied.len(), 2);
}

#[tokio::test]
async fn what_no_person_wrote_to_the_account_is_not_answered() {
    let site = Site::with_accounts().await;
    site.away("ann").await;
    for (from, message) in [
        ("", MESSAGE.to_owned()),
        ("noreply@far.test", MESSAGE.to_owned()),
        ("ann@x.test", MESSAGE.to_owned()),
        (SENDER, format!("List-Id: <l.far.test>\r\n{MESSAGE}")),
        (
            SENDER,
            format!("Auto-Submitted: auto-generated\r\n{MESSAGE}"),
        ),
        (
            SENDER,
            "Subject: hello\r\nTo: team@x.test\r\n\r\nx\r\n".to_owned(),
        ),
    ] {
        let receipt = site.send(from, &["ann@x.test"], &message).await;
        assert!(receipt.replied.is_empty(), "{from}: {message}");
    }
    let alias = vec![address("ann@x.test")];
    site.directory
        .add_alias(address("team@x.test"), alias)
        .await
        .unwrap();
    let to_team = "Subject: hello\r\nTo: team@x.test\r\n\r\nx\r\n";
    let receipt = site.send(SENDER, &["team@x.test"], to_team).await;
    assert_eq!(receipt.replied.len(), 1);
}

#[tokio::test]
async fn people_who_are_away_do_not_answer_each_other_for_ever() {
    let site = Site::with_accounts().await;
    site.away("ann").await;
    site.away("bob").await;
    let receipt = site.send("bob@x.test", &["ann@x.test"], MESSAGE).await;
    assert_eq!(
        receipt.replied,
        [(site.id("ann").await, address("bob@x.test"))]
    );
    let bob = site.inbox("bob").await;
    assert_eq!(bob.len(), 1);
    assert!(bob[0].contains("ann is away"));
    assert_eq!(site.inbox("ann").await.len(), 1);
    assert!(site.queued().await.is_empty());
}

#[tokio::test]
async fn who_sends_all_mail_on_is_away_too() {
    let site = Site::with_accounts().await;
    site.away("ann").await;
    site.forward("ann", &["bob@x.test"], false).await;
    let receipt = site.send(SENDER, &["ann@x.test"], MESSAGE).await;
    assert_eq!(receipt.replied.len(), 1);
    assert_eq!(site.inbox("bob").await.len(), 1);
}

#[tokio::test]
async fn nobody_answers_for_a_mailbox_that_is_full() {
    let site = Site::with_accounts().await;
    site.away("ann").await;
    let full = AccountChange {
        quota: Some(Quota {
            bytes: Some(10),
            ..Quota::UNLIMITED
        }),
        ..AccountChange::default()
    };
    // The routing is of before.
    let envelope = site.envelope(SENDER, &["ann@x.test"]).await;
    site.change("ann", full).await;
    let mut again = site.envelope(SENDER, &["ann@x.test"]).await;
    again.policy = QuotaPolicy::PerRecipient;
    let receipt = site.accept(again, MESSAGE).await;
    assert_eq!(
        receipt.outcomes,
        [Outcome::Refused(Refusal::OverQuota { temporary: true })]
    );
    assert!(receipt.replied.is_empty() && site.queued().await.is_empty());
    assert_eq!(site.accept(envelope, MESSAGE).await.replied.len(), 1);
}

#[tokio::test]
async fn an_account_says_whether_its_being_full_passes() {
    let site = Site::with_accounts().await;
    for (user, over_quota) in [
        ("ann", OverQuota::Default),
        ("bob", OverQuota::Refuse),
        ("cat", OverQuota::Defer),
    ] {
        let change = AccountChange {
            quota: Some(Quota {
                messages: Some(0),
                ..Quota::UNLIMITED
            }),
            over_quota: Some(over_quota),
            ..AccountChange::default()
        };
        site.change(user, change).await;
    }
    let strict = site.switch.clone().refusing_over_quota(true);
    for (user, usual, strictly) in [
        ("ann", true, false),
        ("bob", false, false),
        ("cat", true, true),
    ] {
        let path = ForwardPath::Address(address(&format!("{user}@x.test")));
        let refusal = |temporary| Some(Refusal::OverQuota { temporary });
        let found = site.switch.route(&path, true, None).await.unwrap();
        assert_eq!(found.err(), refusal(usual), "{user}");
        let found = strict.route(&path, true, None).await.unwrap();
        assert_eq!(found.err(), refusal(strictly), "{user}");
    }
}

const ATTACHED: &str = "From: s@far.test\r\nTo: ann@x.test\r\nSubject: files\r\nMessage-ID: <2@far.test>\r\n\
    MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
    --b\r\nContent-Type: text/plain\r\n\r\nsee below\r\n\
    --b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment;\r\n filename*=utf-8''%C3%A9.pdf\r\n\
    Content-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n\
    --b\r\nContent-Type: text/csv; name=\"=?utf-8?q?=C3=BC=2Ecsv?=\"\r\n\r\n1;2\r\n--b--\r\n";

async fn apart(site: &Site, quota: Quota) {
    let change = AccountChange {
        attachments: Some(AttachmentMode::Apart),
        quota: Some(quota),
        ..AccountChange::default()
    };
    site.change("ann", change).await;
}

#[tokio::test]
async fn attachments_become_messages_of_their_own() {
    let site = Site::with_accounts().await;
    apart(&site, Quota::UNLIMITED).await;
    let receipt = site
        .send(SENDER, &["ann@x.test", "bob@x.test"], ATTACHED)
        .await;
    assert_eq!(receipt.outcomes, vec![Outcome::Accepted; 2]);
    let bob = site.inbox("bob").await;
    assert!(bob.len() == 1 && bob[0].ends_with(ATTACHED));
    let ann = site.inbox("ann").await;
    assert_eq!(ann.len(), 3);
    for part in [
        "Delivered-To: ann@x.test\r\n",
        "Message-ID: <2@far.test>\r\n",
        "see below\r\n--b\r\nContent-Type: text/plain",
        "The attachment \"=C3=A9.pdf\", application/pdf, 8 octets",
        "--b--\r\n",
    ] {
        assert!(ann[0].contains(part), "{part:?} is not in\n{}", ann[0]);
    }
    assert!(!ann[0].contains("aGVsbG8="));
    for part in [
        "Delivered-To: ann@x.test\r\n",
        "From: s@far.test\r\n",
        "Subject: =?utf-8?q?files=3A_=C3=A9=2Epdf?=\r\n",
        "References: <2@far.test>\r\n",
        "Content-Type: application/pdf\r\nContent-Disposition: attachment;\r\n filename*=utf-8''%C3%A9.pdf\r\n",
        "base64\r\n\r\naGVsbG8=\r\n",
    ] {
        assert!(ann[1].contains(part), "{part:?} is not in\n{}", ann[1]);
    }
    assert!(
        ann[2].contains("name=\"=?utf-8?q?=C3=BC=2Ecsv?=\"\r\n\r\n1;2\r\n"),
        "{}",
        ann[2]
    );
    assert_eq!(ann[1].matches("Message-ID:").count(), 1);
}

#[tokio::test]
async fn a_message_that_is_broken_apart_fits_whole_or_not_at_all() {
    let site = Site::with_accounts().await;
    for (messages, copies) in [(2, 0), (3, 3)] {
        let quota = Quota {
            messages: Some(messages),
            ..Quota::UNLIMITED
        };
        apart(&site, quota).await;
        let mut envelope = site.envelope(SENDER, &["ann@x.test"]).await;
        envelope.policy = QuotaPolicy::PerRecipient;
        site.accept(envelope, ATTACHED).await;
        assert_eq!(site.inbox("ann").await.len(), copies);
    }
}

#[tokio::test]
async fn what_is_submitted_is_kept_among_the_sent_mail_where_that_is_wanted() {
    let site = Site::with_accounts().await;
    let ann = site.id("ann").await;
    let submit = async |to: &str| {
        let mut envelope = site.envelope("ann@x.test", &[to]).await;
        envelope.source = Source::Submission(ann);
        site.accept(envelope, MESSAGE).await
    };
    submit("r@else.test").await;
    assert!(site.folder("ann", "Sent").await.is_empty());
    let change = AccountChange {
        save_sent: Some(true),
        ..AccountChange::default()
    };
    site.change("ann", change).await;
    let receipt = submit("r@else.test").await;
    assert!(receipt.appended.is_empty());
    let sent = site.folder("ann", "Sent").await;
    assert!(sent.len() == 1 && sent[0].ends_with(MESSAGE));
    let name = MailboxName::parse("Sent").unwrap();
    let mailbox = site.store.lookup(ann, &name).await.unwrap().mailbox;
    let rows = site.store.rows(mailbox, &[1]).await.unwrap();
    assert_eq!(rows[0].1.flags, Flags::SEEN);
    // Mail from elsewhere in that name is not hers.
    site.send("ann@x.test", &["bob@x.test"], MESSAGE).await;
    assert_eq!(site.folder("ann", "Sent").await.len(), 1);
}

#[tokio::test]
async fn accounts_with_a_bound_are_noted_as_grown() {
    let site = Site::with_accounts().await;
    let quota = Quota {
        bytes: Some(10_000),
        ..Quota::UNLIMITED
    };
    let change = AccountChange {
        quota: Some(quota),
        ..AccountChange::default()
    };
    site.change("ann", change).await;
    site.send(SENDER, &["ann@x.test", "bob@x.test"], MESSAGE)
        .await;
    let grown = site.switch.grown().take().await;
    assert_eq!(grown, [site.id("ann").await].into());
}
