//! Rows of the directory and their keys.
//!
//! `d` name → a domain, or the domain an alternate name stands for. `a` domain `@` local-part → an account's id or an
//! alias. `u` id → an account. `l` login name → an account's id. `r` → the ids of administrators, oldest first. `k` and
//! `s` are those of the modules `signing` and `sender`.
//! Names in keys are in lookup form. An address is kept under its domain's own name, never under an alternate.

use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{AccountId, Address, Domain, Timestamp};
use nightmail_engine::{RowKey, Space};

use crate::record::{
    AccountRecord, AliasRecord, DomainRecord, PasswordHash, Quota, ScramKeys, ScramSecrets,
    Subaddress, WhenDisabled,
};
use crate::services::AccountServices;

const VERSION: u8 = 1;
/// Rows of domains; the first version had no bound of mailboxes.
const DOMAIN_VERSION: u8 = 2;
/// Rows of accounts; the first version had no secrets for SCRAM, the second no bound of mailboxes and no services.
const ACCOUNT_VERSION: u8 = 3;

/// Begins the keys of domains and alternate names.
pub(crate) const DOMAIN_PREFIX: &str = "d";
/// Begins the keys of addresses.
pub(crate) const ADDRESS_PREFIX: &str = "a";
/// Begins the keys of accounts.
pub(crate) const ACCOUNT_PREFIX: &str = "u";
/// Begins the keys of login names.
pub(crate) const LOGIN_PREFIX: &str = "l";

pub(crate) fn directory_key(prefix: &str, rest: &[u8]) -> RowKey {
    let mut key = Vec::with_capacity(prefix.len() + rest.len());
    key.extend_from_slice(prefix.as_bytes());
    key.extend_from_slice(rest);
    RowKey::new(Space::Directory, key)
}

pub(crate) fn domain_key(name: &Domain) -> RowKey {
    directory_key(DOMAIN_PREFIX, name.as_str().as_bytes())
}

/// The key of an address; `local` is in lookup form.
pub(crate) fn address_key(local: &str, domain: &Domain) -> RowKey {
    directory_key(ADDRESS_PREFIX, format!("{domain}@{local}").as_bytes())
}

pub(crate) fn account_key(id: AccountId) -> RowKey {
    directory_key(ACCOUNT_PREFIX, &id.to_be_bytes())
}

/// The key of a login name in lookup form.
pub(crate) fn login_key(lookup: &str) -> RowKey {
    directory_key(LOGIN_PREFIX, lookup.as_bytes())
}

pub(crate) fn admins_key() -> RowKey {
    directory_key("r", b"")
}

/// The key of the counter that account ids come from.
pub(crate) fn next_account_key() -> RowKey {
    RowKey::new(Space::Meta, b"directory.next_account".as_slice())
}

/// What a name in the domain table means.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum DomainRow {
    Domain(DomainRecord),
    AlternateOf(Domain),
}

impl DomainRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(DOMAIN_VERSION);
        match self {
            Self::AlternateOf(domain) => row.u8(0).str(domain.as_str()).finish(),
            Self::Domain(record) => {
                row.u8(1).str(record.name.as_str());
                row.varint(record.alternates.len() as u64);
                for alternate in &record.alternates {
                    row.str(alternate.as_str());
                }
                row.u8(u8::from(record.enabled));
                write_addresses(&mut row, &record.catch_all);
                write_subaddress(&mut row, record.subaddress);
                write_quota(&mut row, record.default_quota);
                row.i64(record.created.millis())
                    .varint(record.accounts)
                    .varint(record.aliases);
                write_bound(&mut row, record.default_quota.mailboxes);
                row.finish()
            }
        }
    }

    pub(crate) fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut reader, version) = RowReader::new(row, DOMAIN_VERSION)?;
        if reader.u8()? == 0 {
            return Ok(Self::AlternateOf(read_domain(&mut reader)?));
        }
        let name = read_domain(&mut reader)?;
        let count = reader.varint()?;
        let alternates = (0..count)
            .map(|_| read_domain(&mut reader))
            .collect::<Result<_, _>>()?;
        let mut record = DomainRecord {
            name,
            alternates,
            enabled: reader.u8()? != 0,
            catch_all: read_addresses(&mut reader)?,
            subaddress: read_subaddress(&mut reader)?,
            default_quota: read_quota(&mut reader)?,
            created: Timestamp::from_millis(reader.i64()?),
            accounts: reader.varint()?,
            aliases: reader.varint()?,
        };
        if version > 1 {
            record.default_quota.mailboxes = read_bound(&mut reader)?;
        }
        Ok(Self::Domain(record))
    }
}

