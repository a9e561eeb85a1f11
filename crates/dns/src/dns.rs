//! The resolver: typed lookups over one shared cache.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Resolver, TokioResolver};

use crate::answer::{Mx, Nothing};
use crate::options::{DnsOptions, DnsSetupError};
use crate::validate::Validator;

/// No answer is believed for longer.
pub(crate) const TTL_MAX: Duration = Duration::from_secs(86_400);
/// No answer that says no is believed for longer (RFC 2308 §5 names one to three hours).
pub(crate) const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(3600);
/// Queries under way over one TCP connection to a name server.
const TCP_QUERIES_MAX: usize = 1024;

/// The resolver. Clones share its cache.
///
/// Names are taken with or without a final dot and are always absolute. Text that cannot be a name is
/// [`Nothing::NoName`].
#[derive(Clone)]
pub struct Dns {
    resolver: TokioResolver,
    /// There when answers are to be proven.
    pub(crate) validator: Option<Validator>,
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").finish_non_exhaustive()
    }
}

impl Dns {
    /// A resolver with an empty cache. Fails when the system's name servers are wanted and not known, or the trust
    /// anchors are no DNSKEY records.
    pub fn new(options: &DnsOptions) -> Result<Self, DnsSetupError> {
        let setup = |error: NetError| DnsSetupError(error.to_string());
        let (config, mut resolver_options) = match options.name_servers.is_empty() {
            true => read_system_conf().map_err(setup)?,
            false => (config_of(options), ResolverOpts::default()),
        };
        set_options(&mut resolver_options, options);
        let validator = match options.dnssec {
            true => Some(Validator::new(
                config.name_servers.clone(),
                resolver_options.clone(),
                options.trust_anchors.as_deref(),
                options.cache_entries,
            )?),
            false => None,
        };
        let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(resolver_options);
        Ok(Self {
            resolver: builder.build().map_err(setup)?,
            validator,
            ipv4: options.ipv4,
            ipv6: options.ipv6,
        })
    }

    /// The TXT records of a name, the strings of each joined. Octets that are not UTF-8 are replaced.
    pub async fn txt(&self, name: &str) -> Result<Vec<String>, Nothing> {
        self.records(name, RecordType::TXT, |data| match data {
            RData::TXT(txt) => {
                let joined = txt.txt_data.concat();
                Some(String::from_utf8_lossy(&joined).into_owned())
            }
            _ => None,
        })
        .await
    }

    /// The MX records of a name, lowest preference first.
    pub async fn mx(&self, name: &str) -> Result<Vec<Mx>, Nothing> {
        let mut found = self
            .records(name, RecordType::MX, |data| match data {
                RData::MX(mx) => Some(Mx {
                    preference: mx.preference,
                    host: text_of(&mx.exchange),
                }),
                _ => None,
            })
            .await?;
        found.sort_by_key(|mx| mx.preference);
        Ok(found)
    }

    /// The IPv4 addresses of a name.
    pub async fn ipv4(&self, name: &str) -> Result<Vec<Ipv4Addr>, Nothing> {
        self.records(name, RecordType::A, |data| match data {
            RData::A(a) => Some(a.0),
            _ => None,
        })
        .await
    }

    /// The IPv6 addresses of a name.
    pub async fn ipv6(&self, name: &str) -> Result<Vec<Ipv6Addr>, Nothing> {
        self.records(name, RecordType::AAAA, |data| match data {
            RData::AAAA(aaaa) => Some(aaaa.0),
            _ => None,
        })
        .await
    }

