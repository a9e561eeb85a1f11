//! The name in HELO and EHLO: whether it can be the client's (RFC 5321 §4.1.1.1, §4.1.4).

use std::net::IpAddr;

use nightmail_core::Domain;
use thiserror::Error;

/// Why a name cannot be the client's. A mail server that is set up well has none of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HeloProblem {
    /// Neither a host name nor an address literal.
    #[error("not a host name")]
    NotAName,
    /// An address without brackets.
    #[error("an address needs brackets")]
    BareAddress,
    /// An address literal of another address.
    #[error("not your address")]
    OtherAddress,
    /// A name without a dot.
    #[error("not a full host name")]
    Unqualified,
    /// Our own name or address.
    #[error("that name is ours")]
    OwnName,
}

/// What is wrong with the name that `client` gives, if anything. `own_names` are names and addresses of this host.
pub fn helo_problem(helo: &str, client: IpAddr, own_names: &[&str]) -> Option<HeloProblem> {
    let client = client.to_canonical();
    let bare = helo.trim_start_matches('[').trim_end_matches(']');
    let is_own = |own: &&str| {
        let own = own.trim_end_matches('.');
        own.eq_ignore_ascii_case(helo.trim_end_matches('.')) || own.eq_ignore_ascii_case(bare)
    };
    if own_names.iter().any(is_own) {
        return Some(HeloProblem::OwnName);
    }
    if helo.parse::<IpAddr>().is_ok() {
        return Some(HeloProblem::BareAddress);
    }
    let Ok(domain) = Domain::parse(helo) else {
        return Some(HeloProblem::NotAName);
    };
    match domain.as_literal() {
        Some(ip) if ip.to_canonical() == client => None,
        Some(_) => Some(HeloProblem::OtherAddress),
        None if domain.as_str().contains('.') => None,
        None => Some(HeloProblem::Unqualified),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_names_and_the_clients_own_literal_are_fine() {
        for (helo, client) in [
            ("mail.example.org", "192.0.2.1"),
            ("MAIL.example.org.", "192.0.2.1"),
            ("b\u{fc}cher.example", "192.0.2.1"),
            ("[192.0.2.1]", "192.0.2.1"),
            ("[192.0.2.1]", "::ffff:192.0.2.1"),
            ("[IPv6:2001:db8::1]", "2001:db8::1"),
        ] {
            assert_eq!(
                helo_problem(helo, client.parse().unwrap(), &[]),
                None,
                "{helo}"
            );
        }
    }

    #[test]
    fn what_cannot_be_the_clients_name_is_told() {
        use HeloProblem::{BareAddress, NotAName, OtherAddress, OwnName, Unqualified};
        let client = "192.0.2.1".parse().unwrap();
        for (helo, problem) in [
            ("localhost", Unqualified),
            ("192.0.2.1", BareAddress),
            ("2001:db8::1", BareAddress),
            ("[192.0.2.2]", OtherAddress),
            ("[192.0.2.1", NotAName),
            ("-a-.example", NotAName),
            ("a..example", NotAName),
            ("", NotAName),
            ("MX.here.test", OwnName),
            ("mx.here.test.", OwnName),
            ("[198.51.100.1]", OwnName),
            ("198.51.100.1", OwnName),
        ] {
            let own = ["mx.here.test", "198.51.100.1"];
            assert_eq!(helo_problem(helo, client, &own), Some(problem), "{helo}");
        }
    }
}
