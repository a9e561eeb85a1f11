//! SCRAM (RFC 5802, RFC 7677): a proof that the client knows the password, and one that the server may check it.
//!
//! The types follow the messages: a [`First`] becomes a [`Last`] when the account's secret is known, and a [`Last`]
//! becomes the server's signature when the proof is right.

use crate::{Channel, MechanismSet, ScramHash, ScramSecret, decode, encode};

/// Longest nonce of a client, in octets; RFC 5802 names no bound, clients use 16 to 64.
const NONCE_OCTETS_MAX: usize = 512;

/// What a client says of channel binding (RFC 5801 §4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Binding<'a> {
    /// `n`: the client cannot.
    None,
    /// `y`: it could, but thinks that the server cannot.
    Unoffered,
    /// `p=name`: it does.
    Bound(&'a str),
}

/// The header in front of the client's first message (RFC 5801 §4).
pub(crate) struct Gs2Header<'a> {
    pub(crate) binding: Binding<'a>,
    /// Whom the client wants to act as.
    pub(crate) authorization: Option<Box<str>>,
    /// All of it, the last comma included.
    pub(crate) text: &'a str,
}

impl<'a> Gs2Header<'a> {
    /// The header and what follows it.
    pub(crate) fn parse(text: &'a str) -> Option<(Self, &'a str)> {
        let (flag, rest) = text.split_once(',')?;
        let (authorization, message) = rest.split_once(',')?;
        let binding = match flag {
            "n" => Binding::None,
            "y" => Binding::Unoffered,
            flag => Binding::Bound(flag.strip_prefix("p=").filter(|name| !name.is_empty())?),
        };
        let authorization = match authorization {
            "" => None,
            field => Some(unescape(field.strip_prefix("a=")?)?),
        };
        let header = Self {
            binding,
            authorization,
            text: text.strip_suffix(message)?,
        };
        Some((header, message))
    }

    pub(crate) fn is_unbound(&self) -> bool {
        !matches!(self.binding, Binding::Bound(_))
    }
}

/// A name in which `,` is written `=2C` and `=` is written `=3D`.
fn unescape(text: &str) -> Option<Box<str>> {
    let mut name = String::with_capacity(text.len());
    let mut parts = text.split('=');
    name.push_str(parts.next()?);
    for part in parts {
        let (escaped, rest) = part.split_at_checked(2)?;
        name.push(match escaped {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        name.push_str(rest);
    }
    (!name.is_empty() && !name.contains('\0')).then(|| name.into())
}

/// Why a message is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// It is not well formed.
    Malformed,
    /// It is well formed, but the exchange cannot be trusted.
    Untrusted,
}

/// What the client's first message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct First {
    pub(crate) hash: ScramHash,
    pub(crate) identity: Box<str>,
    pub(crate) authorization: Option<Box<str>>,
    /// The message without the header.
    bare: Box<str>,
    nonce: Box<str>,
    /// What the last message must give as `c=`: the header and the channel's data.
    binding: Vec<u8>,
}

impl First {
    /// Reads `gs2-header n=name,r=nonce[,extensions]`.
    ///
    /// A client that says that the server offers no binding, where it does, was deceived by somebody in between
    /// (RFC 5802 §6).
    pub(crate) fn parse(
        (hash, plus): (ScramHash, bool),
        message: &[u8],
        offered: MechanismSet,
        channel: &Channel,
    ) -> Result<Self, Fault> {
        let text = std::str::from_utf8(message).map_err(|_| Fault::Malformed)?;
        let (header, bare) = Gs2Header::parse(text).ok_or(Fault::Malformed)?;
        let mut binding = header.text.as_bytes().to_vec();
        match header.binding {
            Binding::Unoffered if offered.has_plus() => return Err(Fault::Untrusted),
            Binding::None | Binding::Unoffered if !plus => {}
            Binding::Bound(name) if plus => {
                binding.extend_from_slice(channel.binding(name).ok_or(Fault::Untrusted)?);
            }
            _ => return Err(Fault::Malformed),
        }
        let (identity, nonce) = parse_bare(bare).ok_or(Fault::Malformed)?;
        Ok(Self {
            hash,
            identity,
            authorization: header.authorization,
            bare: bare.into(),
            nonce: nonce.into(),
            binding,
        })
    }

