//! The keys about reports on TLS with other sites.

use nightmail_core::Address;

use super::define::section;

section! {
    /// Reports on TLS (RFC 8460): how mail could be sent to a domain, and where TLS failed, counted by day and told once a
    /// day to the domains that ask for it.
    TlsReports {
        /// Whether sessions are counted and reports sent.
        send: bool = false;
        /// Whether reports are also handed to web servers, for domains that want them so. Else they go by mail only.
        https: bool = true;
        /// Who the reports are from; postmaster@ the hostname when absent.
        from: Option<Address> = None, sample "\"tls-reports@example.org\"";
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn reports_are_sent_where_that_is_wanted() {
        let config = Config::parse("").unwrap();
        assert!(!config.tls_reports.send && config.tls_reports.https);
        let text = "[tls_reports]\nsend = true\nhttps = false\nfrom = \"tls@example.org\"\n";
        let settings = Config::parse(text).unwrap().tls_reports;
        assert!(settings.send && !settings.https);
        assert_eq!(settings.from.unwrap().to_string(), "tls@example.org");
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for line in [
            "send = 1",
            "https = \"no\"",
            "from = \"nobody\"",
            "to = \"a@b.c\"",
        ] {
            let problems = Config::parse(&format!("[tls_reports]\n{line}\n")).unwrap_err();
            assert_eq!(problems.len(), 1, "{line}");
        }
    }
}