    /// The addresses at which a host can be reached from here, those of IPv4 first: only families that the options
    /// allow. An address in text form is taken as it is. One family's failure does not hide what the other gave.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Nothing> {
        if let Ok(ip) = name.parse() {
            return Ok(vec![ip]);
        }
        let (v4, v6) = tokio::join!(
            async {
                match self.ipv4 {
                    true => self.ipv4(name).await,
                    false => Err(Nothing::NoRecord),
                }
            },
            async {
                match self.ipv6 {
                    true => self.ipv6(name).await,
                    false => Err(Nothing::NoRecord),
                }
            }
        );
        let v4 = v4.map(|found| found.into_iter().map(IpAddr::V4).collect());
        let v6 = v6.map(|found| found.into_iter().map(IpAddr::V6).collect());
        merge_families(v4, v6)
    }

    /// The names of an address (PTR), lower-case and without the final dot. What they say is its owner's word alone.
    pub async fn names_of(&self, ip: IpAddr) -> Result<Vec<String>, Nothing> {
        let data = |data: &RData| match data {
            RData::PTR(ptr) => Some(text_of(&ptr.0)),
            _ => None,
        };
        self.lookup(Name::from(ip.to_canonical()), RecordType::PTR, data)
            .await
    }

    /// What a name is an alias of.
    pub async fn alias_of(&self, name: &str) -> Result<String, Nothing> {
        let found = self
            .records(name, RecordType::CNAME, |data| match data {
                RData::CNAME(target) => Some(text_of(&target.0)),
                _ => None,
            })
            .await?;
        found.into_iter().next().ok_or(Nothing::NoRecord)
    }

    /// The CAA records of a name: whether an issuer must understand it, its tag in lower case, and its value.
    pub async fn caa(&self, name: &str) -> Result<Vec<(bool, String, String)>, Nothing> {
        self.records(name, RecordType::CAA, |data| match data {
            RData::CAA(caa) => Some((
                caa.issuer_critical,
                caa.tag.to_ascii_lowercase(),
                String::from_utf8_lossy(&caa.value).into_owned(),
            )),
            _ => None,
        })
        .await
    }

    pub(crate) async fn records<T>(
        &self,
        name: &str,
        kind: RecordType,
        data: impl Fn(&RData) -> Option<T>,
    ) -> Result<Vec<T>, Nothing> {
        let name = name_of(name).ok_or(Nothing::NoName)?;
        self.lookup(name, kind, data).await
    }

    async fn lookup<T>(
        &self,
        name: Name,
        kind: RecordType,
        data: impl Fn(&RData) -> Option<T>,
    ) -> Result<Vec<T>, Nothing> {
        let found = match Box::pin(self.resolver.lookup(name, kind)).await {
            Ok(lookup) => {
                let records = lookup.answers().iter();
                let found: Vec<T> = records.filter_map(|record| data(&record.data)).collect();
                match found.is_empty() {
                    true => Err(Nothing::NoRecord),
                    false => Ok(found),
                }
            }
            Err(error) => Err(self.why(&error).await),
        };
        let result = found.as_ref().err().map_or("found", Nothing::as_str);
        let kind: &'static str = kind.into();
        metrics::counter!("nightmail_dns_lookups_total", "kind" => kind, "result" => result)
            .increment(1);
        found
    }

    /// What a failed lookup means. The resolver gives a chain of aliases up as "no such record": an answer of that kind
    /// without the zone's SOA is looked at again.
    async fn why(&self, error: &NetError) -> Nothing {
        if let NetError::Dns(DnsError::NoRecordsFound(found)) = error
            && found.response_code == ResponseCode::NoError
            && found.soa.is_none()
        {
            let name = found.query.name().clone();
            if Box::pin(self.resolver.lookup(name, RecordType::CNAME))
                .await
                .is_ok_and(|lookup| !lookup.answers().is_empty())
            {
                return Nothing::Failed("the aliases do not end".into());
            }
        }
        error.into()
    }
}

/// The addresses of both families, those of IPv4 first.
pub(crate) fn merge_families(
    v4: Result<Vec<IpAddr>, Nothing>,
    v6: Result<Vec<IpAddr>, Nothing>,
) -> Result<Vec<IpAddr>, Nothing> {
    match (v4, v6) {
        (Ok(mut v4), Ok(v6)) => {
            v4.extend(v6);
            Ok(v4)
        }
        (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
        (Err(failed @ Nothing::Failed(_)), _) | (_, Err(failed @ Nothing::Failed(_))) => {
            Err(failed)
        }
        (Err(Nothing::NoName), _) | (_, Err(Nothing::NoName)) => Err(Nothing::NoName),
        (Err(Nothing::NoRecord), Err(Nothing::NoRecord)) => Err(Nothing::NoRecord),
    }
}

fn config_of(options: &DnsOptions) -> ResolverConfig {
    let servers = options.name_servers.iter().map(|server| {
        let connections =
            [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
        NameServerConfig::new(server.ip(), true, connections.into())
    });
    ResolverConfig::from_parts(None, Vec::new(), servers.collect())
}

fn set_options(resolver: &mut ResolverOpts, options: &DnsOptions) {
    resolver.timeout = options.timeout;
    resolver.attempts = options.attempts;
    resolver.cache_size = u64::try_from(options.cache_entries).unwrap_or(u64::MAX);
    resolver.positive_max_ttl = Some(TTL_MAX);
    resolver.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
    resolver.max_active_requests = TCP_QUERIES_MAX;
}

/// The absolute name that text means; `None` when a label is empty or anything is too long. ASCII is taken octet by
/// octet, as DNS allows any.
pub(crate) fn name_of(text: &str) -> Option<Name> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let ascii = match text.is_ascii() {
        true => return from_octets(text),
        false => Name::from_utf8(text).ok()?.to_ascii(),
    };
    from_octets(&ascii)
}

fn from_octets(text: &str) -> Option<Name> {
    let lower = text.to_ascii_lowercase();
    let mut name = Name::from_labels(lower.split('.').map(str::as_bytes)).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// A name as text: lower-case, without the final dot. Labels of visible characters stand for themselves, so that the
/// text can be looked up again.
pub(crate) fn text_of(name: &Name) -> String {
    let is_plain = |label: &[u8]| label.iter().all(|b| b.is_ascii_graphic() && *b != b'.');
    if !name.iter().all(is_plain) {
        return name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
    }
    let labels = name
        .iter()
        .map(|label| String::from_utf8_lossy(label).to_ascii_lowercase());
    labels.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_absolute_and_any_octet_is_taken() {
        for (text, name) in [
            ("A.Example", "a.example"),
            ("a.example.", "a.example"),
            ("_dmarc.a.example", "_dmarc.a.example"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
        ] {
            let found = name_of(text).unwrap();
            assert!(found.is_fqdn());
            assert_eq!(text_of(&found), name);
        }
        let odd = "foo:bar/baz.example";
        assert_eq!(text_of(&name_of(odd).unwrap()), odd);
        let odd = name_of("a b!.example").unwrap();
        assert_eq!(odd.iter().next(), Some(&b"a b!"[..]));
    }

    #[test]
    fn what_cannot_be_a_name_is_none() {
        let long = "x".repeat(64);
        let longer = "abcdefg.".repeat(40);
        for text in ["", ".", "a..b", ".a", &long, &longer] {
            assert_eq!(name_of(text), None, "{text}");
        }
    }
}
