//! Adding, changing, renaming and removing accounts and their login names.

use nightmail_commit::{Topic, Tx};
use nightmail_core::{AccountId, Address};

use super::{
    FORWARD_MAX, LOGINS_MAX, Outcome, VACATION_OCTETS_MAX, account, address_row, domain_row,
    key_of, mapped, own_domain, put_account, put_domain, read, require_at_most, require_free,
    without_repeats,
};
use crate::error::DirectoryError;
use crate::record::{AccountRecord, AliasRecord, PasswordHash, Quota, ScramSecrets, WhenDisabled};
use crate::row::{
    AddressRow, DomainRow, account_key, admins_key, decode_id, decode_ids, encode_id, encode_ids,
    login_key, next_account_key,
};
use crate::sender::senders_key;
use crate::services::{AccountServices, AttachmentMode, OverQuota, Vacation};
use crate::warning::warning_key;

const LOGIN_BYTES_MAX: usize = 255;

/// An account to add.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewAccount {
    /// The primary address; also a login name.
    pub address: Address,
    /// Additional login names.
    pub logins: Vec<String>,
    /// The hashed password; without one nobody can log in.
    pub password: Option<PasswordHash>,
    /// Bounds of its mail; `None` takes the domain's default.
    pub quota: Option<Quota>,
    /// The person's name.
    pub full_name: String,
    /// May operate the server.
    pub admin: bool,
    /// Its mailboxes are shown to everybody of its domain.
    pub public: bool,
    /// What is done with its mail beyond keeping it.
    pub services: AccountServices,
}

impl NewAccount {
    /// An account with the defaults: no password, the domain's quota, no further names, no role.
    pub fn at(address: Address) -> Self {
        Self {
            address,
            logins: Vec::new(),
            password: None,
            quota: None,
            full_name: String::new(),
            admin: false,
            public: false,
            services: AccountServices::default(),
        }
    }
}

/// What to change of an account; `None` leaves a field as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AccountChange {
    /// The hashed password; `Some(None)` takes it away.
    pub password: Option<Option<PasswordHash>>,
    /// May log in and gets mail.
    pub enabled: Option<bool>,
    /// What happens to mail while it is disabled.
    pub when_disabled: Option<WhenDisabled>,
    /// Bounds of its mail.
    pub quota: Option<Quota>,
    /// The person's name.
    pub full_name: Option<String>,
    /// May operate the server.
    pub admin: Option<bool>,
    /// Its mailboxes are shown to everybody of its domain.
    pub public: Option<bool>,
    /// The automatic reply; `Some(None)` ends it.
    pub vacation: Option<Option<Vacation>>,
    /// Where its mail is sent on to, and whether it is kept too.
    pub forward: Option<(Vec<Address>, bool)>,
    /// How messages with attachments are kept.
    pub attachments: Option<AttachmentMode>,
    /// What a sender is told while the mailbox is full.
    pub over_quota: Option<OverQuota>,
    /// Whether what is submitted is kept among the sent mail.
    pub save_sent: Option<bool>,
    /// Seconds between two logins by POP3; `Some(None)`: as the server is configured.
    pub login_delay_secs: Option<Option<u32>>,
}

/// Adds an account and returns its id, which no account had before.
///
/// Fails when the domain is not in the directory or when the address or a login name is taken.
pub fn add_account(tx: &mut Tx<'_>, new: &NewAccount) -> Outcome<AccountId> {
    let (address, mut domain) = mapped(tx, &new.address)?;
    require_free(tx, &address)?;
    require_at_most(LOGINS_MAX, new.logins.len(), "additional login names")?;
    let id = next_id(tx)?;
    let record = AccountRecord {
        id,
        address,
        logins: Vec::new(),
        password: new.password.clone(),
        enabled: true,
        when_disabled: WhenDisabled::Reject,
        quota: new.quota.unwrap_or(domain.default_quota),
        full_name: new.full_name.clone(),
        created: tx.now(),
        admin: new.admin,
        public: new.public,
        services: new.services.clone(),
    };
    domain.accounts += 1;
    put_domain(tx, domain);
    claim_login(tx, &record.address.to_string(), id)?;
    tx.put(key_of(&record.address), AddressRow::Account(id).encode());
    put_account(tx, &record);
    for login in &new.logins {
        add_login(tx, id, login)?;
    }
    if new.admin {
        set_admin(tx, id, true)?;
    }
    Ok(id)
}

