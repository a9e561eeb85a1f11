//! What a driver tells a session about its TLS layer.

/// The outcome of a TLS handshake, as `Received:` fields and logs show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// Protocol version, such as `TLSv1.3`.
    pub version: Box<str>,
    /// Cipher suite by its IANA name.
    pub cipher: Box<str>,
    /// Server name that the client asked for (RFC 6066 §3), where it did.
    pub server_name: Option<Box<str>>,
    /// Whether the peer's certificate was verified.
    pub peer_verified: bool,
}