/// What an address means.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum AddressRow {
    Account(AccountId),
    Alias(AliasRecord),
}

impl AddressRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        match self {
            Self::Account(id) => row.u8(0).u64(id.get()).finish(),
            Self::Alias(alias) => {
                row.u8(1).str(&alias.address.to_string());
                write_addresses(&mut row, &alias.targets);
                row.finish()
            }
        }
    }

    pub(crate) fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut reader, _) = RowReader::new(row, VERSION)?;
        if reader.u8()? == 0 {
            return Ok(Self::Account(AccountId::new(reader.u64()?)));
        }
        let address = read_address(&mut reader)?;
        Ok(Self::Alias(AliasRecord {
            address,
            targets: read_addresses(&mut reader)?,
        }))
    }

    /// What takes the address, for a refusal.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Account(_) => "account",
            Self::Alias(_) => "alias",
        }
    }
}

pub(crate) fn encode_account(record: &AccountRecord) -> Vec<u8> {
    let mut row = RowWriter::new(ACCOUNT_VERSION);
    row.u64(record.id.get()).str(&record.address.to_string());
    row.varint(record.logins.len() as u64);
    for login in &record.logins {
        row.str(login);
    }
    row.str(record.password.as_ref().map_or("", PasswordHash::as_str));
    row.u8(u8::from(record.enabled))
        .u8(u8::from(record.when_disabled == WhenDisabled::Defer));
    write_quota(&mut row, record.quota);
    row.str(&record.full_name)
        .i64(record.created.millis())
        .u8(u8::from(record.admin));
    match record.password.as_ref().and_then(PasswordHash::scram) {
        None => row.u8(0),
        Some(secrets) => {
            row.u8(1);
            write_scram_keys(&mut row, &secrets.sha1);
            write_scram_keys(&mut row, &secrets.sha256)
        }
    };
    write_bound(&mut row, record.quota.mailboxes);
    row.u8(u8::from(record.public));
    record.services.write(&mut row);
    row.finish()
}

pub(crate) fn decode_account(row: &[u8]) -> Result<AccountRecord, RowError> {
    let (mut reader, version) = RowReader::new(row, ACCOUNT_VERSION)?;
    let id = AccountId::new(reader.u64()?);
    let address = read_address(&mut reader)?;
    let count = reader.varint()?;
    let logins = (0..count)
        .map(|_| reader.str().map(str::to_owned))
        .collect::<Result<Vec<_>, _>>()?;
    let password = Some(reader.str()?)
        .filter(|phc| !phc.is_empty())
        .map(PasswordHash::new);
    let mut record = AccountRecord {
        id,
        address,
        logins,
        password,
        enabled: reader.u8()? != 0,
        when_disabled: if reader.u8()? == 0 {
            WhenDisabled::Reject
        } else {
            WhenDisabled::Defer
        },
        quota: read_quota(&mut reader)?,
        full_name: reader.str()?.to_owned(),
        created: Timestamp::from_millis(reader.i64()?),
        admin: reader.u8()? != 0,
        public: false,
        services: AccountServices::default(),
    };
    if version > 1 && reader.u8()? != 0 {
        let secrets = ScramSecrets {
            sha1: read_scram_keys(&mut reader)?,
            sha256: read_scram_keys(&mut reader)?,
        };
        record.password = record.password.map(|hash| hash.with_scram(secrets));
    }
    if version > 2 {
        record.quota.mailboxes = read_bound(&mut reader)?;
        record.public = reader.u8()? != 0;
        record.services = AccountServices::read(&mut reader)?;
    }
    Ok(record)
}

fn write_scram_keys<'a>(row: &'a mut RowWriter, keys: &ScramKeys) -> &'a mut RowWriter {
    row.bytes(&keys.salt)
        .u32(keys.iterations)
        .bytes(&keys.stored_key)
        .bytes(&keys.server_key)
}

fn read_scram_keys(reader: &mut RowReader<'_>) -> Result<ScramKeys, RowError> {
    Ok(ScramKeys {
        salt: reader.bytes()?.to_vec(),
        iterations: reader.u32()?,
        stored_key: reader.bytes()?.to_vec(),
        server_key: reader.bytes()?.to_vec(),
    })
}

