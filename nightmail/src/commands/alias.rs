//! `nightmail alias`.

use clap::Subcommand;
use nightmail_admin::AdminRequest;

#[derive(Debug, Subcommand)]
pub(crate) enum AliasCommand {
    /// Add an alias, or targets to one.
    Add {
        /// Its address.
        address: String,
        /// Where its mail goes.
        #[arg(required = true)]
        targets: Vec<String>,
    },
    /// Remove an alias, or only the targets named.
    Remove {
        /// Its address.
        address: String,
        /// The targets to take away.
        targets: Vec<String>,
    },
    /// List aliases.
    List {
        /// Only those of this domain.
        #[arg(long)]
        domain: Option<String>,
    },
    /// Show an alias.
    Show {
        /// Its address.
        address: String,
    },
}

impl AliasCommand {
    pub(crate) fn request(self) -> AdminRequest {
        match self {
            Self::Add { address, targets } => AdminRequest::AliasAdd { address, targets },
            Self::Remove { address, targets } => AdminRequest::AliasRemove { address, targets },
            Self::List { domain } => AdminRequest::AliasList {
                domain,
                after: None,
                limit: None,
            },
            Self::Show { address } => AdminRequest::AliasShow { address },
        }
    }
}
