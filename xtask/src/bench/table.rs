//! The table of figures and ratios.

use super::load::{
    CHECKS, DAWDLERS, DELIVERIES, Figures, IDLE, MEASURES, ROUND_TRIPS, RSS, SHARED, SYNCS,
    TWO_NODES, WRITTEN,
};
use super::mailboxes::{
    COMMANDS, DELIVERY, HUGE_MEMORY, HUGE_OPEN, IDLE_PLAIN, IDLE_TLS, Measured, RESYNC, STATUSES,
    WAKE,
};
use super::queue::{CPU, FIRST_SEND, PICK, QUEUED_RSS};
use super::relay::{HOLES, RELAY, RELAY_DOMAINS};

/// Figures of Nightmail alone, with the bound they should stay below, where there is one.
const BOUNDS: [(&str, Option<f64>); 11] = [
    (RELAY_DOMAINS, None),
    (FIRST_SEND, Some(3.0)),
    (QUEUED_RSS, Some(300.0)),
    (CPU, Some(1.0)),
    (PICK, Some(2.0)),
    (DAWDLERS, Some(2.0)),
    (ROUND_TRIPS, Some(0.2)),
    (RSS, Some(150.0)),
    (IDLE, Some(6.0)),
    (WRITTEN, None),
    (SYNCS, None),
];

/// One line of the table.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    name: &'static str,
    ours: Option<f64>,
    /// The best peer's figure, and which peer it was.
    peer: Option<(f64, String)>,
    goal: Goal,
}

#[derive(Debug, PartialEq)]
enum Goal {
    Ratio(f64),
    Above(f64),
    Below(f64),
    None,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        let (peer, _) = self.peer.as_ref()?;
        Some(self.ours? / peer)
    }

    /// Whether the goal was not reached; never where something was not measured.
    pub(super) fn missed(&self) -> bool {
        match self.goal {
            Goal::Ratio(target) => self.ratio().is_some_and(|ratio| ratio < target),
            Goal::Above(bound) => self.ours.is_some_and(|ours| ours <= bound),
            Goal::Below(bound) => self.ours.is_some_and(|ours| ours >= bound),
            Goal::None => false,
        }
    }

    fn verdict(&self) -> &'static str {
        let measured = match self.goal {
            Goal::Ratio(_) => self.ratio().is_some(),
            Goal::Above(_) | Goal::Below(_) => self.ours.is_some(),
            Goal::None => false,
        };
        match (measured, self.missed()) {
            (false, _) => "",
            (true, false) => "met",
            (true, true) => "MISSED",
        }
    }
}

/// Puts the figures together.
pub(super) fn rows(ours: &Figures, peers: &[(String, Figures)], alone: &Figures) -> Vec<Row> {
    let compared = MEASURES.iter().map(|measure| Row {
        name: measure.name,
        ours: ours.get(measure.name).copied(),
        peer: best(measure.name, peers),
        goal: Goal::Ratio(measure.target),
    });
    let bounded = BOUNDS.iter().map(|(name, bound)| Row {
        name,
        ours: alone.get(name).copied(),
        peer: None,
        goal: bound.map_or(Goal::None, Goal::Below),
    });
    let shared = Row {
        name: SHARED,
        ours: alone.get(SHARED).copied(),
        peer: best(DELIVERIES.name, peers),
        goal: Goal::Ratio(4.0),
    };
    let two = Row {
        name: TWO_NODES,
        ours: alone.get(TWO_NODES).copied(),
        peer: None,
        goal: Goal::Above(1.0),
    };
    let checks = Row {
        name: CHECKS,
        ours: alone.get(CHECKS).copied(),
        peer: None,
        goal: Goal::Above(0.5),
    };
    let relay = Row {
        name: RELAY,
        ours: alone.get(RELAY).copied(),
        peer: best(RELAY, peers),
        goal: Goal::Ratio(8.0),
    };
    let holes = Row {
        name: HOLES,
        ours: alone.get(HOLES).copied(),
        peer: None,
        goal: Goal::Above(0.9),
    };
    let single = [shared, two, checks, relay, holes];
    compared.chain(single).chain(bounded).collect()
}

