//! How a question reads in a transcript.

use nightmail_imap::command::acl::AclAsk;
use nightmail_imap::command::fetch::FetchPlan;
use nightmail_imap::command::metadata::MetadataAsk;
use nightmail_imap::command::multisearch::Source;
use nightmail_imap::command::notify::{EventGroup, MailboxFilter};
use nightmail_imap::command::quota::QuotaAsk;
use nightmail_imap::command::search::SearchKey;
use nightmail_imap::command::store::FlagChange;
use nightmail_imap::io::Find;
use nightmail_imap::io::{Resync, Telling};
use nightmail_imap::url::ImapUrl;
use nightmail_imap::{Ask, MailboxName, UidSet};
use nightmail_sasl::Question;

pub fn print(ask: &Ask) -> String {
    let flag = |on: bool, word: &str| {
        if on {
            format!(" {word}")
        } else {
            String::new()
        }
    };
    match ask {
        Ask::Authenticate(question) => print_login(question),
        Ask::Select {
            mailbox,
            read_only,
            resync,
        } => {
            let resync = resync.as_deref().map_or(String::new(), print_resync);
            format!("select {mailbox}{}{resync}", flag(*read_only, "read-only"))
        }
        Ask::Close { expunge } => format!("close{}", flag(*expunge, "expunge")),
        Ask::Refresh { checkpoint } => format!("refresh{}", flag(*checkpoint, "checkpoint")),
        Ask::Mailboxes(scope) => format!(
            "mailboxes{}{}",
            flag(scope.shared, "shared"),
            flag(scope.rights, "rights")
        ),
        Ask::Details {
            mailboxes,
            items,
            metadata,
        } => {
            let ids: Vec<_> = mailboxes.iter().map(|id| id.get().to_string()).collect();
            format!("details {} {items:?} {metadata:?}", ids.join(","))
        }
        Ask::Notify(None) => "notify none".into(),
        Ask::Notify(Some(plan)) => {
            let groups: Vec<_> = plan.groups.iter().map(print_group).collect();
            format!("notify{} {}", flag(plan.status, "status"), groups.join(" "))
        }
        Ask::Status { mailbox, items } => format!("status {mailbox} {items:?}"),
        Ask::Create {
            mailbox,
            special_use: None,
        } => format!("create {mailbox}"),
        Ask::Create {
            mailbox,
            special_use: Some(special_use),
        } => format!("create {mailbox} for {special_use:?}"),
        Ask::Delete(mailbox) => format!("delete {mailbox}"),
        Ask::Rename { from, to } => format!("rename {from} to {to}"),
        Ask::Acl(ask) => print_acl(ask),
        Ask::Quota(ask) => print_quota(ask),
        Ask::Metadata(ask) => print_metadata(ask),
        Ask::Subscribe(mailbox) => format!("subscribe {mailbox}"),
        Ask::Unsubscribe(mailbox) => format!("unsubscribe {mailbox}"),
        Ask::AppendBegin(begin) => format!(
            "append {} {} {}{}{}",
            begin.mailbox,
            begin
                .octets
                .map_or("parts".into(), |octets| octets.to_string()),
            begin.flags,
            begin
                .internal_date
                .map_or(String::new(), |date| format!(" {date}")),
            begin
                .replaces
                .map_or(String::new(), |uid| format!(" replacing {uid}")),
        ),
        Ask::AuthorizeUrl(url) => format!("authorize-url {} {}", of_url(url), rump(url)),
        Ask::FetchUrl(url) => format!("fetch-url {} {}", of_url(url), rump(url)),
        Ask::ResetUrlKeys(None) => "reset-url-keys".into(),
        Ask::ResetUrlKeys(Some(mailbox)) => format!("reset-url-keys {mailbox}"),
        Ask::Unauthenticate => "unauthenticate".into(),
        Ask::AppendUrl { url, octets_max } => format!("append-url {url} {octets_max}"),
        Ask::AppendFinish => "append-finish".into(),
        Ask::Fetch { uids, plan } => format!("fetch {uids}{}", print_plan(plan)),
        Ask::Store {
            uids,
            change,
            telling,
            unchanged_since,
        } => {
            let change = match change {
                FlagChange::Replace(list) => format!("={list}"),
                FlagChange::Add(list) => format!("+{list}"),
                FlagChange::Remove(list) => format!("-{list}"),
            };
            let telling = match telling {
                Telling::Flags => "",
                Telling::ModSeq => " modseq",
                Telling::Nothing => " silent",
            };
            let since = unchanged_since.map_or(String::new(), |since| format!(" since {since}"));
            format!("store {uids} {change}{telling}{since}")
        }
        Ask::Copy { uids, target } => format!("copy {uids} to {target}"),
        Ask::Move { uids, target } => format!("move {uids} to {target}"),
        Ask::Expunge { uids: None } => "expunge".into(),
        Ask::Expunge { uids: Some(uids) } => format!("expunge {uids}"),
        Ask::Search(find) => print_find(find),
        Ask::Thread { key, threading } => {
            format!(
                "thread {threading:?} {}",
                print_key(key, &UidSet::to_string)
            )
        }
        Ask::SearchMailboxes {
            sources,
            key,
            modseqs,
        } => {
            let sources: Vec<_> = sources.iter().map(print_source).collect();
            let key = print_key(key, &|set| format!("{set:?}"));
            let sources = sources.join(" ");
            format!(
                "search in {sources}: {key}{}",
                flag(*modseqs, "with modseqs")
            )
        }
    }
}

