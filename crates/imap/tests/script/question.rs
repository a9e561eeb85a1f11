//! How a question reads in a transcript.

use nightmail_imap::command::fetch::FetchPlan;
use nightmail_imap::command::search::SearchKey;
use nightmail_imap::command::store::FlagChange;
use nightmail_imap::{Ask, UidSet};
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
        Ask::Select { mailbox, read_only } => {
            format!("select {mailbox}{}", flag(*read_only, "read-only"))
        }
        Ask::Close { expunge } => format!("close{}", flag(*expunge, "expunge")),
        Ask::Refresh { checkpoint } => format!("refresh{}", flag(*checkpoint, "checkpoint")),
        Ask::Mailboxes => "mailboxes".into(),
        Ask::Status { mailbox, items } => format!("status {mailbox} {items:?}"),
        Ask::Create(mailbox) => format!("create {mailbox}"),
        Ask::Delete(mailbox) => format!("delete {mailbox}"),
        Ask::Rename { from, to } => format!("rename {from} to {to}"),
        Ask::Subscribe(mailbox) => format!("subscribe {mailbox}"),
        Ask::Unsubscribe(mailbox) => format!("unsubscribe {mailbox}"),
        Ask::AppendBegin(begin) => format!(
            "append {} {} {}{}",
            begin.mailbox,
            begin.octets,
            begin.flags,
            begin
                .internal_date
                .map_or(String::new(), |date| format!(" {date}")),
        ),
        Ask::AppendFinish => "append-finish".into(),
        Ask::Fetch { uids, plan } => format!("fetch {uids}{}", print_plan(plan)),
        Ask::Store {
            uids,
            change,
            silent,
        } => {
            let change = match change {
                FlagChange::Replace(list) => format!("={list}"),
                FlagChange::Add(list) => format!("+{list}"),
                FlagChange::Remove(list) => format!("-{list}"),
            };
            format!("store {uids} {change}{}", flag(*silent, "silent"))
        }
        Ask::Copy { uids, target } => format!("copy {uids} to {target}"),
        Ask::Move { uids, target } => format!("move {uids} to {target}"),
        Ask::Expunge { uids: None } => "expunge".into(),
        Ask::Expunge { uids: Some(uids) } => format!("expunge {uids}"),
        Ask::Search(key) => format!("search {}", print_key(key)),
    }
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
        (plan.set_seen, "set-seen"),
    ];
    let items = items
        .into_iter()
        .filter(|(on, _)| *on)
        .map(|(_, word)| format!(" {word}"));
    let sections = plan.sections.iter().map(|section| format!(" [{section}]"));
    items.chain(sections).collect()
}

fn print_key(key: &SearchKey<UidSet>) -> String {
    match key {
        SearchKey::All => "all".into(),
        SearchKey::And(keys) => format!(
            "({})",
            keys.iter().map(print_key).collect::<Vec<_>>().join(" and ")
        ),
        SearchKey::Or(left, right) => format!("({} or {})", print_key(left), print_key(right)),
        SearchKey::Not(key) => format!("not {}", print_key(key)),
        SearchKey::Messages(uids) => format!("uids {{{uids}}}"),
        SearchKey::Flag(flag) => flag.to_string(),
        SearchKey::Keyword(keyword) => format!("keyword {keyword}"),
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
