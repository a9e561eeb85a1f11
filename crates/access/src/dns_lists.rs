//! DNS lists of addresses and names (RFC 5782), each with a weight.
//!
//! All lists of one subject are asked at once, each for a bounded time. A list that does not answer gives no points.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures_util::future::join_all;
use nightmail_core::Domain;
use nightmail_core::net::IpNetwork;
use nightmail_dns::{Dns, Nothing};

/// How long a list may take.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(5);
/// The longest text of a list that is passed on, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// What a list is asked about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Subject {
    /// The client's address.
    Client,
    /// The client's name.
    ClientName,
    /// The name given in HELO or EHLO.
    Helo,
    /// The sender's domain.
    Sender,
}

/// One list.
#[derive(Clone, Debug)]
pub struct DnsListOptions {
    /// Its zone.
    pub zone: Domain,
    /// What it is asked about.
    pub of: Subject,
    /// Points for being on it; negative for lists of the good.
    pub weight: i32,
    /// The answers that count. When empty all of 127.0.0.0/8 do, except 127.255.255.0/24, in which lists tell errors.
    pub answers: Vec<IpNetwork>,
}

/// A list that something is on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hit {
    /// The list's zone.
    pub zone: Domain,
    /// Its points.
    pub points: i32,
    /// The first of its answers that counts.
    pub answer: Ipv4Addr,
    /// What the list says about it, fetched only where the points are not in its favour. Without control characters.
    pub text: Option<String>,
}

/// What lists say about something.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Score {
    /// The sum of the weights.
    pub points: i32,
    /// The lists it is on.
    pub hits: Vec<Hit>,
}

impl Score {
    /// Adds what other lists say.
    pub fn add(&mut self, other: Self) {
        self.points = self.points.saturating_add(other.points);
        self.hits.extend(other.hits);
    }

    /// The hit that weighs most against it.
    pub fn worst(&self) -> Option<&Hit> {
        let against = self.hits.iter().filter(|hit| hit.points > 0);
        against.max_by_key(|hit| hit.points)
    }
}

/// Whether a list works, by the entries that each must and must not have (RFC 5782 §5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListTest {
    /// The list's zone.
    pub zone: Domain,
    /// What is wrong with it; `None` when it works.
    pub problem: Option<String>,
}

/// The lists of a site.
#[derive(Clone, Debug)]
pub struct DnsLists {
    dns: Dns,
    lists: Vec<DnsListOptions>,
    time_max: Duration,
}

impl DnsLists {
    /// Lists that are asked through `dns`.
    pub const fn new(dns: Dns, lists: Vec<DnsListOptions>) -> Self {
        Self {
            dns,
            lists,
            time_max: LOOKUP_TIME_MAX,
        }
    }

    /// The same, each list having this long for its answer instead of 5 seconds.
    #[must_use]
    pub const fn with_time_max(mut self, time_max: Duration) -> Self {
        self.time_max = time_max;
        self
    }

    /// Whether a list is asked about this.
    pub fn has(&self, subject: Subject) -> bool {
        self.of(subject).next().is_some()
    }

    /// What the lists say about a client's address.
    pub async fn score_client(&self, ip: IpAddr) -> Score {
        self.score(Subject::Client, &reversed(ip)).await
    }

    /// What the lists of `subject` say about a name. What is no name with a dot, such as an address literal, is on none.
    pub async fn score_name(&self, subject: Subject, name: &str) -> Score {
        match Domain::parse(name) {
            Ok(name) if name.as_literal().is_none() && name.as_str().contains('.') => {
                self.score(subject, name.as_str()).await
            }
            _ => Score::default(),
        }
    }

    /// Whether each list has the entry that every list has, and not the one that none has.
    pub async fn test(&self) -> Vec<ListTest> {
        join_all(self.lists.iter().map(|list| self.test_list(list))).await
    }

    fn of(&self, subject: Subject) -> impl Iterator<Item = &DnsListOptions> {
        self.lists.iter().filter(move |list| list.of == subject)
    }

    async fn score(&self, subject: Subject, asked: &str) -> Score {
        let lookups = self.of(subject).map(|list| self.ask(list, asked));
        let hits: Vec<Hit> = join_all(lookups).await.into_iter().flatten().collect();
        let points = hits.iter().map(|hit| hit.points);
        Score {
            points: points.fold(0, i32::saturating_add),
            hits,
        }
    }

    async fn ask(&self, list: &DnsListOptions, asked: &str) -> Option<Hit> {
        let name = format!("{asked}.{}", list.zone);
        let answer = self.answer(list, &name).await.ok().flatten()?;
        let text = match list.weight > 0 {
            true => self.text(&name).await,
            false => None,
        };
        Some(Hit {
            zone: list.zone.clone(),
            points: list.weight,
            answer,
            text,
        })
    }