fn print_resync(resync: &Resync) -> String {
    let known = resync.known.as_ref();
    let known = known.map_or(String::new(), |known| format!(" known {known}"));
    let matched = resync.matched.iter().map(|run| {
        let (seq, uid, count) = (run.seq, run.uid, run.count);
        format!(" {seq}={uid}*{count}")
    });
    format!(
        " resync {} {}{known}{}",
        resync.uid_validity,
        resync.modseq,
        matched.collect::<String>()
    )
}

fn print_acl(ask: &AclAsk) -> String {
    match ask {
        AclAsk::Get(mailbox) => format!("acl {mailbox}"),
        AclAsk::Mine(mailbox) => format!("my-rights {mailbox}"),
        AclAsk::Possible {
            mailbox,
            identifier,
        } => format!("possible-rights {mailbox} {identifier}"),
        AclAsk::Set {
            mailbox,
            identifier,
            how,
            rights,
        } => format!("set-acl {mailbox} {identifier} {how:?} {rights}"),
        AclAsk::Delete {
            mailbox,
            identifier,
        } => format!("delete-acl {mailbox} {identifier}"),
    }
}

fn print_quota(ask: &QuotaAsk) -> String {
    match ask {
        QuotaAsk::Get(root) => format!("quota {root:?}"),
        QuotaAsk::Roots(mailbox) => format!("quota-roots {mailbox}"),
        QuotaAsk::Set { root, limits } => format!("set-quota {root:?} {limits:?}"),
    }
}

fn print_metadata(ask: &MetadataAsk) -> String {
    let name = |mailbox: &Option<MailboxName>| {
        let name = mailbox.as_ref().map(ToString::to_string);
        name.unwrap_or("the-server".into())
    };
    match ask {
        MetadataAsk::Get {
            mailbox,
            entries,
            depth,
        } => format!("metadata {} {entries:?} {depth:?}", name(mailbox)),
        MetadataAsk::Set { mailbox, values } => {
            format!("set-metadata {} {values:?}", name(mailbox))
        }
    }
}

fn print_group(group: &EventGroup) -> String {
    let names = |names: &[MailboxName]| {
        let names: Vec<_> = names.iter().map(MailboxName::as_str).collect();
        names.join(",")
    };
    let filter = match &group.filter {
        MailboxFilter::Inboxes => "inboxes".into(),
        MailboxFilter::Personal => "personal".into(),
        MailboxFilter::Subscribed => "subscribed".into(),
        MailboxFilter::Subtree(below) => format!("subtree:{}", names(below)),
        MailboxFilter::Mailboxes(these) => format!("mailboxes:{}", names(these)),
    };
    let events = group.events;
    let events = [
        (events.messages, "messages"),
        (events.flags, "flags"),
        (events.names, "names"),
        (events.subscriptions, "subscriptions"),
        (events.metadata, "metadata"),
        (events.server_metadata, "server-metadata"),
    ];
    let events = events.into_iter().filter(|(on, _)| *on);
    let events: Vec<_> = events.map(|(_, word)| word).collect();
    format!("{filter}={}", events.join("+"))
}

fn of_url(url: &ImapUrl) -> String {
    let mailbox = url.mailbox.as_ref().map_or("-", MailboxName::as_str);
    format!(
        "{}:{mailbox}/{}",
        url.user.as_deref().unwrap_or("-"),
        url.uid
    )
}

fn rump(url: &ImapUrl) -> &str {
    url.authorization
        .as_ref()
        .map_or("-", |authorization| &authorization.rump)
}

fn print_login(question: &Question) -> String {
    let acting_as = |who: &Option<Box<str>>| match who {
        Some(who) => format!(" as {who}"),
        None => String::new(),
    };
    match question {
        Question::Password {
            identity,
            password,
            authorization,
        } => format!(
            "password {identity}:{}{}",
            password.as_str(),
            acting_as(authorization)
        ),
        Question::Scram {
            hash,
            identity,
            authorization,
        } => format!("scram {hash:?} {identity}{}", acting_as(authorization)),
        Question::Token { token, identity } => {
            let of = identity.as_deref().unwrap_or("-");
            format!("token {} of {of}", token.as_str())
        }
        Question::Certificate { authorization } => {
            format!("certificate{}", acting_as(authorization))
        }
        Question::Proven { identity } => format!("proven {identity}"),
        Question::Disproven { identity } => format!("disproven {identity}"),
    }
}