    /// The server's first message, which sends salt and count and makes the nonce one that no client can foresee.
    pub(crate) fn challenge(self, secret: ScramSecret, nonce: &str) -> (Last, Vec<u8>) {
        let nonce = format!("{}{nonce}", self.nonce);
        let salt = encode(&secret.salt);
        let message = format!("r={nonce},s={salt},i={}", secret.iterations);
        let last = Last {
            hash: self.hash,
            identity: self.identity,
            messages: format!("{},{message},", self.bare).into(),
            nonce: nonce.into(),
            binding: self.binding,
            secret,
        };
        (last, message.into_bytes())
    }
}

/// `n=name,r=nonce[,extensions]`: name and nonce. An extension that must be understood comes before the name.
fn parse_bare(bare: &str) -> Option<(Box<str>, &str)> {
    let mut fields = bare.split(',');
    let identity = unescape(fields.next()?.strip_prefix("n=")?)?;
    let nonce = fields.next()?.strip_prefix("r=")?;
    let well_formed = (1..=NONCE_OCTETS_MAX).contains(&nonce.len())
        && nonce.bytes().all(|byte| byte.is_ascii_graphic())
        && fields.all(is_extension);
    well_formed.then_some((identity, nonce))
}

fn is_extension(field: &str) -> bool {
    let mut characters = field.chars();
    characters.next().is_some_and(|c| c.is_ascii_alphabetic()) && characters.next() == Some('=')
}

/// An exchange whose last message from the client is awaited.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Last {
    hash: ScramHash,
    pub(crate) identity: Box<str>,
    /// `client-first-message-bare,server-first-message,`
    messages: Box<str>,
    nonce: Box<str>,
    binding: Vec<u8>,
    secret: ScramSecret,
}

impl Last {
    /// Reads `c=binding,r=nonce[,extensions],p=proof`. Gives the server's last message where the proof is right, none
    /// where it is wrong.
    pub(crate) fn verify(&self, message: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let text = std::str::from_utf8(message).map_err(|_| Fault::Malformed)?;
        let (unproven, proof) = split_proof(text).ok_or(Fault::Malformed)?;
        let (binding, nonce) = parse_unproven(unproven).ok_or(Fault::Malformed)?;
        if binding != self.binding || nonce != &*self.nonce {
            return Err(Fault::Untrusted);
        }
        let messages = format!("{}{unproven}", self.messages);
        if !self.secret.verify(self.hash, messages.as_bytes(), &proof) {
            return Ok(None);
        }
        let signature = self.hash.hmac(&self.secret.server_key, messages.as_bytes());
        Ok(Some(format!("v={}", encode(&signature)).into_bytes()))
    }
}

fn split_proof(text: &str) -> Option<(&str, Vec<u8>)> {
    let (unproven, proof) = text.rsplit_once(",p=")?;
    Some((unproven, decode(proof)?))
}

fn parse_unproven(text: &str) -> Option<(Vec<u8>, &str)> {
    let mut fields = text.split(',');
    let binding = decode(fields.next()?.strip_prefix("c=")?)?;
    let nonce = fields.next()?.strip_prefix("r=")?;
    fields.all(is_extension).then_some((binding, nonce))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unescaped() {
        assert_eq!(unescape("a=2Cb=3D").as_deref(), Some("a,b="));
        assert_eq!(unescape("=3D2C").as_deref(), Some("=2C"));
        for text in ["", "a=", "a=2", "a=2c", "=é", "a=41"] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }

    #[test]
    fn a_header_says_who_acts_and_how_it_is_bound() {
        let (header, rest) = Gs2Header::parse("p=tls-exporter,a=bob,n=x,r=y").unwrap();
        assert_eq!(header.binding, Binding::Bound("tls-exporter"));
        assert_eq!(header.authorization.as_deref(), Some("bob"));
        assert_eq!((header.text, rest), ("p=tls-exporter,a=bob,", "n=x,r=y"));
        for text in [
            "",
            "n",
            "n,",
            "x,,n=a,r=b",
            "p=,,n=a,r=b",
            "n,b=x,n=a,r=b",
            "n,a=,n=a",
        ] {
            assert!(Gs2Header::parse(text).is_none(), "{text}");
        }
    }
}
