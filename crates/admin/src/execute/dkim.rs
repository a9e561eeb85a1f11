//! Requests about the keys that sign a domain's mail.
//!
//! A key is made pending. Once its record is in DNS it becomes active, and the active one of its algorithm retires: it
//! signs no more, and its record stays for as long as mail that it has signed may be on its way.

mod record;
mod view;

use nightmail_commit::{Abort, Tx};
use nightmail_core::Domain;
use nightmail_directory::{DirectoryError, DkimKeyRecord, DkimKeyState, tx as directory_tx};
use nightmail_trust::{KeyAlgorithm, SigningKey};

use self::record::{Published, algorithm_of, look_up};
pub(super) use self::record::{expected, is_needed};
pub(super) use self::view::short_view;
use super::{Answer, parse_domain, parse_domain_filter};
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::request::{AdminRequest, DkimAlgorithm};
use crate::response::AdminResponse;

pub(super) async fn execute(context: &AdminContext, request: AdminRequest) -> Answer {
    match request {
        AdminRequest::DkimNew {
            domain,
            algorithm,
            selector,
            activate,
        } => {
            let domain = parse_domain(&domain)?;
            new(context, domain, algorithm, selector, activate).await
        }
        AdminRequest::DkimList { domain } => {
            let domain = parse_domain_filter(domain.as_deref())?;
            let keys = context.directory.dkim_keys(domain.as_ref()).await?;
            let items = view::views(context, &keys).await?;
            Ok(AdminResponse::DkimKeys { items })
        }
        AdminRequest::DkimRotate { domain, force } => {
            rotate(context, parse_domain(&domain)?, force).await
        }
        AdminRequest::DkimActivate {
            domain,
            selector,
            force,
        } => activate(context, parse_domain(&domain)?, &selector, force).await,
        AdminRequest::DkimRemove {
            domain,
            selector,
            force,
        } => remove(context, parse_domain(&domain)?, &selector, force).await,
        _ => Err(AdminError::usage("not a request about DKIM keys")),
    }
}

async fn new(
    context: &AdminContext,
    domain: Domain,
    algorithm: DkimAlgorithm,
    selector: Option<String>,
    activate: bool,
) -> Answer {
    let known = context.directory.dkim_keys(Some(&domain)).await?;
    if activate && known.iter().any(|key| key.state == DkimKeyState::Active) {
        return Err(AdminError::refused(format!(
            "{domain} has an active key; make the new one without --activate, publish its record, and then use \
             `dkim rotate {domain}`"
        )));
    }
    // Making a key takes time, and is in vain for a domain that is not ours.
    if context.directory.domain(&domain).await?.is_none() {
        return Err(DirectoryError::NoSuchDomain(domain).into());
    }
    let state = match activate {
        true => DkimKeyState::Active,
        false => DkimKeyState::Pending,
    };
    let mut made = Vec::new();
    for wanted in algorithms(algorithm) {
        let selector = match (&selector, algorithm) {
            (None, _) => free_selector(&known, *wanted),
            (Some(selector), DkimAlgorithm::Both) => {
                format!("{}-{}", selector.to_lowercase(), suffix(*wanted))
            }
            (Some(selector), _) => selector.to_lowercase(),
        };
        made.push(make(&domain, selector, *wanted, state).await?);
    }
    let added = made.clone();
    let change = move |tx: &mut Tx<'_>| {
        added
            .iter()
            .try_for_each(|key| directory_tx::add_dkim_key(tx, key))
    };
    context.directory.change(change).await?;
    let items = view::views(context, &made).await?;
    Ok(AdminResponse::DkimChanged { items })
}

const fn algorithms(wanted: DkimAlgorithm) -> &'static [KeyAlgorithm] {
    match wanted {
        DkimAlgorithm::Rsa2048 => &[KeyAlgorithm::Rsa2048],
        DkimAlgorithm::Ed25519 => &[KeyAlgorithm::Ed25519],
        DkimAlgorithm::Both => &[KeyAlgorithm::Rsa2048, KeyAlgorithm::Ed25519],
    }
}

const fn suffix(algorithm: KeyAlgorithm) -> &'static str {
    match algorithm {
        KeyAlgorithm::Rsa2048 => "rsa",
        KeyAlgorithm::Ed25519 => "ed25519",
    }
}

/// Today's date and the algorithm: `s20261122-rsa`; with a number where that is taken.
fn free_selector(known: &[DkimKeyRecord], algorithm: KeyAlgorithm) -> String {
    let today = nightmail_commit::now().to_string();
    let date: String = today
        .chars()
        .take(10)
        .filter(char::is_ascii_digit)
        .collect();
    let plain = format!("s{date}-{}", suffix(algorithm));
    let numbered = (2..).map(|number| format!("{plain}-{number}"));
    let taken = |name: &String| known.iter().any(|key| key.selector == *name);
    std::iter::once(plain.clone())
        .chain(numbered)
        .find(|name| !taken(name))
        .unwrap_or(plain)
}

/// Makes a key, on a thread that may take its time.
async fn make(
    domain: &Domain,
    selector: String,
    algorithm: KeyAlgorithm,
    state: DkimKeyState,
) -> Result<DkimKeyRecord, AdminError> {
    let (of, name) = (domain.clone(), selector.clone());
    let made =
        tokio::task::spawn_blocking(move || SigningKey::generate(of, &name, algorithm)).await;
    let key = made
        .map_err(|error| AdminError::failed(error.to_string()))?
        .map_err(|error| AdminError::failed(error.to_string()))?;
    let now = nightmail_commit::now();
    Ok(DkimKeyRecord {
        domain: domain.clone(),
        selector,
        algorithm: algorithm.number(),
        pkcs8: key.pkcs8,
        state,
        created: now,
        changed: now,
    })
}