fn print_plan(plan: &FetchPlan) -> String {
    let items = [
        (plan.internal_date, "date"),
        (plan.size, "size"),
        (plan.envelope, "envelope"),
        (plan.body, "body"),
        (plan.body_structure, "bodystructure"),
        (plan.save_date, "savedate"),
        (plan.object_ids, "ids"),
        (plan.preview, "preview"),
        (plan.set_seen, "set-seen"),
    ];
    let items = items
        .into_iter()
        .filter(|(on, _)| *on)
        .map(|(_, word)| format!(" {word}"));
    let sections = plan.sections.iter().map(|section| format!(" [{section}]"));
    let binaries = plan.binaries.iter().map(|binary| {
        let what = if binary.size_only { "size" } else { "binary" };
        format!(" {what}{:?}", binary.part)
    });
    let since = plan.changed_since.map(|since| format!(" since {since}"));
    let vanished = plan.vanished.as_ref();
    let vanished = vanished.map(|uids| format!(" vanished {uids}"));
    let partial = plan.partial.map(|range| {
        let sign = if range.from_end { "-" } else { "" };
        format!(" partial {sign}{}:{sign}{}", range.first, range.last)
    });
    let narrowed = since.into_iter().chain(vanished).chain(partial);
    items
        .chain(sections)
        .chain(binaries)
        .chain(narrowed)
        .collect()
}

fn print_find(find: &Find) -> String {
    let order = find.order.iter().map(|key| match key.reverse {
        true => format!("reverse {:?}", key.by),
        false => format!("{:?}", key.by),
    });
    let order: Vec<_> = order.collect();
    let by = match order.is_empty() {
        true => String::new(),
        false => format!("by {} ", order.join(", ")),
    };
    let modseqs = if find.modseqs { " with modseqs" } else { "" };
    let key = print_key(&find.key, &UidSet::to_string);
    format!("search {by}{key}{modseqs}")
}

fn print_source(source: &Source) -> String {
    let names = |names: &[MailboxName]| {
        let names: Vec<_> = names.iter().map(MailboxName::as_str).collect();
        names.join(",")
    };
    match source {
        Source::Subtree(tops) => format!("subtree({})", names(tops)),
        Source::SubtreeOne(tops) => format!("subtree-one({})", names(tops)),
        Source::Mailboxes(named) => format!("mailboxes({})", names(named)),
        other => format!("{other:?}"),
    }
}

fn print_key<M>(key: &SearchKey<M>, print_set: &impl Fn(&M) -> String) -> String {
    let print_key = |key: &SearchKey<M>| print_key(key, print_set);
    match key {
        SearchKey::All => "all".into(),
        SearchKey::And(keys) => format!(
            "({})",
            keys.iter().map(print_key).collect::<Vec<_>>().join(" and ")
        ),
        SearchKey::Or(left, right) => format!("({} or {})", print_key(left), print_key(right)),
        SearchKey::Not(key) => format!("not {}", print_key(key)),
        SearchKey::Messages(uids) => format!("uids {{{}}}", print_set(uids)),
        SearchKey::Flag(flag) => flag.to_string(),
        SearchKey::Keyword(keyword) => format!("keyword {keyword}"),
        SearchKey::ModSeq(modseq) => format!("modseq {modseq}"),
        SearchKey::Older(seconds) => format!("older {seconds}"),
        SearchKey::Younger(seconds) => format!("younger {seconds}"),
        SearchKey::SavedBefore(day) => format!("saved before {}", day.get()),
        SearchKey::SavedOn(day) => format!("saved on {}", day.get()),
        SearchKey::SavedSince(day) => format!("saved since {}", day.get()),
        SearchKey::EmailId(id) => format!("emailid {id}"),
        SearchKey::ThreadId(id) => format!("threadid {id}"),
        SearchKey::Envelope { field, text } => format!("envelope {}={text:?}", field.name()),
        SearchKey::Before(day) => format!("before {}", day.get()),
        SearchKey::On(day) => format!("on {}", day.get()),
        SearchKey::Since(day) => format!("since {}", day.get()),
        SearchKey::SentBefore(day) => format!("sent before {}", day.get()),
        SearchKey::SentOn(day) => format!("sent on {}", day.get()),
        SearchKey::SentSince(day) => format!("sent since {}", day.get()),
        SearchKey::Larger(octets) => format!("larger {octets}"),
        SearchKey::Smaller(octets) => format!("smaller {octets}"),
        SearchKey::Header { field, text } => format!("header {field}={text:?}"),
        SearchKey::Body(text) => format!("body {text:?}"),
        SearchKey::Text(text) => format!("text {text:?}"),
    }
}
