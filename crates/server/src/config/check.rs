//! What is wrong with a table or a section although each of its keys is well-formed.

use super::define::TableReader;
use super::{
    Access, AccessAction, AcmeChallenge, Certificate, Config, DnsList, ListenAddress, Listener,
    Protocol, TlsMode, TokenIssuer,
};

/// A `[[listener]]` whose keys do not fit each other.
pub(super) fn listener((listener, reader): (&Listener, &mut TableReader<'_, '_>)) {
    if !matches!(listener.address, ListenAddress::Unix(_)) {
        if listener.protocol == Protocol::Admin {
            reader.problem("the admin API asks for no password, so it is served on Unix-domain sockets only: write address = \"unix:/path\"; metrics are under `http` in [admin]");
        }
        return;
    }
    if !matches!(listener.protocol, Protocol::Lmtp | Protocol::Admin) {
        reader.problem("only \"lmtp\" and \"admin\" can listen on a Unix-domain socket");
    }
    if listener.tls == TlsMode::Implicit {
        reader.problem("a Unix-domain socket does not use TLS; leave `tls` out");
    }
    if !listener.proxy_protocol_from.is_empty() {
        reader.problem(
            "the processes behind a Unix-domain socket have no IP address; leave `proxy_protocol_from` out",
        );
    }
}

/// A `[[certificate]]` that is not whole.
pub(super) fn certificate((table, reader): (&Certificate, &mut TableReader<'_, '_>)) {
    if table.certificate.is_none() || table.key.is_none() {
        reader.problem("give both `certificate` and `key`");
    }
}

/// An `[[access]]` rule whose action lacks what it needs.
pub(super) fn access((rule, reader): (&Access, &mut TableReader<'_, '_>)) {
    let (missing, for_what) = match rule.action {
        AccessAction::Reject | AccessAction::Defer => (rule.text.is_none(), "a `text`"),
        AccessAction::Tag => (rule.tag.is_none(), "a `tag`"),
        AccessAction::Route => (rule.route.is_none(), "an address in `route`"),
        AccessAction::Accept | AccessAction::Discard => (false, ""),
    };
    if missing {
        reader.problem(&format!("action = \"{}\" needs {for_what}", rule.action));
    }
}

/// A `[[dns_list]]` without a zone.
pub(super) fn dns_list((list, reader): (&DnsList, &mut TableReader<'_, '_>)) {
    if list.zone.is_none() {
        reader.problem("give its `zone`");
    }
}

/// A `[[token_issuer]]` that nobody's tokens could be checked with.
pub(super) fn token_issuer((issuer, reader): (&TokenIssuer, &mut TableReader<'_, '_>)) {
    if issuer.issuer.is_empty() {
        reader.problem("give the `issuer` that stands in its tokens");
    }
    if issuer.keys.is_none() {
        reader.problem("give the file with its public `keys`");
    }
}

impl Config {
    /// What is wrong with the sections about mail that comes in, and about certificates.
    pub(super) fn validate_receiving(&self, refuse: &mut impl FnMut(bool, &str)) {
        let receiving = &self.receiving;
        refuse(
            receiving.greylist_delay >= receiving.greylist_window,
            "[receiving]: `greylist_window` must be longer than `greylist_delay`",
        );
        refuse(
            receiving.greylist_window > receiving.greylist_lifetime,
            "[receiving]: `greylist_lifetime` must be at least `greylist_window`",
        );
        refuse(
            self.authentication.arc_seal && self.authentication.arc_domain.is_none(),
            "[authentication]: `arc_seal` needs an `arc_domain`",
        );
        let acme = &self.acme;
        refuse(
            acme.directory.is_some()
                && acme.challenge == AcmeChallenge::Dns
                && acme.dns_hook.is_none(),
            "[acme]: challenge = \"dns-01\" needs a `dns_hook`",
        );
        if let Err(error) = crate::gate::rules(self) {
            refuse(true, &format!("[[access]]: {error}"));
        }
    }
}
