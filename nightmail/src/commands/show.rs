//! Answers as text for people.

mod queue;
mod sending;
mod services;

use nightmail_admin::{
    AccountView, AclEntryView, AdminResponse, AliasView, CheckView, DomainView, MailboxView,
    NodeView, QuotaUseView, QuotaView, ReclaimView, ResolvedView, StatusView,
};

use crate::output::{Fields, Table, yes};
use crate::size::show_bytes;

/// An answer as text that ends with a line's end.
pub(crate) fn response(response: &AdminResponse) -> String {
    match response {
        AdminResponse::Done => "done\n".to_owned(),
        AdminResponse::Domain(view) => domain(view),
        AdminResponse::Domains { items, .. } => domains(items),
        AdminResponse::Account(view) => account(view),
        AdminResponse::Accounts { items, .. } => accounts(items),
        AdminResponse::Senders { items } => items.iter().map(|item| format!("{item}\n")).collect(),
        AdminResponse::DkimKeys { items } => sending::keys(items),
        AdminResponse::DkimChanged { items } => sending::changed_keys(items),
        AdminResponse::DnsChecked {
            domain,
            good,
            items,
        } => sending::findings(domain, *good, items),
        AdminResponse::Greylist { items, .. } => sending::greylist(items),
        AdminResponse::GreylistRemoved { count } => format!("{count} entries forgotten\n"),
        AdminResponse::Alias(view) => aliases(std::slice::from_ref(view)),
        AdminResponse::Aliases { items, .. } => aliases(items),
        AdminResponse::Resolved(view) => resolved(view),
        AdminResponse::Mailbox(view) => mailbox(view),
        AdminResponse::Mailboxes { items } => mailboxes(items),
        AdminResponse::MailboxAcl { items } => acl(items),
        AdminResponse::MailboxRetention(view) => services::retention(view),
        AdminResponse::Deleted { items } => services::deleted(items),
        AdminResponse::UniqueIds { imported, missing } => unique_ids(*imported, missing),
        AdminResponse::Undeleted { items } => {
            format!("{} message(s) brought back\n", items.len())
        }
        AdminResponse::Quota(view) => quota(view),
        AdminResponse::Queued(view) => queue::message(view),
        AdminResponse::Queue { items, .. } => queue::messages(items),
        AdminResponse::QueueAltered(view) => queue::altered(*view),
        AdminResponse::QueueWhy(view) => queue::why(view),
        AdminResponse::QueueDestinations { items, .. } => queue::destinations(items),
        AdminResponse::QueueRules { items } => queue::rules(items),
        AdminResponse::Traced { items, more } => super::trace::show(items, *more),
        AdminResponse::Retried { count } => format!("{count} message(s) due now\n"),
        AdminResponse::Certificates { items } => super::certificate::show(items),
        AdminResponse::Renewing { count } => format!(
            "{count} certificate(s) to be fetched: within `reload_interval`, by the node that fetches\n"
        ),
        AdminResponse::Nodes { items } => nodes(items),
        AdminResponse::Checked(view) => checked(view),
        AdminResponse::Reclaimed(view) => reclaimed(view),
        AdminResponse::Status(view) => status(view),
    }
}

fn nodes(items: &[NodeView]) -> String {
    if items.is_empty() {
        return "this server has its store to itself: there are no other nodes\n".to_owned();
    }
    let mut table = Table::new(&["NODE", "STATE", "SINCE", "LEASES", "ROLES", "LISTENS ON"]);
    for view in items {
        table.row([
            view.name.clone(),
            view.state.clone(),
            view.started.clone(),
            view.leases.len().to_string(),
            view.roles.join(", "),
            view.addresses.clone(),
        ]);
    }
    table.render()
}

fn domains(items: &[DomainView]) -> String {
    let mut table = Table::new(&[
        "DOMAIN",
        "ENABLED",
        "ACCOUNTS",
        "ALIASES",
        "ALTERNATE NAMES",
    ]);
    for view in items {
        table.row([
            view.name.clone(),
            yes(view.enabled).to_owned(),
            view.accounts.to_string(),
            view.aliases.to_string(),
            view.alternates.join(", "),
        ]);
    }
    table.render()
}

fn domain(view: &DomainView) -> String {
    let mut fields = Fields::new();
    fields
        .add("domain", &view.name)
        .add("alternate names", view.alternates.join(", "))
        .add("enabled", yes(view.enabled))
        .add("catch-all", view.catch_all.join(", "))
        .add("subaddress", &view.subaddress)
        .add("default quota", bounds(view.default_quota))
        .add("accounts", view.accounts)
        .add("aliases", view.aliases);
    if let Some(keys) = &view.dkim {
        fields.add("DKIM keys", sending::keys_in_short(&view.name, keys));
    }
    fields.add("created", &view.created);
    fields.render()
}

fn accounts(items: &[AccountView]) -> String {
    let mut table = Table::new(&["ADDRESS", "ID", "STATE", "QUOTA", "ADMIN", "NAME"]);
    for view in items {
        table.row([
            view.address.clone(),
            view.id.clone(),
            state(view).to_owned(),
            bounds(view.quota),
            yes(view.admin).to_owned(),
            view.full_name.clone(),
        ]);
    }
    table.render()
}

const fn state(view: &AccountView) -> &'static str {
    match (view.enabled, view.defer) {
        (true, _) => "enabled",
        (false, true) => "deferred",
        (false, false) => "disabled",
    }
}

