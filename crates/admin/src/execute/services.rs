//! Between what operators say of an account's services and what the directory keeps.

use nightmail_core::Timestamp;
use nightmail_directory::{AccountChange, AccountRecord, AttachmentMode, OverQuota, Vacation};

use super::parse_addresses;
use super::trace::parse_moment;
use crate::error::AdminError;
use crate::services::{
    AttachmentsSetting, ForwardView, LoginDelaySetting, OverQuotaSetting, ServicesChange,
    ServicesView, VacationSetting, VacationView,
};

/// The part of a change that is about services.
pub(super) fn change(services: ServicesChange) -> Result<AccountChange, AdminError> {
    let now = nightmail_commit::now();
    let forward = services.forward.map(|forward| {
        let to = parse_addresses(&forward.to)?;
        Ok::<_, AdminError>((to, forward.keep_copy))
    });
    let vacation = services.vacation.map(|setting| match setting {
        VacationSetting::Off => Ok(None),
        VacationSetting::On(view) => vacation(view, now).map(Some),
    });
    Ok(AccountChange {
        public: services.public,
        forward: forward.transpose()?,
        vacation: vacation.transpose()?,
        attachments: services.attachments.map(|setting| match setting {
            AttachmentsSetting::Whole => AttachmentMode::Whole,
            AttachmentsSetting::Apart => AttachmentMode::Apart,
        }),
        over_quota: services.over_quota.map(|setting| match setting {
            OverQuotaSetting::Default => OverQuota::Default,
            OverQuotaSetting::Defer => OverQuota::Defer,
            OverQuotaSetting::Refuse => OverQuota::Refuse,
        }),
        save_sent: services.save_sent,
        login_delay_secs: services.login_delay.map(|setting| match setting {
            LoginDelaySetting::Default => None,
            LoginDelaySetting::Secs(seconds) => Some(seconds),
        }),
        ..AccountChange::default()
    })
}

fn vacation(view: VacationView, now: Timestamp) -> Result<Vacation, AdminError> {
    let moment = |text: Option<String>| text.map(|text| parse_moment(&text, now)).transpose();
    if view.text.trim().is_empty() {
        return Err(AdminError::usage(
            "an automatic reply must say something; give its text".to_owned(),
        ));
    }
    if view.interval_days == 0 {
        return Err(AdminError::usage(
            "a sender is answered at most once a day: give 1 day or more".to_owned(),
        ));
    }
    Ok(Vacation {
        subject: view.subject,
        text: view.text,
        from: moment(view.from)?,
        until: moment(view.until)?,
        interval_days: view.interval_days,
    })
}

/// The services of an account.
pub(super) fn view(record: &AccountRecord) -> ServicesView {
    let services = &record.services;
    let shown = |time: Option<Timestamp>| time.map(|time| time.to_string());
    ServicesView {
        public: record.public,
        forward: ForwardView {
            to: services.forward.iter().map(ToString::to_string).collect(),
            keep_copy: services.forward_keeps_copy,
        },
        vacation: services.vacation.as_ref().map(|vacation| VacationView {
            subject: vacation.subject.clone(),
            text: vacation.text.clone(),
            from: shown(vacation.from),
            until: shown(vacation.until),
            interval_days: vacation.interval_days,
        }),
        attachments: match services.attachments {
            AttachmentMode::Whole => AttachmentsSetting::Whole,
            AttachmentMode::Apart => AttachmentsSetting::Apart,
        },
        over_quota: match services.over_quota {
            OverQuota::Default => OverQuotaSetting::Default,
            OverQuota::Defer => OverQuotaSetting::Defer,
            OverQuota::Refuse => OverQuotaSetting::Refuse,
        },
        save_sent: services.save_sent,
        login_delay: match services.login_delay_secs {
            None => LoginDelaySetting::Default,
            Some(seconds) => LoginDelaySetting::Secs(seconds),
        },
    }
}