    /// The first answer that counts; an error when the list does not say.
    async fn answer(&self, list: &DnsListOptions, name: &str) -> Result<Option<Ipv4Addr>, String> {
        let looked = tokio::time::timeout(self.time_max, self.dns.ipv4(name)).await;
        match looked {
            Ok(Ok(answers)) => Ok(answers.into_iter().find(|answer| list.counts(*answer))),
            Ok(Err(Nothing::Failed(text))) => Err(text),
            Ok(Err(Nothing::NoName | Nothing::NoRecord)) => Ok(None),
            Err(_) => Err("no answer in time".into()),
        }
    }

    async fn text(&self, name: &str) -> Option<String> {
        let looked = tokio::time::timeout(self.time_max, self.dns.txt(name)).await;
        let text = looked.ok()?.ok()?.into_iter().next()?;
        let printable = text.chars().filter(|c| !c.is_control());
        Some(printable.take(TEXT_CHARS_MAX).collect())
    }

    async fn test_list(&self, list: &DnsListOptions) -> ListTest {
        let (present, absent) = match list.of {
            Subject::Client => (
                reversed(Ipv4Addr::new(127, 0, 0, 2).into()),
                reversed(Ipv4Addr::LOCALHOST.into()),
            ),
            _ => ("test".to_owned(), "invalid".to_owned()),
        };
        let (present, absent) = (
            format!("{present}.{}", list.zone),
            format!("{absent}.{}", list.zone),
        );
        let (present, absent) =
            tokio::join!(self.answer(list, &present), self.answer(list, &absent));
        let problem = match (present, absent) {
            (Err(text), _) | (_, Err(text)) => Some(format!("it does not answer: {text}")),
            (Ok(None), _) => Some("the entry that every list has is missing".to_owned()),
            (_, Ok(Some(_))) => Some("it lists everything".to_owned()),
            (Ok(Some(_)), Ok(None)) => None,
        };
        ListTest {
            zone: list.zone.clone(),
            problem,
        }
    }
}

impl DnsListOptions {
    /// An answer outside of 127.0.0.0/8 is never one of a list, but of somebody who answers for every name.
    fn counts(&self, answer: Ipv4Addr) -> bool {
        match self.answers.is_empty() {
            true => answer.is_loopback() && !matches!(answer.octets(), [127, 255, 255, _]),
            false => {
                let answer_ip = IpAddr::V4(answer);
                answer.is_loopback() && self.answers.iter().any(|net| net.contains(answer_ip))
            }
        }
    }
}

/// The labels by which lists name an address: octets of IPv4, nibbles of IPv6, the last first.
fn reversed(ip: IpAddr) -> String {
    let labels: Vec<String> = match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets().iter().rev().map(u8::to_string).collect(),
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev();
            let nibbles = nibbles.flat_map(|octet| [octet & 0xf, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect()
        }
    };
    labels.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_named_from_behind() {
        for (ip, labels) in [
            ("192.0.2.99", "99.2.0.192"),
            ("::ffff:192.0.2.99", "99.2.0.192"),
            (
                "2001:db8:1:2:3:4:567:89ab",
                "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2",
            ),
        ] {
            assert_eq!(reversed(ip.parse().unwrap()), labels);
        }
    }

    #[test]
    fn answers_outside_of_127_and_errors_do_not_count() {
        let list = |answers: &[&str]| DnsListOptions {
            zone: "list.test".parse().unwrap(),
            of: Subject::Client,
            weight: 1,
            answers: answers.iter().map(|net| net.parse().unwrap()).collect(),
        };
        for (answers, answer, counts) in [
            (&[][..], "127.0.0.2", true),
            (&[], "127.1.2.3", true),
            (&[], "192.0.2.1", false),
            (&[], "127.255.255.254", false),
            (&["127.255.255.0/24"], "127.255.255.254", true),
            (&["127.0.0.2", "127.0.1.0/24"], "127.0.1.9", true),
            (&["127.0.0.2"], "127.0.0.3", false),
            (&["0.0.0.0/0"], "192.0.2.1", false),
        ] {
            assert_eq!(
                list(answers).counts(answer.parse().unwrap()),
                counts,
                "{answer}"
            );
        }
    }

    #[test]
    fn the_worst_hit_is_the_one_to_tell_of() {
        let hit = |zone: &str, points| Hit {
            zone: zone.parse().unwrap(),
            points,
            answer: Ipv4Addr::new(127, 0, 0, 2),
            text: None,
        };
        let mut score = Score {
            points: 3,
            hits: vec![hit("a.test", 3)],
        };
        score.add(Score {
            points: -1,
            hits: vec![hit("b.test", 5), hit("good.test", -6)],
        });
        assert_eq!(score.points, 2);
        assert_eq!(score.worst().unwrap().zone.as_str(), "b.test");
    }
}
