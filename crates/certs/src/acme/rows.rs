//! The rows of the `Meta` space that begin with `acme/`.

use std::fmt;

use nightmail_core::Timestamp;
use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_engine::{Engine, EngineError, KeyRange, Order, RowKey, Space, Value};

const VERSION: u8 = 1;
const ACCOUNT: &str = "acme/account/";
pub(super) const CERTIFICATE: &str = "acme/certificate/";
pub(super) const ORDER: &str = "acme/order/";
pub(super) const CHALLENGE: &str = "acme/challenge/";
/// Rows read at once.
const PAGE: usize = 100;
/// The longest token of a challenge and the longest name that is looked up: what anybody on the network may send.
const LOOKUP_OCTETS_MAX: usize = 255;

fn meta(prefix: &str, rest: &str) -> RowKey {
    RowKey::new(Space::Meta, format!("{prefix}{rest}").into_bytes())
}

pub(super) fn account_key(directory: &str) -> RowKey {
    meta(ACCOUNT, directory)
}

pub(super) fn certificate_key(id: &str) -> RowKey {
    meta(CERTIFICATE, id)
}

pub(super) fn order_key(id: &str) -> RowKey {
    meta(ORDER, id)
}

/// The key of an answer, as [`all`] gives its rest.
pub(super) fn challenge_key(rest: &str) -> RowKey {
    meta(CHALLENGE, rest)
}

/// Under what the answer to a challenge is kept: the token (HTTP) or the name (TLS).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked<'a> {
    Token(&'a str),
    Name(&'a str),
}

impl Asked<'_> {
    /// `None` for what no challenge can be called.
    pub(super) fn key(self) -> Option<RowKey> {
        let (kind, text) = match self {
            Self::Token(token) => ("http-01/", token),
            Self::Name(name) => ("tls-alpn-01/", name),
        };
        let fits = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.');
        let good = (1..=LOOKUP_OCTETS_MAX).contains(&text.len()) && text.bytes().all(fits);
        good.then(|| meta(CHALLENGE, &format!("{kind}{text}")))
    }
}

/// The account at one authority.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct AccountRow {
    /// Its id and private key, as the ACME library writes them.
    pub(super) credentials: String,
    /// The contact that the authority knows.
    pub(super) contact: String,
}

impl fmt::Debug for AccountRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountRow")
            .field("contact", &self.contact)
            .finish_non_exhaustive()
    }
}

impl AccountRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.str(&self.credentials).str(&self.contact);
        row.finish()
    }

    pub(super) fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut row, _) = RowReader::new(row, VERSION)?;
        Ok(Self {
            credentials: row.str()?.to_owned(),
            contact: row.str()?.to_owned(),
        })
    }
}

/// A certificate that was fetched.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct CertificateRow {
    pub(super) names: Vec<String>,
    /// DER, the certificate itself first.
    pub(super) chain: Vec<Vec<u8>>,
    /// The private key, PKCS#8.
    pub(super) pkcs8: Vec<u8>,
    /// When it was fetched.
    pub(super) fetched: Timestamp,
    /// From where.
    pub(super) directory: String,
}

impl fmt::Debug for CertificateRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateRow")
            .field("names", &self.names)
            .field("fetched", &self.fetched)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl CertificateRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        write_names(&mut row, &self.names);
        row.varint(self.chain.len() as u64);
        for certificate in &self.chain {
            row.bytes(certificate);
        }
        row.bytes(&self.pkcs8)
            .i64(self.fetched.millis())
            .str(&self.directory);
        row.finish()
    }

    pub(super) fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut row, _) = RowReader::new(row, VERSION)?;
        let names = read_names(&mut row)?;
        let count = row.varint()?;
        let chain = (0..count)
            .map(|_| row.bytes().map(<[u8]>::to_vec))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            names,
            chain,
            pkcs8: row.bytes()?.to_vec(),
            fetched: Timestamp::from_millis(row.i64()?),
            directory: row.str()?.to_owned(),
        })
    }
}

fn write_names(row: &mut RowWriter, names: &[String]) {
    row.varint(names.len() as u64);
    for name in names {
        row.str(name);
    }
}

fn read_names(row: &mut RowReader<'_>) -> Result<Vec<String>, RowError> {
    let count = row.varint()?;
    (0..count).map(|_| row.str().map(str::to_owned)).collect()
}

/// How fetching a certificate goes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct OrderRow {
    pub(super) names: Vec<String>,
    /// Attempts that failed, since one succeeded. One under way counts as failed until it has succeeded.
    pub(super) failures: u32,
    /// When an attempt last began.
    pub(super) attempted: Option<Timestamp>,
    /// No attempt begins before.
    pub(super) not_before: Option<Timestamp>,
    /// Why the last one failed; empty where it did not.
    pub(super) error: String,
    /// An operator wants an attempt now, whatever the other fields say.
    pub(super) requested: bool,
}

impl OrderRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        write_names(&mut row, &self.names);
        row.u32(self.failures);
        write_time(&mut row, self.attempted);
        write_time(&mut row, self.not_before);
        row.str(&self.error).u8(u8::from(self.requested));
        row.finish()
    }

    pub(super) fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut row, _) = RowReader::new(row, VERSION)?;
        Ok(Self {
            names: read_names(&mut row)?,
            failures: row.u32()?,
            attempted: read_time(&mut row)?,
            not_before: read_time(&mut row)?,
            error: row.str()?.to_owned(),
            requested: row.u8()? != 0,
        })
    }
}

