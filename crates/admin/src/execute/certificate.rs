//! Certificates: those of files, and those that are fetched from an authority.

use nightmail_certs::acme::{self, AcmeError, OrderStatus, OrderView};

use super::Answer;
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::response::{AdminResponse, CertificateView};

pub(super) async fn list(context: &AdminContext) -> Answer {
    let engine = context.store.committer().engine();
    let fetched = acme::list(engine.as_ref())
        .await
        .map_err(|error| AdminError::failed(error.to_string()))?;
    let mut items: Vec<_> = fetched.into_iter().map(view).collect();
    items.extend(context.certificates());
    Ok(AdminResponse::Certificates { items })
}

pub(super) async fn renew(context: &AdminContext, name: Option<&str>) -> Answer {
    let engine = context.store.committer().engine();
    let count =
        acme::request_renewal(engine.as_ref(), name)
            .await
            .map_err(|error| match error {
                AcmeError::Store(says) => AdminError::failed(says),
                other => AdminError::refused(other.to_string()),
            })?;
    match (count, name) {
        (0, Some(name)) => Err(AdminError::refused(format!(
            "no certificate for {name} was ever fetched; see `certificate list`, and `certificates` in [acme]"
        ))),
        (0, None) => Err(AdminError::refused(
            "no certificate was ever fetched; see [acme] in the configuration",
        )),
        _ => Ok(AdminResponse::Renewing { count }),
    }
}

fn view(order: OrderView) -> CertificateView {
    let state = match order.status {
        OrderStatus::Good => "good".to_owned(),
        OrderStatus::Waiting => "to be fetched".to_owned(),
        OrderStatus::Requested => "to be fetched now".to_owned(),
        OrderStatus::Failing { error, next } => format!("not fetched: {error}; again at {next}"),
    };
    CertificateView {
        names: order.names,
        source: order.directory.unwrap_or_else(|| "acme".to_owned()),
        valid_until: order.not_after.map(|until| until.to_string()),
        attempted: order.attempted.map(|at| at.to_string()),
        state,
    }
}
