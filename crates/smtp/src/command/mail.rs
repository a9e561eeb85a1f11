//! MAIL FROM (RFC 5321 §4.1.1.2) with SIZE (RFC 1870), BODY (RFC 6152, RFC 3030), SMTPUTF8 (RFC 6531),
//! AUTH (RFC 4954 §5), RET and ENVID (RFC 3461 §4.3, §4.4), REQUIRETLS (RFC 8689), and the demands of
//! [`super::demand`].

use std::fmt;

use nightmail_core::ReversePath;

use super::demand::{self, DeliverBy, Hold};
use super::param::{Param, params};
use super::path::{reverse_path, split_path, strip_keyword};
use super::xtext::Xtext;
use super::{CommandError, Extensions, Syntax, decimal};

/// RFC 3461 §4.4: an envelope id has at most 100 characters.
const ENVID_OCTETS_MAX: usize = 100;
const USAGE: &str = "MAIL FROM:<address>";

/// What MAIL says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// Where notices about the message go.
    pub reverse_path: ReversePath,
    /// The parameters.
    pub params: MailParams,
}

/// The parameters of MAIL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParams {
    /// SIZE: the message's octets as the client counts them.
    pub size: Option<u64>,
    /// BODY.
    pub body: BodyType,
    /// SMTPUTF8.
    pub smtputf8: bool,
    /// AUTH: who the client says submitted the message; `<>` when it does not know.
    pub auth: Option<Xtext>,
    /// RET.
    pub ret: Option<Return>,
    /// ENVID.
    pub envid: Option<Xtext>,
    /// REQUIRETLS: no hop without verified TLS.
    pub require_tls: bool,
    /// MT-PRIORITY: -9 to 9.
    pub mt_priority: Option<i8>,
    /// BY.
    pub deliver_by: Option<DeliverBy>,
    /// HOLDFOR or HOLDUNTIL.
    pub hold: Option<Hold>,
}

/// BODY: what octets a message has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BodyType {
    /// ASCII lines.
    #[default]
    SevenBit,
    /// Lines of any octets (RFC 6152).
    EightBitMime,
    /// Any octets, lines or not (RFC 3030 §3).
    BinaryMime,
}

/// RET: how much of a message a failure notice returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Return {
    /// All of it.
    Full,
    /// Its header.
    Headers,
}

impl Mail {
    /// Parses what follows the verb.
    pub fn parse(args: &[u8], syntax: &Syntax) -> Result<Self, CommandError> {
        let (path, rest) = strip_keyword(args, b"FROM:")
            .and_then(|rest| split_path(rest, syntax.unbracketed_paths))
            .ok_or(CommandError::Syntax(USAGE))?;
        let params = MailParams::parse(rest, &syntax.extensions)?;
        if !path.is_ascii() && !params.smtputf8 {
            return Err(CommandError::Utf8);
        }
        Ok(Self {
            reverse_path: reverse_path(path)?,
            params,
        })
    }
}

impl MailParams {
    fn parse(rest: &[u8], offered: &Extensions) -> Result<Self, CommandError> {
        let mut out = Self::default();
        for param in params(rest)? {
            out.set(&param, offered)?;
        }
        Ok(out)
    }

    fn set(&mut self, param: &Param<'_>, offered: &Extensions) -> Result<(), CommandError> {
        let bad = CommandError::ParameterValue;
        match param.keyword.as_str() {
            "SIZE" => self.size = Some(decimal(param.value()?.as_bytes()).ok_or(bad)?),
            "BODY" => self.body = BodyType::parse(param.value()?, offered).ok_or(bad)?,
            "SMTPUTF8" if offered.smtputf8 => {
                param.no_value()?;
                self.smtputf8 = true;
            }
            "AUTH" if offered.auth => self.auth = Some(Xtext::parse(param.value()?).ok_or(bad)?),
            "RET" if offered.dsn => self.ret = Some(Return::parse(param.value()?).ok_or(bad)?),
            "ENVID" if offered.dsn => {
                let envid = Some(param.value()?).filter(|id| id.len() <= ENVID_OCTETS_MAX);
                self.envid = Some(envid.and_then(Xtext::parse).ok_or(bad)?);
            }
            _ => return self.set_demand(param, offered),
        }
        Ok(())
    }

