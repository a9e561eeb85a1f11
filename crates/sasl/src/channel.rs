//! What the connection under an exchange brings along.

use std::fmt;

/// Facts of a TLS connection; the default is a connection without TLS.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Channel {
    /// Channel bindings and their data, by the names of RFC 5929 and RFC 9266: `tls-exporter`,
    /// `tls-server-end-point`, `tls-unique`.
    pub bindings: Vec<(&'static str, Vec<u8>)>,
    /// Whether the client has shown a certificate that was verified.
    pub certificate: bool,
}

impl Channel {
    /// The data of a binding.
    pub(crate) fn binding(&self, name: &str) -> Option<&[u8]> {
        let mut bindings = self.bindings.iter();
        let found = bindings.find(|(known, _)| *known == name);
        found.map(|(_, data)| data.as_slice())
    }
}

/// Names only: the data ties a login to this connection.
impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.bindings.iter().map(|(name, _)| name).collect();
        f.debug_struct("Channel")
            .field("bindings", &names)
            .field("certificate", &self.certificate)
            .finish()
    }
}
