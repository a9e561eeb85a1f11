//! Requests about the life of messages.

use nightmail_core::Timestamp;
use nightmail_core::time::Civil;
use nightmail_journal::{Event, Query, by_message};

use super::{Answer, PAGE_MAX};
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::request::AdminRequest;
use crate::response::{AdminResponse, EventView, TracedView};

/// Events that fit, where the request names no limit.
const EVENTS: usize = 100;

/// Carries a request about the life of messages out.
pub(super) async fn execute(context: &AdminContext, request: AdminRequest) -> Answer {
    match request {
        AdminRequest::Trace {
            text,
            since,
            until,
            limit,
        } => trace(context, text, since, until, limit).await,
        _ => Err(AdminError::failed("not a request about messages")),
    }
}

async fn trace(
    context: &AdminContext,
    text: String,
    since: Option<String>,
    until: Option<String>,
    limit: Option<usize>,
) -> Answer {
    if text.trim_matches(['<', '>', ' ']).is_empty() {
        return Err(AdminError::usage(
            "name an address, @domain, a Message-ID or a queue id",
        ));
    }
    if !context.journal().is_on() {
        return Err(AdminError::refused(
            "no events are kept here: `keep` in [journal] is \"0s\"",
        ));
    }
    let now = nightmail_commit::now();
    let moment = |text: Option<String>| text.map(|text| parse_moment(&text, now)).transpose();
    let query = Query {
        text,
        since: moment(since)?,
        until: moment(until)?,
        limit: limit.unwrap_or(EVENTS).clamp(1, PAGE_MAX),
    };
    let found = Box::pin(context.journal().find(&query)).await;
    let found = found.map_err(|error| AdminError::failed(error.to_string()))?;
    Ok(AdminResponse::Traced {
        items: by_message(found.events).into_iter().map(traced).collect(),
        more: found.more,
    })
}

fn traced(events: Vec<Event>) -> TracedView {
    let id = events.iter().find_map(|event| event.message_id.clone());
    TracedView {
        message_id: id,
        events: events.into_iter().map(view).collect(),
    }
}

fn view(event: Event) -> EventView {
    EventView {
        at: event.at.to_string(),
        event: event.kind.to_string(),
        queue_id: event.queue_id.map(|id| id.to_string()),
        sender: event.sender,
        recipient: event.recipient,
        host: event.host,
        status: event.status,
        text: event.text,
    }
}

/// `2h` (so long before `now`; `s`, `m`, `h` or `d`), `2026-11-22`, or `2026-11-22T16:22:00Z`, with or without seconds
/// and `Z`, in UTC.
pub(super) fn parse_moment(text: &str, now: Timestamp) -> Result<Timestamp, AdminError> {
    let text = text.trim();
    let moment = before(text, now).or_else(|| civil(text));
    moment.ok_or_else(|| {
        AdminError::usage(format!(
            "{text:?} is no time: write 2026-11-22, 2026-11-22T16:22:00Z, or 2h for two hours ago"
        ))
    })
}

fn before(text: &str, now: Timestamp) -> Option<Timestamp> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let count: u32 = text.strip_suffix(unit)?.parse().ok()?;
    Some(now.plus_millis(-(i64::from(count) * seconds * 1000)))
}

fn civil(text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    let (date, time) = text.split_once(['T', 't', ' ']).unwrap_or((text, "00:00"));
    let mut date = date.splitn(3, '-');
    let mut time = time.splitn(3, ':');
    // What events are shown with, parts of seconds, is taken too.
    let (hour, minute) = (time.next()?, time.next()?);
    let (second, millis) = time.next().map_or(("0", "0"), |seconds| {
        seconds.split_once('.').unwrap_or((seconds, "0"))
    });
    let civil = Civil {
        year: date.next()?.parse().ok()?,
        month: date.next()?.parse().ok()?,
        day: date.next()?.parse().ok()?,
        hour: hour.parse().ok()?,
        minute: minute.parse().ok()?,
        second: second.parse().ok()?,
    };
    let millis: u16 = format!("{millis:0<3}").get(..3)?.parse().ok()?;
    let moment = Timestamp::from_civil(civil, 0)?;
    Some(moment.plus_millis(i64::from(millis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_364_520);

    #[test]
    fn moments_are_read_as_people_and_answers_write_them() {
        for (text, before) in [
            ("0s", 0),
            ("90s", 90),
            ("2h", 7200),
            ("7d", 7 * 86_400),
            ("2026-11-22T16:22:00.000Z", 0),
            ("2026-11-22T16:22", 0),
            ("2026-11-22 16:21:59", 1),
            ("2026-11-22", 16 * 3600 + 22 * 60),
        ] {
            let expected = Ok(NOW.plus_millis(-before * 1000));
            assert_eq!(parse_moment(text, NOW), expected, "{text}");
        }
        let half = parse_moment("2026-11-22T16:22:00.5Z", NOW);
        assert_eq!(half, Ok(NOW.plus_millis(500)));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "yesterday",
            "h",
            "-1h",
            "2026-13-01",
            "2026-11-22T25:00",
            "é",
        ] {
            assert!(parse_moment(text, NOW).is_err(), "{text}");
        }
    }
}