    fn set_demand(&mut self, param: &Param<'_>, offered: &Extensions) -> Result<(), CommandError> {
        let bad = CommandError::ParameterValue;
        match param.keyword.as_str() {
            "REQUIRETLS" if offered.requiretls => {
                param.no_value()?;
                self.require_tls = true;
            }
            "MT-PRIORITY" if offered.mt_priority => {
                self.mt_priority = Some(demand::priority(param.value()?).ok_or(bad)?);
            }
            "BY" if offered.deliver_by.is_some() => {
                self.deliver_by = Some(DeliverBy::parse(param.value()?).ok_or(bad)?);
            }
            "HOLDFOR" if offered.future_release.is_some() => {
                self.set_hold(Hold::parse_for(param.value()?), offered)?;
            }
            "HOLDUNTIL" if offered.future_release.is_some() => {
                self.set_hold(Hold::parse_until(param.value()?), offered)?;
            }
            _ => return Err(CommandError::ParameterUnknown),
        }
        Ok(())
    }

    /// Takes one of HOLDFOR and HOLDUNTIL. Whether the time of the latter is near enough, only a clock knows.
    fn set_hold(&mut self, hold: Option<Hold>, offered: &Extensions) -> Result<(), CommandError> {
        let hold = hold.ok_or(CommandError::ParameterValue)?;
        let secs_max = offered.future_release.map_or(0, |max| max.as_secs());
        match (self.hold, hold) {
            (Some(_), _) => return Err(CommandError::ParameterTwice),
            (None, Hold::For(secs)) if u64::from(secs) > secs_max => {
                return Err(CommandError::ParameterValue);
            }
            _ => self.hold = Some(hold),
        }
        Ok(())
    }
}

impl BodyType {
    fn parse(value: &str, offered: &Extensions) -> Option<Self> {
        [Self::SevenBit, Self::EightBitMime, Self::BinaryMime]
            .into_iter()
            .filter(|body| *body != Self::BinaryMime || (offered.chunking && offered.binarymime))
            .find(|body| body.as_str().eq_ignore_ascii_case(value))
    }

    /// The value of BODY.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SevenBit => "7BIT",
            Self::EightBitMime => "8BITMIME",
            Self::BinaryMime => "BINARYMIME",
        }
    }
}

impl Return {
    fn parse(value: &str) -> Option<Self> {
        [Self::Full, Self::Headers]
            .into_iter()
            .find(|ret| ret.as_str().eq_ignore_ascii_case(value))
    }

    /// The value of RET.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        }
    }
}

impl MailParams {
    fn write_demands(&self, f: &mut impl fmt::Write) -> fmt::Result {
        if self.require_tls {
            f.write_str(" REQUIRETLS")?;
        }
        if let Some(priority) = self.mt_priority {
            write!(f, " MT-PRIORITY={priority}")?;
        }
        if let Some(by) = self.deliver_by {
            write!(f, " BY={by}")?;
        }
        if let Some(hold) = self.hold {
            write!(f, " {hold}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_mail(f, &self.reverse_path, &self.params)
    }
}

/// Writes a MAIL command without its CRLF.
pub(crate) fn write_mail(
    out: &mut impl fmt::Write,
    reverse_path: &ReversePath,
    params: &MailParams,
) -> fmt::Result {
    write!(out, "MAIL FROM:<{reverse_path}>")?;
    if let Some(size) = params.size {
        write!(out, " SIZE={size}")?;
    }
    if params.body != BodyType::SevenBit {
        write!(out, " BODY={}", params.body.as_str())?;
    }
    if params.smtputf8 {
        out.write_str(" SMTPUTF8")?;
    }
    if let Some(auth) = &params.auth {
        write!(out, " AUTH={}", auth.as_str())?;
    }
    if let Some(ret) = params.ret {
        write!(out, " RET={}", ret.as_str())?;
    }
    if let Some(envid) = &params.envid {
        write!(out, " ENVID={}", envid.as_str())?;
    }
    params.write_demands(out)
}
