//! What the machine of a listener offers, and its bounds.

use std::time::Duration;

use nightmail_smtp::command::Extensions;
use nightmail_smtp::server::{AuthOffer, Config, Limits, Role, TlsOffer};

use crate::config::{self, Protocol, TlsMode};
use crate::services::Services;

pub(super) fn machine_config(services: &Services, listener: &config::Listener) -> Config {
    let role = match listener.protocol {
        Protocol::Submission => Role::Msa,
        Protocol::Lmtp => Role::Lmtp,
        Protocol::Odmr => Role::Odmr,
        _ => Role::Mta,
    };
    let settings = &services.config;
    let mut machine = Config::new(role, services.hostname().as_str());
    machine.banner = "Nightmail".to_owned();
    machine.tls = match listener.tls_mode() {
        TlsMode::Starttls => TlsOffer::Offered,
        TlsMode::None | TlsMode::Implicit => TlsOffer::Off,
    };
    machine.auth = match (role, listener.plaintext_auth) {
        (Role::Msa | Role::Odmr, true) => AuthOffer::Always,
        (Role::Msa | Role::Odmr, false) => AuthOffer::OverTls,
        (Role::Mta | Role::Lmtp, _) => AuthOffer::Off,
    };
    machine.auth_mechanisms = services.logins.mechanisms();
    machine.extensions = extensions(settings.submission.hold_max);
    machine.limits = Limits {
        message_octets_max: settings.message_size_max().get(),
        recipients_max: settings.limits.recipients_max,
        errors_max: count(settings.limits.errors_max),
        auth_failures_max: count(settings.limits.auth_failures_max),
        transactions_max: count(settings.limits.transactions_max),
        command_timeout: settings.timeouts.smtp_command,
        data_timeout: settings.timeouts.smtp_data,
        handshake_timeout: settings.timeouts.tls_handshake,
        ..Limits::default()
    };
    machine
}

/// Everything is done; holding back as far as is allowed.
fn extensions(hold_max: Duration) -> Extensions {
    Extensions {
        future_release: (!hold_max.is_zero()).then_some(hold_max),
        ..Extensions::ALL
    }
}

fn count(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}
