//! What an operator sees of fetched certificates, and may ask.

use std::collections::BTreeMap;

use nightmail_core::Timestamp;
use nightmail_engine::{Batch, CommitError, Durability, Engine, EngineError, Value};

use super::AcmeError;
use super::rows::{self, CertificateRow, OrderRow};
use crate::leaf::Leaf;

/// Times a row is written again because it was changed meanwhile.
const TRIES_MAX: usize = 10;

/// How fetching a certificate goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OrderStatus {
    /// The last attempt succeeded.
    Good,
    /// An attempt is to be made at the next look.
    Waiting,
    /// An operator has asked for an attempt.
    Requested,
    /// The last attempt failed, or is under way.
    Failing {
        /// Why.
        error: String,
        /// When the next one is due.
        next: Timestamp,
    },
}

/// One certificate that was or is to be fetched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderView {
    /// The names it was asked for.
    pub names: Vec<String>,
    /// Until when it is valid; `None` where there is none yet.
    pub not_after: Option<Timestamp>,
    /// The directory of the authority that it came from.
    pub directory: Option<String>,
    /// When an attempt last began.
    pub attempted: Option<Timestamp>,
    /// How it goes.
    pub status: OrderStatus,
}

type Known = BTreeMap<String, (OrderRow, Option<Value>, Option<CertificateRow>)>;

async fn known(engine: &dyn Engine) -> Result<Known, EngineError> {
    let mut known = Known::new();
    for (id, value) in rows::all(engine, rows::ORDER).await? {
        let row = OrderRow::decode(&value).unwrap_or_default();
        known.insert(id, (row, Some(value), None));
    }
    for (id, value) in rows::all(engine, rows::CERTIFICATE).await? {
        let Ok(row) = CertificateRow::decode(&value) else {
            continue;
        };
        let entry = known.entry(id).or_default();
        if entry.0.names.is_empty() {
            entry.0.names.clone_from(&row.names);
        }
        entry.2 = Some(row);
    }
    Ok(known)
}

/// All certificates that were fetched or attempted, by their first names.
pub async fn list(engine: &dyn Engine) -> Result<Vec<OrderView>, EngineError> {
    let known = known(engine).await?;
    let views = known.into_values().map(|(order, _, certificate)| {
        let leaf = certificate
            .as_ref()
            .and_then(|row| Leaf::read(row.chain.first()?));
        OrderView {
            status: status(&order, certificate.is_some()),
            names: order.names,
            not_after: leaf.map(|leaf| leaf.not_after),
            directory: certificate.map(|row| row.directory),
            attempted: order.attempted,
        }
    });
    Ok(views.collect())
}

fn status(order: &OrderRow, is_there: bool) -> OrderStatus {
    match order.not_before {
        _ if order.requested => OrderStatus::Requested,
        Some(next) => OrderStatus::Failing {
            error: order.error.clone(),
            next,
        },
        None if is_there => OrderStatus::Good,
        None => OrderStatus::Waiting,
    }
}

/// Asks for an attempt to fetch the certificates that bear `name`, or all of them, whenever they are due and however
/// attempts failed before. The node that fetches sees it when it next looks. Returns how many there are.
pub async fn request_renewal(engine: &dyn Engine, name: Option<&str>) -> Result<u64, AcmeError> {
    for _ in 0..TRIES_MAX {
        let mut batch = Batch::new();
        let mut count = 0;
        for (id, (mut order, seen, _)) in known(engine).await? {
            let bears = |name: &str| order.names.iter().any(|own| own.eq_ignore_ascii_case(name));
            if !name.is_none_or(bears) {
                continue;
            }
            order.requested = true;
            let key = rows::order_key(&id);
            batch.check(key.clone(), seen);
            batch.put(key, order.encode());
            count += 1;
        }
        match engine.commit(batch, Durability::Synced).await {
            Ok(()) => return Ok(count),
            Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(AcmeError::Store("the rows change all the time".to_owned()))
}
