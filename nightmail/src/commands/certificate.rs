//! `nightmail certificate`.

use clap::Subcommand;
use nightmail_admin::{AdminRequest, CertificateView};
use nightmail_certs::{CertificateInfo, Source};
use nightmail_server::config::Config;
use nightmail_server::tls::certificate_files;

use crate::output::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum CertificateCommand {
    /// List certificates: their names, where they come from, until when they are valid, how fetching them goes.
    List,
    /// Fetch certificates anew, whenever they are due and however attempts failed before.
    Renew {
        /// A name of the certificate; all that are fetched when absent.
        name: Option<String>,
    },
}

impl CertificateCommand {
    pub(crate) fn request(self) -> AdminRequest {
        match self {
            Self::List => AdminRequest::CertificateList,
            Self::Renew { name } => AdminRequest::CertificateRenew { name },
        }
    }
}

/// What the files of a configuration hold now.
pub(crate) fn of_files(config: &Config) -> Vec<CertificateView> {
    let found = match certificate_files(config) {
        Ok(files) => files.inspect(),
        Err(error) => vec![Err(error)],
    };
    found
        .into_iter()
        .map(|found| match found {
            Ok(info) => in_use(&info),
            Err(error) => CertificateView {
                names: Vec::new(),
                source: "file".to_owned(),
                valid_until: None,
                attempted: None,
                state: error.to_string(),
            },
        })
        .collect()
}

fn in_use(info: &CertificateInfo) -> CertificateView {
    CertificateView {
        names: info.names.iter().map(ToString::to_string).collect(),
        source: match &info.source {
            Source::File(files) => files.certificate.display().to_string(),
            other => other.kind().to_owned(),
        },
        valid_until: info.not_after.map(|until| until.to_string()),
        attempted: None,
        state: "good".to_owned(),
    }
}

/// Certificates as a table.
pub(crate) fn show(items: &[CertificateView]) -> String {
    let mut table = Table::new(&["NAMES", "FROM", "VALID UNTIL", "STATE"]);
    for view in items {
        table.row([
            view.names.join(", "),
            view.source.clone(),
            view.valid_until.clone().unwrap_or_default(),
            view.state.clone(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_not_there_yet_is_shown_with_the_reason() {
        let text = show(&[CertificateView {
            names: vec!["a.test".to_owned(), "b.test".to_owned()],
            source: "acme".to_owned(),
            valid_until: None,
            attempted: None,
            state: "to be fetched".to_owned(),
        }]);
        assert!(text.contains("a.test, b.test  acme"), "{text}");
        assert!(text.contains("to be fetched"), "{text}");
    }
}