async fn rotate(context: &AdminContext, domain: Domain, force: bool) -> Answer {
    let known = context.directory.dkim_keys(Some(&domain)).await?;
    let due = newest_pending(&known);
    if !force {
        require_published(context, &due).await?;
    }
    let mut made = Vec::new();
    for algorithm in wants_next(&known, &due)? {
        let selector = free_selector(&known, algorithm);
        made.push(make(&domain, selector, algorithm, DkimKeyState::Pending).await?);
    }
    let of = domain.clone();
    let change = move |tx: &mut Tx<'_>| {
        for key in &due {
            activate_in(tx, &of, &key.selector)?;
        }
        made.iter()
            .try_for_each(|key| directory_tx::add_dkim_key(tx, key))
    };
    context.directory.change(change).await?;
    changed(context, &domain).await
}

/// The keys that are to become active: of each algorithm the pending one that was made last.
fn newest_pending(known: &[DkimKeyRecord]) -> Vec<DkimKeyRecord> {
    let mut newest: Vec<DkimKeyRecord> = Vec::new();
    for key in known
        .iter()
        .filter(|key| key.state == DkimKeyState::Pending)
    {
        newest.retain(|other| other.algorithm != key.algorithm);
        newest.push(key.clone());
    }
    newest
}

/// The algorithms of which there is to be a pending key for next time.
fn wants_next(
    known: &[DkimKeyRecord],
    due: &[DkimKeyRecord],
) -> Result<Vec<KeyAlgorithm>, AdminError> {
    let mut wanted: Vec<u8> = due.iter().map(|key| key.algorithm).collect();
    if wanted.is_empty() {
        let active = known.iter().filter(|key| key.state == DkimKeyState::Active);
        wanted.extend(active.map(|key| key.algorithm));
        wanted.dedup();
    }
    if wanted.is_empty() {
        return Err(AdminError::refused(
            "the domain has no key to rotate; make one with `dkim new`",
        ));
    }
    wanted.into_iter().map(algorithm_of).collect()
}

async fn activate(context: &AdminContext, domain: Domain, selector: &str, force: bool) -> Answer {
    let key = find(context, &domain, selector).await?;
    if !force {
        require_published(context, std::slice::from_ref(&key)).await?;
    }
    let of = domain.clone();
    let change = move |tx: &mut Tx<'_>| activate_in(tx, &of, &key.selector);
    context.directory.change(change).await?;
    changed(context, &domain).await
}

/// Lets a key sign instead of those of its algorithm that do.
fn activate_in(
    tx: &mut Tx<'_>,
    domain: &Domain,
    selector: &str,
) -> Result<(), Abort<DirectoryError>> {
    let keys = directory_tx::dkim_keys(tx, domain)?;
    let algorithm = keys
        .iter()
        .find(|key| key.selector == selector)
        .map(|key| key.algorithm);
    for key in keys {
        let replaced = Some(key.algorithm) == algorithm && key.state == DkimKeyState::Active;
        if replaced && key.selector != selector {
            directory_tx::set_dkim_key_state(tx, domain, &key.selector, DkimKeyState::Retired)?;
        }
    }
    directory_tx::set_dkim_key_state(tx, domain, selector, DkimKeyState::Active)
}

async fn remove(context: &AdminContext, domain: Domain, selector: &str, force: bool) -> Answer {
    let key = find(context, &domain, selector).await?;
    if key.state == DkimKeyState::Active && !force {
        return Err(AdminError::refused(format!(
            "{selector} signs the mail of {domain}; rotate to another key first, or use --force"
        )));
    }
    context
        .directory
        .remove_dkim_key(domain, key.selector)
        .await?;
    Ok(AdminResponse::Done)
}

async fn find(
    context: &AdminContext,
    domain: &Domain,
    selector: &str,
) -> Result<DkimKeyRecord, AdminError> {
    let known = context.directory.dkim_keys(Some(domain)).await?;
    let found = known
        .into_iter()
        .find(|key| key.selector.eq_ignore_ascii_case(selector));
    let missing = || DirectoryError::NoSuchDkimKey {
        domain: domain.clone(),
        selector: selector.to_owned(),
    };
    Ok(found.ok_or_else(missing)?)
}

/// Other sites would refuse what is signed by a key that they do not find.
async fn require_published(
    context: &AdminContext,
    keys: &[DkimKeyRecord],
) -> Result<(), AdminError> {
    if keys.is_empty() {
        return Ok(());
    }
    let (_, dns) = context.site(None)?;
    for key in keys {
        let (name, text) = expected(key)?;
        let why = match look_up(&dns, &name, &text).await {
            Published::Yes => continue,
            Published::No => "is not published",
            Published::Differs => "is published with another key",
            Published::Unknown => "cannot be looked up now",
        };
        return Err(AdminError::refused(format!(
            "the record {name} {why}; see `dkim list {}`, or use --force",
            key.domain
        )));
    }
    Ok(())
}

/// All keys of the domain, as they are now.
async fn changed(context: &AdminContext, domain: &Domain) -> Answer {
    let keys = context.directory.dkim_keys(Some(domain)).await?;
    let items = view::views(context, &keys).await?;
    Ok(AdminResponse::DkimChanged { items })
}
