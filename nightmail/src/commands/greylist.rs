//! `nightmail greylist`.

use std::net::IpAddr;

use clap::Subcommand;
use nightmail_admin::AdminRequest;

#[derive(Debug, Subcommand)]
pub(crate) enum GreylistCommand {
    /// List who has to come back, and who has.
    List,
    /// Let a client's network pass from now on.
    Allow {
        /// An address of the client.
        client: IpAddr,
    },
    /// Forget an entry, or all about a client's network: whoever it was has to come back again.
    Remove {
        /// The entry's key, as listed, or an address of the network.
        entry: String,
    },
}

impl GreylistCommand {
    pub(crate) fn request(self) -> AdminRequest {
        match self {
            Self::List => AdminRequest::GreylistList {
                after: None,
                limit: None,
            },
            Self::Allow { client } => AdminRequest::GreylistAllow { client },
            Self::Remove { entry } => AdminRequest::GreylistRemove { entry },
        }
    }
}
