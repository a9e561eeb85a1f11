//! `nightmail node`.

use clap::Subcommand;
use nightmail_admin::AdminRequest;

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List the nodes of the cluster and what each holds.
    List,
    /// Empty a node: it takes no new connections, finishes, gives its work to the others and ends.
    Drain {
        /// Its name.
        name: String,
    },
    /// Remove what is kept of a node that has gone for good.
    Forget {
        /// Its name.
        name: String,
    },
}

impl NodeCommand {
    pub(crate) fn request(self) -> AdminRequest {
        match self {
            Self::List => AdminRequest::NodeList,
            Self::Drain { name } => AdminRequest::NodeDrain { name },
            Self::Forget { name } => AdminRequest::NodeForget { name },
        }
    }
}
