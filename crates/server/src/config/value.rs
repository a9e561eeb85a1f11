//! The kinds of value a key can hold: how each is read from TOML, written back and described.
//!
//! Reading never panics and never guesses: a value that is not exactly of its kind is `None`, and the caller
//! tells the operator what was expected.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use nightmail_cluster::Role;
use nightmail_core::net::IpNetwork;
use nightmail_core::{Address, Domain};
use nightmail_pace::{CodePattern, Offset, Pattern, Rate, SenderPattern, Weekday, Window};
use toml::de::DeValue;

/// A kind of value.
pub trait Setting: Sized {
    /// What a value must look like, to end the sentence "expected …".
    fn expected() -> String;
    /// Reads a value of this kind; `None` when it is of another kind.
    fn read(value: &DeValue<'_>) -> Option<Self>;
    /// Writes the value as TOML; `None` when the key is to be left out.
    fn write(&self) -> Option<String>;
}

fn quoted(text: &str) -> Option<String> {
    Some(toml::Value::String(text.to_owned()).to_string())
}

impl Setting for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        value.as_bool()
    }

    fn write(&self) -> Option<String> {
        Some(self.to_string())
    }
}

macro_rules! integer_settings {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            fn expected() -> String {
                "a whole number".to_owned()
            }

            fn read(value: &DeValue<'_>) -> Option<Self> {
                let integer = value.as_integer()?;
                <$type>::from_str_radix(integer.as_str(), integer.radix()).ok()
            }

            fn write(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}

integer_settings!(u8, u16, u32, u64, usize, i32);

impl Setting for String {
    fn expected() -> String {
        "text in quotes".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }

    fn write(&self) -> Option<String> {
        quoted(self)
    }
}

impl Setting for PathBuf {
    fn expected() -> String {
        "a path in quotes".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        let text = value.as_str().filter(|text| !text.is_empty())?;
        Some(Self::from(text))
    }

    fn write(&self) -> Option<String> {
        quoted(&self.to_string_lossy())
    }
}

impl<T: Setting> Setting for Option<T> {
    fn expected() -> String {
        T::expected()
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        T::read(value).map(Some)
    }

    fn write(&self) -> Option<String> {
        self.as_ref().and_then(T::write)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn expected() -> String {
        format!("a list in brackets, each entry {}", T::expected())
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        let entries = value.as_array()?;
        entries
            .iter()
            .map(|entry| T::read(entry.get_ref()))
            .collect()
    }

    fn write(&self) -> Option<String> {
        let entries: Vec<String> = self.iter().filter_map(T::write).collect();
        Some(format!("[{}]", entries.join(", ")))
    }
}

/// Settings written as quoted text that `FromStr` reads and `Display` writes.
macro_rules! text_settings {
    ($($type:ty: $expected:literal),* $(,)?) => {$(
        impl Setting for $type {
            fn expected() -> String {
                $expected.to_owned()
            }

            fn read(value: &DeValue<'_>) -> Option<Self> {
                value.as_str()?.parse().ok()
            }

            fn write(&self) -> Option<String> {
                quoted(&self.to_string())
            }
        }
    )*};
}

text_settings! {
    Address: "a mail address such as \"ann@example.org\"",
    Domain: "a domain name such as \"mx.example.org\"",
    IpAddr: "an IP address such as \"192.0.2.1\" or \"2001:db8::1\"",
    Pattern: "a pattern of destinations such as \"example.com\", \".example.com\" (and all below), \"*.example.com\" (all below), \"mx:*.example.com\" (by mail exchangers) or \"*\"",
    SenderPattern: "a pattern of senders such as \"ann@example.org\", \"@example.org\", \"@.example.org\", \"ann@\", \"<>\" or \"*\"",
    CodePattern: "a reply code such as \"421\", or \"4..\" with dots for any digit",
    Window: "a window such as \"08:00-18:00\" or \"22:00-06:00\"",
    Weekday: "a day such as \"saturday\"",
    Offset: "an offset from UTC such as \"+01:00\"",
    SocketAddr: "an IP address and port such as \"192.0.2.1:25\" or \"[2001:db8::1]:25\"",
    Role: "one of \"mx\", \"submission\", \"imap\", \"pop3\", \"delivery\", \"admin\"",
    HostPort: "a host and port such as \"relay.example.org:587\"",
    IpNetwork: "an IP address or a network such as \"10.0.0.0/8\" or \"2001:db8::/32\", with zeros behind its prefix",
    ListenAddress: "an IP address and port such as \"[::]:25\", a socket such as \"unix:/run/nightmail/lmtp.sock\", or one of systemd's such as \"systemd:smtp\"",
}

/// A host name or IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A domain name, or an IP address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// Text that is not of the kind asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a value of this kind")]
pub struct NotThisKind;

impl FromStr for HostPort {
    type Err = NotThisKind;

    fn from_str(text: &str) -> Result<Self, NotThisKind> {
        let (host, port) = text.rsplit_once(':').ok_or(NotThisKind)?;
        let port = port.parse().map_err(|_| NotThisKind)?;
        let host = match host.strip_prefix('[') {
            Some(literal) => {
                let ip = literal.strip_suffix(']').ok_or(NotThisKind)?;
                let ip: std::net::Ipv6Addr = ip.parse().map_err(|_| NotThisKind)?;
                ip.to_string()
            }
            None => Domain::parse(host).map_err(|_| NotThisKind)?.to_string(),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Where a listener waits for connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix-domain stream socket.
    Unix(PathBuf),
    /// The sockets that systemd passes under this name.
    Systemd(String),
}

impl FromStr for ListenAddress {
    type Err = NotThisKind;

    fn from_str(text: &str) -> Result<Self, NotThisKind> {
        if let Some(name) = text.strip_prefix("systemd:") {
            // Names of file descriptors have no colon (sd_listen_fds_with_names).
            let usable = !name.is_empty() && !name.contains([':', ' ']);
            return usable
                .then(|| Self::Systemd(name.to_owned()))
                .ok_or(NotThisKind);
        }
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            Some(_) => Err(NotThisKind),
            None => text.parse().map(Self::Tcp).map_err(|_| NotThisKind),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

/// A part of the program that can be turned off: `"off"`, or the value it works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Switch<T> {
    /// Turned off.
    Off,
    /// Turned on, with its value.
    On(T),
}

impl<T> Switch<T> {
    /// The value, unless turned off.
    pub const fn on(&self) -> Option<&T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }
}

impl<T: Setting> Setting for Switch<T> {
    fn expected() -> String {
        format!("{}, or \"off\"", T::expected())
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        if value.as_str() == Some("off") {
            return Some(Self::Off);
        }
        T::read(value).map(Self::On)
    }

    fn write(&self) -> Option<String> {
        match self {
            Self::Off => quoted("off"),
            Self::On(value) => value.write(),
        }
    }
}

const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl Setting for Duration {
    fn expected() -> String {
        "a duration such as \"200ms\", \"30s\", \"5m\", \"4h\" or \"5d\"".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        parse_duration(value.as_str()?)
    }

    fn write(&self) -> Option<String> {
        quoted(&show_duration(*self)?)
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let (_, millis) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*millis).map(Duration::from_millis)
}

fn show_duration(duration: Duration) -> Option<String> {
    let millis = u64::try_from(duration.as_millis()).ok()?;
    let exact = DURATION_UNITS
        .iter()
        .find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit));
    Some(match exact {
        Some((name, unit)) => format!("{}{name}", millis / unit),
        None => "0s".to_owned(),
    })
}

impl Setting for Rate {
    fn expected() -> String {
        "messages and the time they are for, such as \"600/1h\"".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        let (messages, per) = value.as_str()?.split_once('/')?;
        let plain = messages.bytes().all(|octet| octet.is_ascii_digit());
        let messages = messages
            .parse()
            .ok()
            .filter(|messages| plain && *messages > 0)?;
        let per = parse_duration(per).filter(|per| !per.is_zero())?;
        Some(Self { messages, per })
    }

    fn write(&self) -> Option<String> {
        quoted(&format!("{}/{}", self.messages, show_duration(self.per)?))
    }
}

const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// A number of octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(u64);

impl ByteSize {
    /// A size in octets.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A size in binary kilobytes.
    pub const fn kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    /// A size in binary megabytes.
    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// The size in octets.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl Setting for ByteSize {
    fn expected() -> String {
        "a size such as \"64KiB\", \"50MiB\", \"2GiB\", or a number of bytes".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        if let Some(bytes) = u64::read(value) {
            return Some(Self(bytes));
        }
        let (number, unit) = number_and_unit(value.as_str()?)?;
        let (_, scale) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
        number.checked_mul(*scale).map(Self)
    }

    fn write(&self) -> Option<String> {
        let exact = SIZE_UNITS
            .iter()
            .find(|(_, unit)| self.0 > 0 && self.0.is_multiple_of(*unit));
        match exact {
            Some((name, unit)) => quoted(&format!("{}{name}", self.0 / unit)),
            None => Some("0".to_owned()),
        }
    }
}

/// Splits `"50 MiB"` into 50 and `MiB`.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

/// Declares an enum whose values are written as fixed words.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $( $(#[$vmeta:meta])* $variant:ident = $word:literal, )+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$vmeta])* $variant, )+ }

        impl $name {
            /// The word used in the configuration, in the log and in metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::config::Setting for $name {
            fn expected() -> String {
                let words: &[&str] = &[$( concat!("\"", $word, "\"") ),+];
                format!("one of {}", words.join(", "))
            }

            fn read(value: &toml::de::DeValue<'_>) -> Option<Self> {
                match value.as_str()? {
                    $( $word => Some(Self::$variant), )+
                    _ => None,
                }
            }

            fn write(&self) -> Option<String> {
                Some(format!("\"{}\"", self.as_str()))
            }
        }
    };
}
pub(crate) use choice;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<T: Setting>(toml: &str) -> Option<T> {
        T::read(DeValue::parse(toml).ok()?.get_ref())
    }

    #[test]
    fn durations_need_a_unit_that_is_known() {
        assert_eq!(read("\"5m\""), Some(Duration::from_secs(300)));
        assert_eq!(read("\"200 ms\""), Some(Duration::from_millis(200)));
        assert_eq!(read("\"5d\""), Some(Duration::from_secs(432_000)));
        for wrong in ["5", "\"5\"", "\"5 weeks\"", "\"-5s\"", "\"s\"", "true"] {
            assert_eq!(read::<Duration>(wrong), None, "{wrong}");
        }
        assert_eq!(read::<Duration>("\"99999999999999999d\""), None);
    }

    #[test]
    fn sizes_are_binary_or_plain_bytes() {
        assert_eq!(read("\"50MiB\""), Some(ByteSize::mib(50)));
        assert_eq!(read("4096"), Some(ByteSize::kib(4)));
        assert_eq!(read("0x1000"), Some(ByteSize::kib(4)));
        for wrong in ["\"50MB\"", "-1", "\"99999999999GiB\"", "1.5"] {
            assert_eq!(read::<ByteSize>(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn addresses_are_tcp_or_absolute_unix_paths() {
        assert_eq!(
            read("\"unix:/run/a.sock\""),
            Some(ListenAddress::Unix("/run/a.sock".into()))
        );
        assert!(matches!(
            read("\"[::]:25\""),
            Some(ListenAddress::Tcp(address)) if address.port() == 25
        ));
        for wrong in ["\"unix:a.sock\"", "\"25\"", "\"localhost:25\"", "25"] {
            assert_eq!(read::<ListenAddress>(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn smarthosts_are_names_or_addresses_with_a_port() {
        for (text, host, port) in [
            ("relay.example.org:587", "relay.example.org", 587),
            ("192.0.2.1:25", "192.0.2.1", 25),
            ("[2001:db8::1]:465", "2001:db8::1", 465),
        ] {
            let parsed: HostPort = text.parse().unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port));
            assert_eq!(parsed.to_string(), text);
        }
        for wrong in ["relay", "relay:x", ":25", "[::1:25", "2001:db8::1:25"] {
            assert_eq!(wrong.parse::<HostPort>(), Err(NotThisKind), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn durations_read_back_as_written(millis in 0u64..10_000_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(read(&duration.write().unwrap()), Some(duration));
        }

        #[test]
        fn rates_read_back_as_written(messages in 1u32.., millis in 1u64..10_000_000_000) {
            let rate = Rate { messages, per: Duration::from_millis(millis) };
            prop_assert_eq!(read(&rate.write().unwrap()), Some(rate));
        }

        #[test]
        fn sizes_read_back_as_written(bytes in 0u64..=i64::MAX as u64) {
            let size = ByteSize::bytes(bytes);
            prop_assert_eq!(read(&size.write().unwrap()), Some(size));
        }

        #[test]
        fn text_reads_back_as_written(text: String) {
            prop_assert_eq!(read(&text.write().unwrap()), Some(text));
        }
    }
}
