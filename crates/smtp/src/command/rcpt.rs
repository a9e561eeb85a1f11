//! RCPT TO (RFC 5321 §4.1.1.3) with NOTIFY and ORCPT (RFC 3461 §4.1, §4.2).

use std::fmt;

use nightmail_core::ForwardPath;

use super::param::{Param, params};
use super::path::{forward_path, split_path, strip_keyword};
use super::utf8;
use super::xtext::{Xtext, decode};
use super::{CommandError, Syntax};

/// RFC 3461 §4.2: ORCPT has at most 500 characters.
const ORCPT_OCTETS_MAX: usize = 500;
const USAGE: &str = "RCPT TO:<address>";

/// What RCPT says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rcpt {
    /// The recipient.
    pub forward_path: ForwardPath,
    /// The parameters.
    pub params: RcptParams,
}

/// The parameters of RCPT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptParams {
    /// NOTIFY.
    pub notify: Option<Notify>,
    /// ORCPT.
    pub orcpt: Option<OriginalRecipient>,
}

/// NOTIFY: what the sender wants to hear about this recipient; nothing at all for `NEVER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Notify {
    /// Tell of delivery.
    pub success: bool,
    /// Tell of failure.
    pub failure: bool,
    /// Tell of delay.
    pub delay: bool,
}

/// ORCPT: the recipient as the sender wrote it, for notices.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OriginalRecipient {
    kind: Box<str>,
    address: Box<str>,
}

impl Rcpt {
    /// Parses what follows the verb.
    pub fn parse(args: &[u8], syntax: &Syntax) -> Result<Self, CommandError> {
        let (path, rest) = strip_keyword(args, b"TO:")
            .and_then(|rest| split_path(rest, syntax.unbracketed_paths))
            .ok_or(CommandError::Syntax(USAGE))?;
        if !(syntax.utf8_transaction || path.is_ascii() && rest.is_ascii()) {
            return Err(CommandError::Utf8);
        }
        let mut out = RcptParams::default();
        for param in params(rest)? {
            out.set(&param, syntax)?;
        }
        Ok(Self {
            forward_path: forward_path(path)?,
            params: out,
        })
    }
}

impl RcptParams {
    fn set(&mut self, param: &Param<'_>, syntax: &Syntax) -> Result<(), CommandError> {
        let bad = CommandError::ParameterValue;
        match param.keyword.as_str() {
            "NOTIFY" if syntax.extensions.dsn => {
                self.notify = Some(Notify::parse(param.value()?).ok_or(bad)?);
            }
            "ORCPT" if syntax.extensions.dsn => {
                self.orcpt = Some(OriginalRecipient::parse(param.value()?).ok_or(bad)?);
            }
            _ => return Err(CommandError::ParameterUnknown),
        }
        Ok(())
    }
}

impl Notify {
    /// `NEVER`.
    pub const NEVER: Self = Self {
        success: false,
        failure: false,
        delay: false,
    };

    /// Parses `NEVER` or a list of `SUCCESS`, `FAILURE` and `DELAY`.
    pub fn parse(value: &str) -> Option<Self> {
        let mut notify = Self::NEVER;
        if value.eq_ignore_ascii_case("NEVER") {
            return Some(notify);
        }
        for word in value.split(',') {
            let flag = match word.to_ascii_uppercase().as_str() {
                "SUCCESS" => &mut notify.success,
                "FAILURE" => &mut notify.failure,
                "DELAY" => &mut notify.delay,
                _ => return None,
            };
            *flag = true;
        }
        Some(notify)
    }
}

/// The value of NOTIFY.
impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.success, "SUCCESS"),
            (self.failure, "FAILURE"),
            (self.delay, "DELAY"),
        ];
        let mut separator = "";
        for (_, word) in words.iter().filter(|(wanted, _)| *wanted) {
            write!(f, "{separator}{word}")?;
            separator = ",";
        }
        match separator {
            "" => f.write_str("NEVER"),
            _ => Ok(()),
        }
    }
}

impl OriginalRecipient {
    /// Parses `type;address`, the address in `xtext`, or in the forms of RFC 6533 §3 for the type `utf-8`.
    pub fn parse(value: &str) -> Option<Self> {
        let (kind, address) = value.split_once(';')?;
        let is_kind =
            !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let is_address = match is_utf8(kind) {
            true => utf8::is_address(address),
            false => Xtext::parse(address).is_some(),
        };
        let fits = value.len() <= ORCPT_OCTETS_MAX && !address.is_empty();
        (is_kind && is_address && fits).then(|| Self {
            kind: kind.into(),
            address: address.into(),
        })
    }

    /// One for an address of type `rfc822`, or `utf-8` where it needs UTF-8.
    pub fn for_address(address: &str) -> Self {
        let (kind, address) = match address.is_ascii() {
            true => ("rfc822", Xtext::encode(address).as_str().into()),
            false => ("utf-8", utf8::encode(address, false).into()),
        };
        Self {
            kind: kind.into(),
            address,
        }
    }

    /// The address type, such as `rfc822`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The address meant, as a notice shows it: without control characters.
    pub fn address(&self) -> String {
        match is_utf8(&self.kind) {
            true => utf8::decode(&self.address),
            false => decode(&self.address),
        }
    }

    /// Whether only ASCII is needed to pass it on as it is.
    pub fn is_ascii(&self) -> bool {
        self.address.is_ascii()
    }

    /// The same in ASCII, for a server without SMTPUTF8. Nothing where that is too long.
    pub fn to_ascii(&self) -> Option<Self> {
        let address = match self.is_ascii() {
            true => self.address.clone(),
            false => utf8::encode(&self.address(), true).into(),
        };
        let fits = self.kind.len() + 1 + address.len() <= ORCPT_OCTETS_MAX;
        fits.then(|| Self {
            kind: self.kind.clone(),
            address,
        })
    }
}

fn is_utf8(kind: &str) -> bool {
    kind.eq_ignore_ascii_case("utf-8")
}

/// The value of ORCPT.
impl fmt::Display for OriginalRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};{}", self.kind, self.address)
    }
}

impl fmt::Display for Rcpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_rcpt(f, &self.forward_path, &self.params)
    }
}

/// Writes an RCPT command without its CRLF.
pub(crate) fn write_rcpt(
    out: &mut impl fmt::Write,
    forward_path: &ForwardPath,
    params: &RcptParams,
) -> fmt::Result {
    write!(out, "RCPT TO:<{forward_path}>")?;
    if let Some(notify) = params.notify {
        write!(out, " NOTIFY={notify}")?;
    }
    if let Some(orcpt) = &params.orcpt {
        write!(out, " ORCPT={orcpt}")?;
    }
    Ok(())
}
