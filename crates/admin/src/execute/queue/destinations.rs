//! Where queued mail goes to.

use std::collections::HashMap;

use nightmail_queue::{Destination, DestinationStats, HurryTarget, RelayName, accepted_at};

use crate::context::AdminContext;
use crate::error::AdminError;
use crate::execute::{Answer, page_limit, parse_domain};
use crate::response::{AdminResponse, DestinationView};

pub(super) async fn list(
    context: &AdminContext,
    after: Option<&str>,
    limit: Option<usize>,
) -> Answer {
    let after = after.map(parse).transpose()?;
    let limit = page_limit(limit);
    let found = context.queue.destinations(after.as_ref(), limit).await?;
    let last = found.last().filter(|_| found.len() == limit);
    let next = last.map(|stats| stats.destination.to_string());
    let sending = context.sending();
    let states = sending.map(|sending| sending.destinations().into_iter().collect());
    let states = states.unwrap_or_default();
    let items = found.iter().map(|stats| view(stats, &states)).collect();
    Ok(AdminResponse::QueueDestinations { items, next })
}

/// Makes a domain's mail due at once, on whatever node it is.
pub(super) async fn run(context: &AdminContext, domain: &str) -> Answer {
    let domain = parse_domain(domain)?;
    let target = HurryTarget::Domain(domain.clone());
    let count = context.queue.hurry(&target).await?;
    if let Some(sending) = context.sending() {
        sending.run_now(&Destination::Domain(domain));
    }
    Ok(AdminResponse::Retried { count })
}

/// Reads what a destination is shown as.
fn parse(text: &str) -> Result<Destination, AdminError> {
    if text == Destination::Unrouted.to_string() {
        return Ok(Destination::Unrouted);
    }
    match text.strip_prefix("relay ").and_then(RelayName::new) {
        Some(relay) => Ok(Destination::Relay(relay)),
        None => parse_domain(text).map(Destination::Domain),
    }
}

fn view(stats: &DestinationStats, states: &HashMap<Destination, String>) -> DestinationView {
    DestinationView {
        destination: stats.destination.to_string(),
        pending: stats.pending,
        deferred: stats.deferred,
        oldest: accepted_at(stats.oldest).to_string(),
        next_due: Some(stats.next_due.to_string()),
        state: states.get(&stats.destination).cloned().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_found_by_how_it_is_shown() {
        for destination in [
            Destination::Domain("far.test".parse().unwrap()),
            Destination::Relay(RelayName::new("hub").unwrap()),
            Destination::Unrouted,
        ] {
            assert_eq!(parse(&destination.to_string()).unwrap(), destination);
        }
        assert!(parse("a b").is_err());
    }
}
