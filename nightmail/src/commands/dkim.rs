//! `nightmail dkim`.

use clap::{Subcommand, ValueEnum};
use nightmail_admin::{AdminRequest, DkimAlgorithm};

/// Keys are made pending. Publish the record that `dkim new` prints, and use `dkim rotate` once it can be seen: the
/// pending key signs from then on, the key before it retires, and the next pending key is made.
#[derive(Debug, Subcommand)]
pub(crate) enum DkimCommand {
    /// Make a key and print the DNS record to publish.
    New {
        /// The domain, or an alternate name of one.
        domain: String,
        /// With what it signs.
        #[arg(long, value_enum, default_value_t = AlgorithmArg::Rsa2048)]
        algorithm: AlgorithmArg,
        /// Its selector; one with today's date when absent. With "both", the algorithm is added to it.
        #[arg(long)]
        selector: Option<String>,
        /// Sign with it at once, where the domain has no active key.
        #[arg(long)]
        activate: bool,
    },
    /// List keys, and whether their records are published; of one domain also the records.
    List {
        /// Only those of this domain.
        domain: Option<String>,
    },
    /// Sign with the pending keys from now on, and make the next ones. Their records must be published.
    Rotate {
        /// The domain.
        domain: String,
        /// Do not look whether the records are published.
        #[arg(long)]
        force: bool,
    },
    /// Sign with one key from now on, instead of the active one of its algorithm.
    Activate {
        /// The domain.
        domain: String,
        /// The key's selector.
        selector: String,
        /// Do not look whether its record is published.
        #[arg(long)]
        force: bool,
    },
    /// Remove a key for good. Remove its record from DNS, too.
    Remove {
        /// The domain.
        domain: String,
        /// The key's selector.
        selector: String,
        /// Also while it signs.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum AlgorithmArg {
    /// RSA of 2048 bits, which every site verifies.
    Rsa2048,
    /// Ed25519, which some sites do not verify yet.
    Ed25519,
    /// A key of each; every message gets two signatures.
    Both,
}

impl From<AlgorithmArg> for DkimAlgorithm {
    fn from(argument: AlgorithmArg) -> Self {
        match argument {
            AlgorithmArg::Rsa2048 => Self::Rsa2048,
            AlgorithmArg::Ed25519 => Self::Ed25519,
            AlgorithmArg::Both => Self::Both,
        }
    }
}

impl DkimCommand {
    pub(crate) fn request(self) -> AdminRequest {
        match self {
            Self::New {
                domain,
                algorithm,
                selector,
                activate,
            } => AdminRequest::DkimNew {
                domain,
                algorithm: algorithm.into(),
                selector,
                activate,
            },
            Self::List { domain } => AdminRequest::DkimList { domain },
            Self::Rotate { domain, force } => AdminRequest::DkimRotate { domain, force },
            Self::Activate {
                domain,
                selector,
                force,
            } => AdminRequest::DkimActivate {
                domain,
                selector,
                force,
            },
            Self::Remove {
                domain,
                selector,
                force,
            } => AdminRequest::DkimRemove {
                domain,
                selector,
                force,
            },
        }
    }
}