/// The row of a login name, and of the account counter.
pub(crate) fn encode_id(id: AccountId) -> Vec<u8> {
    RowWriter::new(VERSION).u64(id.get()).finish()
}

pub(crate) fn decode_id(row: &[u8]) -> Result<AccountId, RowError> {
    let (mut reader, _) = RowReader::new(row, VERSION)?;
    Ok(AccountId::new(reader.u64()?))
}

pub(crate) fn encode_ids(ids: &[AccountId]) -> Vec<u8> {
    let mut row = RowWriter::new(VERSION);
    row.varint(ids.len() as u64);
    for id in ids {
        row.u64(id.get());
    }
    row.finish()
}

pub(crate) fn decode_ids(row: &[u8]) -> Result<Vec<AccountId>, RowError> {
    let (mut reader, _) = RowReader::new(row, VERSION)?;
    let count = reader.varint()?;
    (0..count)
        .map(|_| reader.u64().map(AccountId::new))
        .collect()
}

pub(crate) fn write_addresses(row: &mut RowWriter, addresses: &[Address]) {
    row.varint(addresses.len() as u64);
    for address in addresses {
        row.str(&address.to_string());
    }
}

pub(crate) fn read_addresses(reader: &mut RowReader<'_>) -> Result<Vec<Address>, RowError> {
    let count = reader.varint()?;
    (0..count).map(|_| read_address(reader)).collect()
}

fn read_address(reader: &mut RowReader<'_>) -> Result<Address, RowError> {
    Address::parse(reader.str()?).map_err(|_| RowError::Invalid("address"))
}

fn read_domain(reader: &mut RowReader<'_>) -> Result<Domain, RowError> {
    Domain::parse(reader.str()?).map_err(|_| RowError::Invalid("domain"))
}

fn write_subaddress(row: &mut RowWriter, subaddress: Subaddress) {
    match subaddress {
        Subaddress::Default => row.u8(0),
        Subaddress::Off => row.u8(1),
        Subaddress::Separator(separator) => row.u8(2).u32(separator.into()),
    };
}

fn read_subaddress(reader: &mut RowReader<'_>) -> Result<Subaddress, RowError> {
    match reader.u8()? {
        0 => Ok(Subaddress::Default),
        1 => Ok(Subaddress::Off),
        2 => char::from_u32(reader.u32()?)
            .map(Subaddress::Separator)
            .ok_or(RowError::Invalid("subaddress separator")),
        _ => Err(RowError::Invalid("subaddress")),
    }
}

/// Bytes and messages; the bound of mailboxes came later and stands at the end of its row.
fn write_quota(row: &mut RowWriter, quota: Quota) {
    write_bound(row, quota.bytes);
    write_bound(row, quota.messages);
}

fn write_bound(row: &mut RowWriter, bound: Option<u64>) {
    match bound {
        None => row.u8(0),
        Some(bound) => row.u8(1).varint(bound),
    };
}

fn read_quota(reader: &mut RowReader<'_>) -> Result<Quota, RowError> {
    Ok(Quota {
        bytes: read_bound(reader)?,
        messages: read_bound(reader)?,
        mailboxes: None,
    })
}

