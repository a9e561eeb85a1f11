//! TXT records of the form `v=…; name=value; …` (RFC 8461 §3.1, RFC 8460 §3), as domains publish them under
//! `_mta-sts` and `_smtp._tls`.
//!
//! A domain has such a record only when exactly one of its TXT records is of that version, and reads.

use nightmail_core::Address;

/// The longest name of a field.
const NAME_OCTETS_MAX: usize = 32;
/// The longest id of a policy.
const ID_OCTETS_MAX: usize = 32;
/// Places to which one domain's reports go.
const TARGETS_MAX: usize = 4;

/// Where a domain wants its reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReportTarget {
    /// To an address.
    Mail(Address),
    /// To a web server: an `https:` URI.
    Https(String),
}

/// The id of the MTA-STS policy that these TXT records announce; `None` where they announce none.
pub(crate) fn sts_id(records: &[String]) -> Option<String> {
    let fields = the_one(records, "v=STSv1")?;
    let id = first(&fields, "id")?;
    let is_id = id.len() <= ID_OCTETS_MAX && id.bytes().all(|octet| octet.is_ascii_alphanumeric());
    is_id.then(|| id.to_owned())
}

/// Where these TXT records want reports on TLS; empty where they want none. At most four places.
pub(crate) fn report_targets(records: &[String]) -> Vec<ReportTarget> {
    let fields = the_one(records, "v=TLSRPTv1");
    let rua = fields.as_deref().and_then(|fields| first(fields, "rua"));
    let uris = rua.unwrap_or_default().split(',');
    let targets = uris.filter_map(|uri| target(uri.trim_matches([' ', '\t'])));
    targets.take(TARGETS_MAX).collect()
}

fn target(uri: &str) -> Option<ReportTarget> {
    let (scheme, rest) = uri.split_once(':')?;
    match scheme.to_ascii_lowercase().as_str() {
        "mailto" => {
            let address = rest.split('?').next().unwrap_or_default();
            let address = Address::parse(&unescaped(address)?).ok()?;
            Some(ReportTarget::Mail(address))
        }
        "https" => rest
            .starts_with("//")
            .then(|| ReportTarget::Https(uri.to_owned())),
        _ => None,
    }
}

/// The text that percent-encoding stands for (RFC 3986 §2.1).
fn unescaped(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                u8::from_str_radix(digits, 16).ok()?
            }
            octet => octet,
        });
    }
    String::from_utf8(octets).ok()
}

/// The first value of a field: later ones of the same name are ignored.
fn first<'a>(fields: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    let field = fields.iter().find(|(known, _)| *known == name)?;
    Some(field.1)
}

/// The fields of the one record of a version; `None` where there is none, or more than one, or it does not read.
fn the_one<'a>(records: &'a [String], version: &str) -> Option<Vec<(&'a str, &'a str)>> {
    let mut bodies = records.iter().filter_map(|record| body(record, version));
    let one = bodies.next()?;
    match bodies.next() {
        None => fields(one),
        Some(_) => None,
    }
}

/// What follows the version and its semicolon.
fn body<'a>(record: &'a str, version: &str) -> Option<&'a str> {
    let rest = record.strip_prefix(version)?;
    rest.trim_start_matches([' ', '\t']).strip_prefix(';')
}

fn fields(body: &str) -> Option<Vec<(&str, &str)>> {
    let body = body.trim_end_matches([' ', '\t']);
    let body = body.strip_suffix(';').unwrap_or(body);
    let fields = body.split(';').map(|field| {
        let (name, value) = field.trim_matches([' ', '\t']).split_once('=')?;
        let is_field =
            is_name(name) && !value.is_empty() && !value.contains(|c: char| c.is_control());
        is_field.then_some((name, value))
    });
    fields.collect()
}

