//! The keys about customers who fetch the mail of their domains.

use nightmail_core::{Address, Domain};

use super::define::{TableReader, section};

section! {
    /// A customer whose own mail server fetches what waits for its domains, over a listener of the protocol "odmr"
    /// (RFC 2645). Write one [[customer]] for each, and a [[destination]] with `on_request = true` for its domains, so
    /// that nothing is sent before it asks.
    Customer {
        /// The account that it logs in as, by its address.
        account: Option<Address> = None, sample "\"uucp@example.org\"";
        /// The domains whose mail it may fetch.
        domains: Option<Vec<Domain>> = None, sample "[\"example.org\"]";
    }
}

/// A `[[customer]]` that nobody is, or who may fetch nothing.
pub(super) fn check((customer, reader): (&Customer, &mut TableReader<'_, '_>)) {
    if customer.account.is_none() {
        reader.problem("give the `account` that it logs in as");
    }
    if customer.domains.as_ref().is_none_or(Vec::is_empty) {
        reader.problem("give the `domains` whose mail it may fetch");
    }
}

impl super::Config {
    /// The domains whose mail the account of this address may fetch.
    pub(crate) fn domains_of(&self, account: &Address) -> Vec<Domain> {
        let named = |customer: &&Customer| {
            let own = customer.account.as_ref();
            own.is_some_and(|own| own.lookup() == account.lookup())
        };
        let customers = self.customers.iter().filter(named);
        customers
            .flat_map(|customer| customer.domains.iter().flatten().cloned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_customer_has_the_domains_of_all_its_tables() {
        let config = Config::parse(
            "[[customer]]\naccount = \"Uucp@example.org\"\ndomains = [\"a.test\", \"b.test\"]\n\
             [[customer]]\naccount = \"uucp@example.org\"\ndomains = [\"c.test\"]\n\
             [[customer]]\naccount = \"other@example.org\"\ndomains = [\"d.test\"]\n",
        )
        .unwrap();
        let domains = config.domains_of(&"UUCP@example.org".parse().unwrap());
        let names: Vec<&str> = domains.iter().map(|domain| domain.as_str()).collect();
        assert_eq!(names, ["a.test", "b.test", "c.test"]);
        assert!(
            config
                .domains_of(&"x@example.org".parse().unwrap())
                .is_empty()
        );
    }

    #[test]
    fn a_customer_without_account_or_domains_is_wrong() {
        for (table, wanted) in [
            ("domains = [\"a.test\"]", "`account`"),
            ("account = \"uucp@example.org\"", "`domains`"),
            ("account = \"uucp\"", "expected"),
            ("account = \"u@a.test\"\ndomains = [\"a b\"]", "expected"),
        ] {
            let problems = Config::parse(&format!("[[customer]]\n{table}\n")).unwrap_err();
            let shown = format!("{problems:?}");
            assert!(shown.contains(wanted), "{shown}");
        }
    }
}