fn account(view: &AccountView) -> String {
    let mut fields = Fields::new();
    fields
        .add("address", &view.address)
        .add("id", &view.id)
        .add("name", &view.full_name)
        .add("further logins", view.logins.join(", "))
        .add("password", if view.has_password { "set" } else { "none" })
        .add("state", state(view))
        .add("quota", bounds(view.quota))
        .add("admin", yes(view.admin));
    if let Some(senders) = &view.senders {
        fields.add("sends also as", senders.join(", "));
    }
    if let Some(services) = &view.services {
        services::add(&mut fields, services);
    }
    fields.add("created", &view.created);
    fields.render()
}

fn bounds(quota: QuotaView) -> String {
    let messages = |messages| format!("{messages} messages");
    let mailboxes = |mailboxes| format!("{mailboxes} mailboxes");
    let bounds = [
        quota.bytes.map(show_bytes),
        quota.messages.map(messages),
        quota.mailboxes.map(mailboxes),
    ];
    let bounds: Vec<String> = bounds.into_iter().flatten().collect();
    match bounds.is_empty() {
        true => "none".to_owned(),
        false => bounds.join(", "),
    }
}

fn aliases(items: &[AliasView]) -> String {
    let mut table = Table::new(&["ALIAS", "TARGETS"]);
    for view in items {
        table.row([view.address.clone(), view.targets.join(", ")]);
    }
    table.render()
}

fn resolved(view: &ResolvedView) -> String {
    let mut fields = Fields::new();
    fields
        .add("address", &view.address)
        .add("result", &view.result);
    for account in &view.accounts {
        fields.add("account", account);
    }
    for remote in &view.remote {
        fields.add("elsewhere", remote);
    }
    fields.render()
}

fn unique_ids(imported: u64, missing: &[String]) -> String {
    let missing = missing
        .iter()
        .map(|message| format!("not found: {message}\n"));
    let missing: String = missing.collect();
    format!("{missing}{imported} unique ids imported\n")
}

fn mailboxes(items: &[MailboxView]) -> String {
    let mut table = Table::new(&["MAILBOX", "MESSAGES", "UNSEEN", "SIZE", "USE", "SHARED"]);
    for view in items {
        table.row([
            view.name.clone(),
            view.messages.to_string(),
            view.unseen.to_string(),
            show_bytes(view.bytes),
            view.special_use.clone().unwrap_or_default(),
            yes(view.shared_with > 0).to_owned(),
        ]);
    }
    table.render()
}

fn acl(items: &[AclEntryView]) -> String {
    let mut table = Table::new(&["WHO", "RIGHTS"]);
    for view in items {
        table.row([view.identifier.clone(), view.rights.clone()]);
    }
    table.render()
}

fn mailbox(view: &MailboxView) -> String {
    let mut fields = Fields::new();
    fields
        .add("mailbox", &view.name)
        .add("id", &view.id)
        .add("use", view.special_use.as_deref().unwrap_or_default())
        .add("messages", view.messages)
        .add("unseen", view.unseen)
        .add("deleted", view.deleted)
        .add("size", show_bytes(view.bytes))
        .add("UIDVALIDITY", view.uid_validity)
        .add("UIDNEXT", view.uid_next)
        .add("HIGHESTMODSEQ", view.highest_modseq)
        .add("shared", view.shared_with);
    fields.render()
}

fn quota(view: &QuotaUseView) -> String {
    let mut fields = Fields::new();
    fields
        .add("account", &view.account)
        .add("quota", bounds(view.quota))
        .add("used", show_bytes(view.bytes))
        .add("messages", view.messages)
        .add("mailboxes", view.mailboxes);
    fields.render()
}

fn checked(view: &CheckView) -> String {
    let mut text: String = view
        .problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect();
    text.push_str(&format!(
        "{} problem(s), {} repaired; looked at {} domains, {} accounts, {} aliases, {} mailboxes, {} messages, {} bodies\n",
        view.problems.len(),
        view.repaired,
        view.domains,
        view.accounts,
        view.aliases,
        view.mailboxes,
        view.messages,
        view.blobs
    ));
    text
}

fn reclaimed(view: &ReclaimView) -> String {
    let mut fields = Fields::new();
    fields
        .add("deleted messages removed for good", view.purged)
        .add(
            "bodies to be deleted after the grace period",
            view.condemned,
        )
        .add("bodies deleted", view.reclaimed)
        .add("their size", show_bytes(view.reclaimed_bytes))
        .add("files looked at", view.segments_examined)
        .add("files removed", view.segments_removed)
        .add("space given back", show_bytes(view.freed_bytes));
    fields.render()
}

fn status(view: &StatusView) -> String {
    let mut fields = Fields::new();
    fields
        .add("version", &view.version)
        .add("running for", format!("{} s", view.uptime_seconds))
        .add("domains", view.domains)
        .add("accounts", view.accounts)
        .add("aliases", view.aliases)
        .add(
            "queued",
            format!("{} ({} due)", view.queued, view.queue_due),
        )
        .add("next attempt", view.queue_next.as_deref().unwrap_or("none"))
        .add(
            "message files",
            format!("{} ({})", view.segments, show_bytes(view.segment_bytes)),
        )
        .add("commits", view.commits)
        .add("syncs", view.syncs)
        .add("failures", view.failures);
    for (name, value) in &view.metrics {
        fields.add(name, value);
    }
    fields.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_table_with_a_row_for_each_entry() {
        let items = vec![AliasView {
            address: "team@x.test".into(),
            targets: vec!["a@x.test".into(), "b@z.test".into()],
        }];
        let text = response(&AdminResponse::Aliases { items, next: None });
        assert_eq!(
            text,
            "ALIAS        TARGETS\nteam@x.test  a@x.test, b@z.test\n"
        );
    }

    #[test]
    fn problems_come_before_the_count() {
        let view = CheckView {
            problems: vec!["x".into()],
            ..CheckView::default()
        };
        assert!(response(&AdminResponse::Checked(view)).starts_with("x\n1 problem(s), 0 repaired"));
    }
}