/// Whether text can name a field, in a record or in a policy.
pub(crate) fn is_name(name: &str) -> bool {
    let inner = |octet: u8| octet.is_ascii_alphanumeric() || b"_-.".contains(&octet);
    name.len() <= NAME_OCTETS_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(records: &[&str]) -> Option<String> {
        let records: Vec<String> = records.iter().map(ToString::to_string).collect();
        sts_id(&records)
    }

    fn targets(record: &str) -> Vec<String> {
        let shown = report_targets(&[record.to_owned()]).into_iter();
        let shown = shown.map(|target| match target {
            ReportTarget::Mail(address) => address.to_string(),
            ReportTarget::Https(uri) => uri,
        });
        shown.collect()
    }

    #[test]
    fn the_example_of_rfc_8461_has_its_id() {
        let record = "v=STSv1; id=20160831085700Z;";
        assert_eq!(id(&[record]).unwrap(), "20160831085700Z");
        assert_eq!(id(&["v=STSv1;id=a"]).unwrap(), "a");
        assert_eq!(id(&["v=STSv1 ;\tx.y-z_1=some value ; id=a"]).unwrap(), "a");
        assert_eq!(id(&["v=STSv1; id=a; id=b;"]).unwrap(), "a", "the first");
    }

    #[test]
    fn exactly_one_record_of_the_version_counts() {
        let (one, other) = ("v=STSv1; id=a", "v=spf1 -all");
        assert_eq!(id(&[other, one, "v=STSv10; id=c"]).unwrap(), "a");
        assert_eq!(id(&[one, "v=STSv1; id=b"]), None);
        assert_eq!(id(&[one, "v=STSv1;"]), None, "also where one does not read");
        assert_eq!(id(&[]), None);
        assert_eq!(id(&[other]), None);
    }

    #[test]
    fn records_that_do_not_read_announce_nothing() {
        let long = format!("v=STSv1; id={}", "a".repeat(33));
        for record in [
            "v=STSv1",
            "v=STSv1; ",
            "v=STSv1; id=",
            "v=STSv1; id=a-b",
            "v=STSv1; id=a;; x=y",
            "v=STSv1; =b; id=a",
            "v=STSv1; id",
            "V=STSv1; id=a",
            "v=STSv1; ID=a",
            "v=STSv1; id=a; x=\u{7}",
            " v=STSv1; id=a",
            &long,
        ] {
            assert_eq!(id(&[record]), None, "{record}");
        }
    }

    #[test]
    fn the_examples_of_rfc_8460_have_their_targets() {
        assert_eq!(
            targets("v=TLSRPTv1;rua=mailto:reports@example.com"),
            ["reports@example.com"]
        );
        assert_eq!(
            targets("v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt"),
            ["https://reporting.example.com/v1/tlsrpt"]
        );
        assert_eq!(
            targets("v=TLSRPTv1; rua=mailto:a@x.test , https://x.test/r?k=v"),
            ["a@x.test", "https://x.test/r?k=v"]
        );
    }

    #[test]
    fn what_cannot_be_reported_to_is_left_out() {
        assert_eq!(
            targets("v=TLSRPTv1; rua=mailto:a%2Cb@x.test?subject=x,ftp://x,mailto:no,http://x/"),
            Vec::<String>::new(),
            "a comma needs quotes in an address"
        );
        assert_eq!(
            targets("v=TLSRPTv1; rua=MAILTO:a%21b@x.test"),
            ["a!b@x.test"]
        );
        assert_eq!(targets("v=TLSRPTv1; rua=mailto:a%2@x.test").len(), 0);
        let many = ["mailto:a@x.test"; 10].join(",");
        assert_eq!(
            targets(&format!("v=TLSRPTv1; rua={many}")).len(),
            TARGETS_MAX
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(texts: Vec<String>) {
            let records: Vec<String> = texts.iter().map(|text| format!("v=STSv1;{text}")).collect();
            let _ = sts_id(&records);
            let records: Vec<String> = texts.iter().map(|text| format!("v=TLSRPTv1;rua={text}")).collect();
            let _ = report_targets(&records);
        }

        #[test]
        fn an_id_is_found_among_other_fields(id in "[a-zA-Z0-9]{1,32}", names in proptest::collection::vec("x[a-z0-9_.-]{0,31}", 0..4), value in "[!-:<-~]{1,20}") {
            let others: String = names.iter().map(|name| format!("{name}={value}; ")).collect();
            let record = format!("v=STSv1; {others}id={id}");
            prop_assert_eq!(sts_id(&[record]), Some(id));
        }
    }
}