fn next_id(tx: &mut Tx<'_>) -> Outcome<AccountId> {
    let key = next_account_key();
    let id = read(tx, &key, decode_id)?.unwrap_or(AccountId::new(1));
    tx.put(key, encode_id(AccountId::new(id.get() + 1)));
    Ok(id)
}

/// The account whose primary address this is, alternate names of its domain included.
pub fn account_at(tx: &mut Tx<'_>, address: &Address) -> Outcome<AccountRecord> {
    let (mapped, _) = mapped(tx, address)?;
    match address_row(tx, &mapped)? {
        Some(AddressRow::Account(id)) => account(tx, id),
        _ => Err(DirectoryError::NoSuchAccount(address.to_string()).into()),
    }
}

/// Changes an account's password, state, quota, name, role or services.
pub fn update_account(tx: &mut Tx<'_>, id: AccountId, change: &AccountChange) -> Outcome<()> {
    let mut record = account(tx, id)?;
    if let Some(password) = &change.password {
        record.password.clone_from(password);
    }
    if let Some(full_name) = &change.full_name {
        record.full_name.clone_from(full_name);
    }
    record.enabled = change.enabled.unwrap_or(record.enabled);
    record.when_disabled = change.when_disabled.unwrap_or(record.when_disabled);
    record.quota = change.quota.unwrap_or(record.quota);
    record.public = change.public.unwrap_or(record.public);
    change_services(&mut record.services, change)?;
    if let Some(admin) = change.admin.filter(|admin| *admin != record.admin) {
        record.admin = admin;
        set_admin(tx, id, admin)?;
    }
    put_account(tx, &record);
    Ok(())
}

fn change_services(services: &mut AccountServices, change: &AccountChange) -> Outcome<()> {
    if let Some(vacation) = &change.vacation {
        let octets = vacation.as_ref().map_or(0, |vacation| vacation.text.len());
        require_at_most(VACATION_OCTETS_MAX, octets, "octets of an automatic reply")?;
        services.vacation.clone_from(vacation);
    }
    if let Some((forward, keeps_copy)) = &change.forward {
        require_at_most(FORWARD_MAX, forward.len(), "addresses to forward to")?;
        services.forward = without_repeats(forward.iter().cloned());
        services.forward_keeps_copy = *keeps_copy;
    }
    services.attachments = change.attachments.unwrap_or(services.attachments);
    services.over_quota = change.over_quota.unwrap_or(services.over_quota);
    services.save_sent = change.save_sent.unwrap_or(services.save_sent);
    if let Some(seconds) = change.login_delay_secs {
        services.login_delay_secs = seconds;
    }
    Ok(())
}

/// Adds the secrets of a password that was set without them. Whether it was done: not where the account has another
/// password by now, or has secrets.
pub fn add_scram(
    tx: &mut Tx<'_>,
    id: AccountId,
    password: &PasswordHash,
    secrets: &ScramSecrets,
) -> Outcome<bool> {
    let mut record = account(tx, id)?;
    if record.password.as_ref() != Some(password) || password.scram().is_some() {
        return Ok(false);
    }
    record.password = Some(password.clone().with_scram(secrets.clone()));
    put_account(tx, &record);
    Ok(true)
}

fn set_admin(tx: &mut Tx<'_>, id: AccountId, admin: bool) -> Outcome<()> {
    let key = admins_key();
    let mut ids = read(tx, &key, decode_ids)?.unwrap_or_default();
    ids.retain(|known| *known != id);
    if admin {
        ids.push(id);
    }
    tx.put(key, encode_ids(&ids));
    Ok(())
}

/// Gives an account an additional login name.
pub fn add_login(tx: &mut Tx<'_>, id: AccountId, login: &str) -> Outcome<()> {
    let mut record = account(tx, id)?;
    require_at_most(
        LOGINS_MAX,
        record.logins.len() + 1,
        "additional login names",
    )?;
    let lookup = claim_login(tx, login, id)?;
    record.logins.push(lookup);
    put_account(tx, &record);
    Ok(())
}

