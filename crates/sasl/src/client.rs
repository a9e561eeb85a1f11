//! The client's side of mechanisms, for relays that want a login and for whoever checks a server.

use crate::{Password, ScramHash, decode, encode};

/// The response to PLAIN, acting as oneself (RFC 4616 §2).
pub fn plain(identity: &str, password: &Password) -> Vec<u8> {
    format!("\0{identity}\0{}", password.as_str()).into_bytes()
}

/// The response to OAUTHBEARER (RFC 7628 §3.1).
pub fn bearer(identity: &str, token: &Password) -> Vec<u8> {
    let identity = escape(identity);
    format!(
        "n,a={identity},\u{1}auth=Bearer {}\u{1}\u{1}",
        token.as_str()
    )
    .into_bytes()
}

/// The response to XOAUTH2.
pub fn xoauth2(identity: &str, token: &Password) -> Vec<u8> {
    format!(
        "user={identity}\u{1}auth=Bearer {}\u{1}\u{1}",
        token.as_str()
    )
    .into_bytes()
}

fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// What a client says of channel binding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Binding {
    /// It cannot.
    None,
    /// It can, but the server has not offered it.
    Unoffered,
    /// It binds the login to the channel: the binding's name and data.
    Bound(String, Vec<u8>),
}

impl Binding {
    fn header(&self) -> String {
        match self {
            Self::None => "n,,".to_owned(),
            Self::Unoffered => "y,,".to_owned(),
            Self::Bound(name, _) => format!("p={name},,"),
        }
    }
}

/// A client's SCRAM exchange (RFC 5802 §5).
#[derive(Clone, Debug)]
pub struct Scram {
    hash: ScramHash,
    identity: String,
    password: Password,
    nonce: String,
    binding: Binding,
    signature: Option<Vec<u8>>,
}

impl Scram {
    /// An exchange; `nonce` is printable ASCII without comma that nobody can foresee.
    pub fn new(
        hash: ScramHash,
        (identity, password): (&str, Password),
        nonce: &str,
        binding: Binding,
    ) -> Self {
        Self {
            hash,
            identity: identity.to_owned(),
            password,
            nonce: nonce.to_owned(),
            binding,
            signature: None,
        }
    }

    fn bare(&self) -> String {
        format!("n={},r={}", escape(&self.identity), self.nonce)
    }

    /// The first response.
    pub fn first(&self) -> Vec<u8> {
        format!("{}{}", self.binding.header(), self.bare()).into_bytes()
    }

    /// The last response, to the server's first challenge. None where that is not well formed, or its nonce does not
    /// begin with ours.
    pub fn last(&mut self, challenge: &[u8]) -> Option<Vec<u8>> {
        let challenge = std::str::from_utf8(challenge).ok()?;
        let mut fields = challenge.split(',');
        let nonce = fields.next()?.strip_prefix("r=")?;
        let salt = decode(fields.next()?.strip_prefix("s=")?)?;
        let iterations = fields.next()?.strip_prefix("i=")?.parse().ok()?;
        nonce.strip_prefix(&self.nonce)?;
        let mut bound = self.binding.header().into_bytes();
        if let Binding::Bound(_, data) = &self.binding {
            bound.extend_from_slice(data);
        }
        let unproven = format!("c={},r={nonce}", encode(&bound));
        let messages = format!("{},{challenge},{unproven}", self.bare());
        let salted = self
            .hash
            .salted_password(self.password.as_str(), &salt, iterations);
        let client_key = self.hash.hmac(&salted, b"Client Key");
        let stored_key = self.hash.digest(&client_key);
        let signature = self.hash.hmac(&stored_key, messages.as_bytes());
        let bytes = client_key.iter().zip(&signature);
        let proof: Vec<u8> = bytes.map(|(one, other)| one ^ other).collect();
        let server_key = self.hash.hmac(&salted, b"Server Key");
        self.signature = Some(self.hash.hmac(&server_key, messages.as_bytes()));
        Some(format!("{unproven},p={}", encode(&proof)).into_bytes())
    }

    /// Whether the server's last message shows that it knows the password's secret.
    pub fn accepts(&self, last: &[u8]) -> bool {
        let text = std::str::from_utf8(last).ok();
        let signature = text.and_then(|text| decode(text.strip_prefix("v=")?));
        signature.is_some() && signature == self.signature
    }
}
