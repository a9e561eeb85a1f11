//! Lists come in pages; a command shows the whole list.

use nightmail_admin::{AdminRequest, AdminResponse};

use crate::error::CommandError;
use crate::operator::Operator;

/// Asks, and goes on asking until a list is complete, or as long as was asked for.
pub(crate) async fn ask_all(
    operator: &mut Operator,
    mut request: AdminRequest,
) -> Result<AdminResponse, CommandError> {
    let mut whole = operator.ask(request.clone()).await?;
    if let AdminRequest::QueueList { limit: Some(_), .. } = request {
        return Ok(whole);
    }
    while let Some(next) = take_next(&mut whole) {
        set_after(&mut request, next);
        append(&mut whole, operator.ask(request.clone()).await?);
    }
    Ok(whole)
}

/// Where the page after this one begins, if there is one.
fn take_next(response: &mut AdminResponse) -> Option<String> {
    match response {
        AdminResponse::Domains { next, .. }
        | AdminResponse::Accounts { next, .. }
        | AdminResponse::Aliases { next, .. }
        | AdminResponse::Greylist { next, .. }
        | AdminResponse::Queue { next, .. }
        | AdminResponse::QueueDestinations { next, .. } => next.take(),
        _ => None,
    }
}

fn set_after(request: &mut AdminRequest, next: String) {
    match request {
        AdminRequest::DomainList { after, .. }
        | AdminRequest::AccountList { after, .. }
        | AdminRequest::AliasList { after, .. }
        | AdminRequest::GreylistList { after, .. }
        | AdminRequest::QueueList { after, .. }
        | AdminRequest::QueueDestinations { after, .. } => *after = Some(next),
        _ => {}
    }
}

fn append(whole: &mut AdminResponse, page: AdminResponse) {
    use AdminResponse as R;
    match (whole, page) {
        (
            R::Domains { items, next },
            R::Domains {
                items: more,
                next: then,
            },
        ) => {
            items.extend(more);
            *next = then;
        }
        (
            R::Accounts { items, next },
            R::Accounts {
                items: more,
                next: then,
            },
        ) => {
            items.extend(more);
            *next = then;
        }
        (
            R::Aliases { items, next },
            R::Aliases {
                items: more,
                next: then,
            },
        ) => {
            items.extend(more);
            *next = then;
        }
        (
            R::Queue { items, next },
            R::Queue {
                items: more,
                next: then,
            },
        ) => {
            items.extend(more);
            *next = then;
        }
        (
            R::QueueDestinations { items, next },
            R::QueueDestinations {
                items: more,
                next: then,
            },
        ) => {
            items.extend(more);
            *next = then;
        }
        (
            R::Greylist { items, next },
            R::Greylist {
                items: more,
                next: then,
            },
        ) => {
            items.extend(more);
            *next = then;
        }
        _ => {}
    }
}