fn write_time(row: &mut RowWriter, time: Option<Timestamp>) {
    row.u8(u8::from(time.is_some()));
    if let Some(time) = time {
        row.i64(time.millis());
    }
}

fn read_time(row: &mut RowReader<'_>) -> Result<Option<Timestamp>, RowError> {
    match row.u8()? {
        0 => Ok(None),
        _ => Ok(Some(Timestamp::from_millis(row.i64()?))),
    }
}

/// The answer to a challenge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ChallengeRow {
    /// The key authorization (HTTP), or its digest (TLS).
    pub(super) answer: Vec<u8>,
    /// Nobody asks after that.
    pub(super) until: Timestamp,
}

impl ChallengeRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.bytes(&self.answer).i64(self.until.millis());
        row.finish()
    }

    pub(super) fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut row, _) = RowReader::new(row, VERSION)?;
        Ok(Self {
            answer: row.bytes()?.to_vec(),
            until: Timestamp::from_millis(row.i64()?),
        })
    }
}

/// The value of one row.
pub(super) async fn get(engine: &dyn Engine, key: &RowKey) -> Result<Option<Value>, EngineError> {
    let mut rows = engine.get_many(std::slice::from_ref(key)).await?;
    Ok(rows.pop().flatten())
}

/// The answer to a challenge; `None` where there is none such.
pub(super) async fn answer(
    engine: &dyn Engine,
    asked: Asked<'_>,
) -> Result<Option<Vec<u8>>, EngineError> {
    let Some(key) = asked.key() else {
        return Ok(None);
    };
    let row = get(engine, &key).await?;
    Ok(row.and_then(|row| Some(ChallengeRow::decode(&row).ok()?.answer)))
}

/// Every row under a prefix: what follows the prefix in its key, and its value.
pub(super) async fn all(
    engine: &dyn Engine,
    prefix: &str,
) -> Result<Vec<(String, Value)>, EngineError> {
    let mut range = KeyRange::prefix(prefix.as_bytes());
    let mut found = Vec::new();
    loop {
        let page = engine
            .scan(Space::Meta, range.clone(), Order::Ascending, PAGE)
            .await?;
        let full = page.len() == PAGE;
        let last = page.last().map(|(key, _)| key.clone());
        found.extend(page.into_iter().filter_map(|(key, value)| {
            let rest = key.strip_prefix(prefix.as_bytes())?;
            Some((String::from_utf8(rest.to_vec()).ok()?, value))
        }));
        match last {
            Some(last) if full => range = range.beyond(&last, Order::Ascending),
            _ => return Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn time() -> impl Strategy<Value = Option<Timestamp>> {
        any::<Option<i64>>().prop_map(|millis| millis.map(Timestamp::from_millis))
    }

    proptest! {
        #[test]
        fn an_order_reads_back(
            names in vec(".{0,9}", 0..4), failures: u32, attempted in time(), not_before in time(),
            error in ".{0,20}", requested: bool,
        ) {
            let row = OrderRow { names, failures, attempted, not_before, error, requested };
            prop_assert_eq!(OrderRow::decode(&row.encode()).unwrap(), row);
        }

        #[test]
        fn a_certificate_reads_back_and_no_cut_of_it_does(
            names in vec(".{0,9}", 0..4), chain in vec(vec(any::<u8>(), 0..20), 0..3),
            pkcs8 in vec(any::<u8>(), 0..20), fetched: i64, directory in ".{0,9}",
        ) {
            let fetched = Timestamp::from_millis(fetched);
            let row = CertificateRow { names, chain, pkcs8, fetched, directory };
            let octets = row.encode();
            prop_assert_eq!(CertificateRow::decode(&octets).unwrap(), row);
            for cut in 0..octets.len() {
                prop_assert!(CertificateRow::decode(&octets[..cut]).is_err());
            }
        }

        #[test]
        fn no_octets_make_reading_panic(octets in vec(any::<u8>(), 0..60)) {
            let _ = OrderRow::decode(&octets);
            let _ = CertificateRow::decode(&octets);
            let _ = AccountRow::decode(&octets);
            let _ = ChallengeRow::decode(&octets);
        }
    }

    #[test]
    fn an_account_and_an_answer_read_back() {
        let account = AccountRow {
            credentials: "{}".to_owned(),
            contact: "a@b.test".to_owned(),
        };
        assert_eq!(AccountRow::decode(&account.encode()).unwrap(), account);
        let answer = ChallengeRow {
            answer: b"token.thumb".to_vec(),
            until: Timestamp::from_secs(7),
        };
        assert_eq!(ChallengeRow::decode(&answer.encode()).unwrap(), answer);
    }

    #[test]
    fn keys_are_not_shown() {
        let account = AccountRow {
            credentials: "SECRET".to_owned(),
            contact: String::new(),
        };
        let certificate = CertificateRow {
            names: Vec::new(),
            chain: Vec::new(),
            pkcs8: b"SECRET".to_vec(),
            fetched: Timestamp::from_secs(0),
            directory: String::new(),
        };
        let shown = format!("{account:?} {certificate:?}");
        assert!(
            !shown.contains("SECRET") && !shown.contains("83"),
            "{shown}"
        );
    }

    #[test]
    fn nothing_but_tokens_and_names_is_looked_up() {
        assert!(Asked::Token("AbC-_9").key().is_some());
        for text in ["", "a/b", "a b", "é", &"a".repeat(256)] {
            assert_eq!(Asked::Token(text).key(), None, "{text}");
        }
        assert_ne!(Asked::Token("a").key(), Asked::Name("a").key());
    }
}