/// What large mailboxes should cost.
const MAILBOX_BOUNDS: [(&str, f64); 8] = [
    (HUGE_OPEN, 1.0),
    (HUGE_MEMORY, 40.0),
    (STATUSES, 50.0),
    (DELIVERY, 1.5),
    (RESYNC, 2.0),
    (IDLE_PLAIN, 6.0),
    (IDLE_TLS, 25.0),
    (WAKE, 1.5),
];

/// Puts the figures of large mailboxes together.
pub(super) fn mailbox_rows(measured: &Measured) -> Vec<Row> {
    let compared = COMMANDS.iter().map(|command| Row {
        name: command.name,
        ours: measured.ours.get(command.name).copied(),
        peer: best(command.name, &measured.peers),
        goal: command.target.map_or(Goal::None, Goal::Ratio),
    });
    let bounded = MAILBOX_BOUNDS.iter().map(|(name, bound)| Row {
        name,
        ours: measured.alone.get(name).copied(),
        peer: None,
        goal: Goal::Below(*bound),
    });
    compared.chain(bounded).collect()
}

fn best(name: &str, peers: &[(String, Figures)]) -> Option<(f64, String)> {
    let told = peers
        .iter()
        .filter_map(|(peer, figures)| Some((*figures.get(name)?, peer.clone())));
    told.max_by(|a, b| a.0.total_cmp(&b.0))
}

/// The table as text.
pub(super) fn render(rows: &[Row]) -> String {
    let mut text = format!(
        "\n{:<64} {:>10} {:>19} {:>7} {:>8}\n",
        "", "nightmail", "best peer", "ratio", "target"
    );
    for row in rows {
        let figure = |value: Option<f64>| value.map_or("-".to_owned(), number);
        let peer = row.peer.as_ref();
        let peer = peer.map_or("-".to_owned(), |(value, name)| {
            format!("{} ({name})", number(*value))
        });
        let ratio = row
            .ratio()
            .map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        let goal = match row.goal {
            Goal::Ratio(target) => format!(">= {target}"),
            Goal::Above(bound) => format!("> {bound}"),
            Goal::Below(bound) => format!("< {bound}"),
            Goal::None => "-".to_owned(),
        };
        let line = format!(
            "{:<64} {:>10} {peer:>19} {ratio:>7} {goal:>8} {}",
            row.name,
            figure(row.ours),
            row.verdict()
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn number(value: f64) -> String {
    match value < 100.0 {
        true => format!("{value:.2}"),
        false => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(ours: f64) -> Vec<Row> {
        let name = MEASURES[0].name;
        let peers = [
            ("maildir".to_owned(), Figures::from([(name, 100.0)])),
            ("mdbox".to_owned(), Figures::from([(name, 200.0)])),
        ];
        let alone = Figures::from([(RSS, 149.0), (IDLE, 6.5)]);
        rows(&Figures::from([(name, ours)]), &peers, &alone)
    }

    #[test]
    fn the_best_peer_is_the_measure() {
        let rows = sample(3_000.0);
        assert_eq!(rows[0].ratio(), Some(15.0));
        assert!(!rows[0].missed());
        assert!(sample(2_999.0)[0].missed());
    }

    #[test]
    fn bounds_are_met_below_and_missed_above() {
        let missed: Vec<_> = sample(3_000.0).into_iter().filter(Row::missed).collect();
        assert_eq!(missed.len(), 1);
        assert_eq!(missed[0].name, IDLE);
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        let rows = rows(&Figures::new(), &[], &Figures::new());
        assert!(rows.iter().all(|row| row.verdict().is_empty()));
        assert!(render(&rows).lines().count() > MEASURES.len());
    }
}
