//! Paths (RFC 5321 §4.1.2): what stands between angle brackets in MAIL and RCPT.
//!
//! Source routes are accepted and dropped (RFC 5321 appendix C).

use nightmail_core::{Address, AddressError, Domain, ForwardPath, ReversePath};

use super::{CommandError, is_blank};

/// Parts `FROM:` or `TO:` from what follows.
pub(super) fn strip_keyword<'a>(args: &'a [u8], keyword: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = args.split_at_checked(keyword.len())?;
    found
        .eq_ignore_ascii_case(keyword)
        .then(|| rest.trim_ascii_start())
}

/// Parts a path, given without its brackets, from the parameters after it.
pub(super) fn split_path(args: &[u8], unbracketed: bool) -> Option<(&[u8], &[u8])> {
    let (path, rest) = match args.strip_prefix(b"<") {
        Some(inside) => {
            let (path, rest) = inside.split_at_checked(closing_bracket(inside)?)?;
            (path, rest.strip_prefix(b">")?)
        }
        None if unbracketed => {
            let end = args.iter().position(|b| is_blank(*b)).unwrap_or(args.len());
            args.split_at_checked(end)
                .filter(|(path, _)| !path.is_empty())?
        }
        None => return None,
    };
    match rest.first() {
        Some(byte) if !is_blank(*byte) => None,
        _ => Some((path, rest)),
    }
}

/// The index of the `>` that is not within a quoted local-part.
fn closing_bracket(inside: &[u8]) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    inside.iter().position(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' => return !quoted,
            _ => {}
        }
        false
    })
}

/// Reads the path of MAIL.
pub(super) fn reverse_path(path: &[u8]) -> Result<ReversePath, CommandError> {
    match path {
        [] => Ok(ReversePath::Null),
        path => address(path)
            .map(ReversePath::Address)
            .ok_or(CommandError::ReversePath),
    }
}

/// Reads the path of RCPT.
pub(super) fn forward_path(path: &[u8]) -> Result<ForwardPath, CommandError> {
    if path.eq_ignore_ascii_case(b"postmaster") {
        return Ok(ForwardPath::Postmaster);
    }
    address(path)
        .map(ForwardPath::Address)
        .ok_or(CommandError::ForwardPath)
}

fn address(path: &[u8]) -> Option<Address> {
    let text = std::str::from_utf8(path).ok()?;
    let mailbox = match text.starts_with('@') {
        true => after_source_route(text)?,
        false => text,
    };
    Address::parse(mailbox).ok()
}

/// `@a,@b:user@c` gives `user@c`.
fn after_source_route(text: &str) -> Option<&str> {
    let (route, mailbox) = text.split_once(':')?;
    let is_hop = |hop: &str| -> Result<(), AddressError> {
        let name = hop.strip_prefix('@').ok_or(AddressError::Domain)?;
        Domain::parse(name).map(drop)
    };
    route
        .split(',')
        .all(|hop| is_hop(hop).is_ok())
        .then_some(mailbox)
}