fn read_bound(reader: &mut RowReader<'_>) -> Result<Option<u64>, RowError> {
    match reader.u8()? {
        0 => Ok(None),
        1 => reader.varint().map(Some),
        _ => Err(RowError::Invalid("quota")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address() -> impl Strategy<Value = Address> {
        ("[a-zé.]{0,6}", "[a-z]{1,5}").prop_map(|(local, domain)| {
            Address::parse(&format!("\"{local}\"@{domain}.test")).unwrap()
        })
    }

    fn quota() -> impl Strategy<Value = Quota> {
        any::<(Option<u64>, Option<u64>, Option<u64>)>().prop_map(|(bytes, messages, mailboxes)| {
            Quota {
                bytes,
                messages,
                mailboxes,
            }
        })
    }

    fn subaddress() -> impl Strategy<Value = Subaddress> {
        prop_oneof![
            Just(Subaddress::Default),
            Just(Subaddress::Off),
            any::<char>().prop_map(Subaddress::Separator)
        ]
    }

    fn scram() -> impl Strategy<Value = Option<ScramSecrets>> {
        let keys = || {
            any::<(Vec<u8>, u32, Vec<u8>, Vec<u8>)>().prop_map(
                |(salt, iterations, stored_key, server_key)| ScramKeys {
                    salt,
                    iterations,
                    stored_key,
                    server_key,
                },
            )
        };
        let secrets = (keys(), keys()).prop_map(|(sha1, sha256)| ScramSecrets { sha1, sha256 });
        proptest::option::of(secrets)
    }

    #[test]
    fn an_account_of_the_first_version_has_no_secrets() {
        let record = AccountRecord {
            id: AccountId::new(7),
            address: Address::parse("ann@x.test").unwrap(),
            logins: vec!["al".into()],
            password: Some(PasswordHash::new("$x")),
            enabled: true,
            when_disabled: WhenDisabled::Reject,
            quota: Quota::UNLIMITED,
            full_name: "Ann".into(),
            created: Timestamp::from_millis(3),
            admin: true,
            public: false,
            services: AccountServices::default(),
        };
        let mut row = encode_account(&record);
        assert_eq!(
            (row[0], row.split_off(row.len() - 4)),
            (ACCOUNT_VERSION, vec![0; 4])
        );
        row[0] = 1;
        assert_eq!(decode_account(&row), Ok(record.clone()));
        row[0] = 2;
        row.push(0);
        assert_eq!(decode_account(&row), Ok(record));
    }

    #[test]
    fn a_domain_of_the_first_version_has_no_bound_of_mailboxes() {
        let row = DomainRow::Domain(DomainRecord {
            name: Domain::parse("x.test").unwrap(),
            alternates: Vec::new(),
            enabled: true,
            catch_all: Vec::new(),
            subaddress: Subaddress::Default,
            default_quota: Quota::UNLIMITED,
            created: Timestamp::from_millis(3),
            accounts: 1,
            aliases: 2,
        });
        let mut old = row.encode();
        assert_eq!((old[0], old.pop()), (DOMAIN_VERSION, Some(0)));
        old[0] = 1;
        assert_eq!(DomainRow::decode(&old), Ok(row));
    }

    proptest! {
        #[test]
        fn an_account_reads_back_as_written(
            (id, address, logins, password) in (any::<u64>(), address(), any::<Vec<String>>(), "[$a-z]{0,9}"),
            (enabled, defer, quota, full_name, created, admin) in
                (any::<bool>(), any::<bool>(), quota(), any::<String>(), any::<i64>(), any::<bool>()),
            (scram, public) in (scram(), any::<bool>()),
        ) {
            let hash = (!password.is_empty()).then(|| PasswordHash::new(password));
            let record = AccountRecord {
                id: AccountId::new(id),
                address,
                logins,
                password: hash.map(|hash| match scram {
                    Some(secrets) => hash.with_scram(secrets),
                    None => hash,
                }),
                enabled,
                when_disabled: if defer { WhenDisabled::Defer } else { WhenDisabled::Reject },
                quota,
                full_name,
                created: Timestamp::from_millis(created),
                admin,
                public,
                services: AccountServices {
                    save_sent: public,
                    ..AccountServices::default()
                },
            };
            prop_assert_eq!(decode_account(&encode_account(&record)), Ok(record));
        }

        #[test]
        fn a_domain_reads_back_as_written(
            alternates in proptest::collection::vec("[a-z]{1,6}", 0..4),
            catch_all in proptest::collection::vec(address(), 0..3),
            (enabled, subaddress, default_quota) in (any::<bool>(), subaddress(), quota()),
            (created, accounts, aliases) in any::<(i64, u64, u64)>(),
        ) {
            let row = DomainRow::Domain(DomainRecord {
                name: Domain::parse("x.test").unwrap(),
                alternates: alternates.iter().map(|name| Domain::parse(name).unwrap()).collect(),
                enabled,
                catch_all,
                subaddress,
                default_quota,
                created: Timestamp::from_millis(created),
                accounts,
                aliases,
            });
            prop_assert_eq!(DomainRow::decode(&row.encode()), Ok(row));
        }

        #[test]
        fn an_alias_reads_back_as_written(
            address in address(),
            targets in proptest::collection::vec(address(), 0..5),
        ) {
            let row = AddressRow::Alias(AliasRecord { address, targets });
            prop_assert_eq!(AddressRow::decode(&row.encode()), Ok(row));
        }

        #[test]
        fn no_row_makes_a_reader_panic(row: Vec<u8>) {
            let _ = DomainRow::decode(&row);
            let _ = AddressRow::decode(&row);
            let _ = decode_account(&row);
            let _ = decode_ids(&row);
        }
    }
}
