//! Logging in with a certificate (RFC 4422 appendix A): the account whose address it names.

use nightmail_certs::client_addresses;
use nightmail_directory::{AccountRecord, Directory, DirectoryError};

/// The account that a verified certificate in DER names: whom the client wants to be, where it says so, or else the first
/// that is here.
pub(super) async fn account_of(
    der: &[u8],
    acting_as: Option<&str>,
    directory: &Directory,
) -> Result<Option<AccountRecord>, DirectoryError> {
    let wanted = match acting_as {
        None => None,
        Some(name) => match directory.find_login(name).await? {
            Some(record) => Some(record.id),
            None => return Ok(None),
        },
    };
    for address in client_addresses(der) {
        let found = directory.find_login(&address).await?;
        let fits = |record: &AccountRecord| wanted.is_none_or(|wanted| wanted == record.id);
        if let Some(record) = found.filter(fits) {
            return Ok(Some(record));
        }
    }
    Ok(None)
}