/// Takes an additional login name away. The primary address always stays one.
pub fn remove_login(tx: &mut Tx<'_>, id: AccountId, login: &str) -> Outcome<()> {
    let mut record = account(tx, id)?;
    let forms = [login.to_lowercase(), login_lookup(tx, login)?];
    let Some(index) = record.logins.iter().position(|known| forms.contains(known)) else {
        return Err(DirectoryError::NoSuchLogin(login.to_owned()).into());
    };
    let lookup = record.logins.remove(index);
    tx.delete(login_key(&lookup));
    put_account(tx, &record);
    Ok(())
}

fn claim_login(tx: &mut Tx<'_>, login: &str, id: AccountId) -> Outcome<String> {
    let lookup = login_lookup(tx, login)?;
    let key = login_key(&lookup);
    if tx.get(&key)?.is_some() {
        return Err(DirectoryError::LoginTaken(login.to_owned()).into());
    }
    tx.put(key, encode_id(id));
    Ok(lookup)
}

/// The form by which a login name is found: lower-case, an address under its domain's own name.
fn login_lookup(tx: &mut Tx<'_>, login: &str) -> Outcome<String> {
    let sound = (1..=LOGIN_BYTES_MAX).contains(&login.len())
        && !login.chars().any(|c| c.is_control() || c.is_whitespace());
    if !sound {
        return Err(DirectoryError::InvalidLogin(login.to_owned()).into());
    }
    let Ok(address) = Address::parse(login) else {
        return Ok(login.to_lowercase());
    };
    Ok(match domain_row(tx, address.domain())? {
        Some(DomainRow::AlternateOf(of)) => Address::new(address.local_part().clone(), of).lookup(),
        _ => address.lookup(),
    })
}

/// Gives an account another primary address; with `keep_old` the old one becomes an alias of the new.
///
/// Its id, mail, password and additional login names stay. The old address no longer logs in.
pub fn rename_account(
    tx: &mut Tx<'_>,
    id: AccountId,
    address: &Address,
    keep_old: bool,
) -> Outcome<()> {
    let mut record = account(tx, id)?;
    let (address, _) = mapped(tx, address)?;
    let old = std::mem::replace(&mut record.address, address.clone());
    if key_of(&old) == key_of(&address) {
        put_account(tx, &record);
        return Ok(());
    }
    require_free(tx, &address)?;
    release_address(tx, &old)?;
    claim_login(tx, &address.to_string(), id)?;
    let mut domain = own_domain(tx, address.domain())?;
    domain.accounts += 1;
    put_domain(tx, domain);
    tx.put(key_of(&address), AddressRow::Account(id).encode());
    put_account(tx, &record);
    if keep_old {
        let mut domain = own_domain(tx, old.domain())?;
        domain.aliases += 1;
        put_domain(tx, domain);
        let alias = AliasRecord {
            address: old.clone(),
            targets: vec![address],
        };
        tx.put(key_of(&old), AddressRow::Alias(alias).encode());
    }
    Ok(())
}

/// Removes an account from the directory. Its mailboxes are the store's: remove them in the same intent.
pub fn remove_account(tx: &mut Tx<'_>, id: AccountId) -> Outcome<AccountRecord> {
    let record = account(tx, id)?;
    release_address(tx, &record.address)?;
    for login in &record.logins {
        tx.delete(login_key(login));
    }
    if record.admin {
        set_admin(tx, id, false)?;
    }
    tx.delete(account_key(id));
    tx.delete(senders_key(id));
    tx.delete(warning_key(id));
    tx.publish(Topic::Directory);
    Ok(record)
}

/// Frees a primary address and its login name, and counts it out of its domain.
fn release_address(tx: &mut Tx<'_>, address: &Address) -> Outcome<()> {
    let mut domain = own_domain(tx, address.domain())?;
    domain.accounts = domain.accounts.saturating_sub(1);
    put_domain(tx, domain);
    tx.delete(key_of(address));
    tx.delete(login_key(&address.lookup()));
    Ok(())
}
