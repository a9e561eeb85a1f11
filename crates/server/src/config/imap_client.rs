//! The keys about IMAP clients that cannot handle what others can.

use nightmail_imap::ClientRule;

use super::define::{TableReader, section};

section! {
    /// Capabilities that are kept from an IMAP client that stumbles over them, by the name and version that it tells of
    /// itself (ID, RFC 2971). Write one [[imap_client]] for each; all that apply count. Nothing is kept from a client
    /// that does not say who it is, nor before it has.
    ImapClient {
        /// Its name: "*" stands for anything, "?" for one character; letters have no case.
        name: String = "*".to_owned();
        /// Its version in the same way; one that tells none has an empty one.
        version: String = "*".to_owned();
        /// The capabilities that it is not told of, as CAPABILITY names them.
        hide: Vec<String> = Vec::new(), sample "[\"COMPRESS=DEFLATE\"]";
    }
}

/// An `[[imap_client]]` from which nothing is kept.
pub(super) fn check((client, reader): (&ImapClient, &mut TableReader<'_, '_>)) {
    if client.hide.is_empty() {
        reader.problem("give the capabilities to `hide`");
    }
}

impl ImapClient {
    /// The same as the protocol machine knows it.
    pub(crate) fn rule(&self) -> ClientRule {
        ClientRule {
            name: self.name.clone(),
            version: self.version.clone(),
            hide: self.hide.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_client_is_spared_something() {
        let text = "[[imap_client]]\nname = \"Old*\"\nhide = [\"MOVE\"]\n";
        let config = Config::parse(text).unwrap();
        let rule = config.imap_clients.first().unwrap().rule();
        assert!(rule.applies_to("oldmail", "3"));
        let problems = Config::parse("[[imap_client]]\nname = \"Old*\"\n").unwrap_err();
        assert!(format!("{problems:?}").contains("`hide`"));
    }
}
