//! Faults that a load makes on purpose, each with its odds; a seed repeats the choices.

use std::fmt::Debug;
use std::str::FromStr;

use crate::corpus::Rng;
use crate::error::BenchError;

/// A fault that the command line can name.
pub trait Fault: Copy + Debug + PartialEq + Send + Sync + 'static {
    /// All of them.
    const ALL: &'static [Self];
    /// Its name on the command line.
    fn name(self) -> &'static str;
}

/// One fault and how likely it is, as `KIND=ODDS` with odds between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chance<F> {
    /// What happens.
    pub fault: F,
    /// In how many of one case.
    pub odds: f64,
}

impl<F: Fault> FromStr for Chance<F> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, odds) = text.split_once('=').ok_or("KIND=ODDS is wanted")?;
        let known = F::ALL.iter().find(|fault| fault.name() == kind);
        let Some(&fault) = known else {
            let names: Vec<&str> = F::ALL.iter().map(|fault| fault.name()).collect();
            return Err(format!("`{kind}` is none of: {}", names.join(", ")));
        };
        let odds = odds.parse().ok().filter(|odds| (0.0..=1.0).contains(odds));
        let odds = odds.ok_or("odds are a number between 0 and 1")?;
        Ok(Self { fault, odds })
    }
}

/// The odds of all faults.
#[derive(Debug, Clone)]
pub(crate) struct Odds<F>(Vec<Chance<F>>);

impl<F: Fault> Odds<F> {
    /// Fails where the odds add up to more than 1.
    pub(crate) fn new(chances: &[Chance<F>]) -> Result<Self, BenchError> {
        let sum: f64 = chances.iter().map(|chance| chance.odds).sum();
        // Decimal fractions that add up to 1 may do so a little above it.
        if sum > 1.0 + 1e-9 {
            let text = format!("the odds of all faults add up to {sum}, which is more than 1");
            return Err(BenchError::Usage(text));
        }
        Ok(Self(chances.to_vec()))
    }

    /// What goes wrong in one case, if anything.
    pub(crate) fn draw(&self, rng: &mut Rng) -> Option<F> {
        if self.0.is_empty() {
            return None;
        }
        let mut left = rng.fraction();
        for chance in &self.0 {
            if left < chance.odds {
                return Some(chance.fault);
            }
            left -= chance.odds;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::sink::SinkFault;

    fn odds(texts: &[&str]) -> Result<Odds<SinkFault>, BenchError> {
        let chances: Vec<_> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Odds::new(&chances)
    }

    #[test]
    fn faults_come_as_often_as_their_odds_say() {
        let odds = odds(&["drop=0.25", "4xx=0.5"]).unwrap();
        let mut rng = Rng::new(3);
        let drawn: Vec<_> = (0..40_000).map(|_| odds.draw(&mut rng)).collect();
        let share = |wanted| drawn.iter().filter(|drawn| **drawn == wanted).count() as f64 / 4e4;
        assert!((share(Some(SinkFault::Drop)) - 0.25).abs() < 0.02);
        assert!((share(Some(SinkFault::Temporary)) - 0.5).abs() < 0.02);
        assert!((share(None) - 0.25).abs() < 0.02);
    }

    #[test]
    fn the_same_seed_makes_the_same_choices() {
        let odds = odds(&["drop=0.3", "half=0.3"]).unwrap();
        let choices = |seed| {
            let mut rng = Rng::new(seed);
            (0..100).map(|_| odds.draw(&mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(choices(7), choices(7));
        assert_ne!(choices(7), choices(8));
    }

    #[test]
    fn wrong_kinds_and_odds_are_refused() {
        for text in ["drop", "drop=", "drop=2", "drop=-1", "none=0.1", "drop=NaN"] {
            assert!(text.parse::<Chance<SinkFault>>().is_err(), "{text}");
        }
        assert!(odds(&["drop=0.6", "4xx=0.6"]).is_err());
        assert!(odds(&["drop=0.1", "4xx=0.2", "5xx=0.7"]).is_ok());
    }
}
