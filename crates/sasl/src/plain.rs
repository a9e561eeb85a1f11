//! PLAIN (RFC 4616) and LOGIN: name and password as they are.

use crate::{Password, Question};

/// `[authzid] NUL authcid NUL passwd` (RFC 4616 §2).
pub(crate) fn plain(response: &[u8]) -> Option<Question> {
    let text = std::str::from_utf8(response).ok()?;
    let mut fields = text.split('\0');
    let (authorization, identity, password) = (fields.next()?, fields.next()?, fields.next()?);
    let well_formed = fields.next().is_none() && !identity.is_empty() && !password.is_empty();
    well_formed.then(|| Question::Password {
        identity: identity.into(),
        password: Password::new(password),
        authorization: (!authorization.is_empty()).then(|| authorization.into()),
    })
}

/// The name or the password of LOGIN.
pub(crate) fn login_field(response: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(response).ok()?;
    (!text.is_empty() && !text.contains('\0')).then_some(text)
}
