//! Who relayed messages are for: recipients that name their message, over many domains.

use clap::{Args, ValueEnum};

use crate::corpus::Rng;

/// How recipients are spread over domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Spread {
    /// All alike.
    Uniform,
    /// A few have most: the n-th has a share of about 1/n.
    Zipf,
}

/// The recipients of a run. Each address belongs to one message only, so that what arrives can be counted by it.
#[derive(Debug, Clone, Args)]
pub struct Population {
    /// Domains that recipients are in: d00001 and so on, below the suffix.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub domains: u32,
    /// How they are spread over the domains.
    #[arg(long, value_enum, default_value_t = Spread::Uniform)]
    pub spread: Spread,
    /// What the names of domains end with.
    #[arg(long, default_value = "far.test")]
    pub suffix: String,
    /// Recipients of a message at most; how many there are is drawn evenly.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub recipients: u32,
    /// Number of the first message: runs whose numbers differ have different recipients.
    #[arg(long, default_value_t = 0)]
    pub first: u64,
}

impl Population {
    /// The recipients of message `number` of a run, the same for the same seed.
    pub fn recipients(&self, seed: u64, number: u64) -> Vec<String> {
        let number = self.first.saturating_add(number);
        let mut rng = Rng::new(seed ^ number.wrapping_mul(0xa076_1d64_78bd_642f));
        let count = 1 + rng.below(u64::from(self.recipients));
        (0..count)
            .map(|place| {
                let domain = self.domain(&mut rng);
                format!("m{number}-{place}@d{domain:05}.{}", self.suffix)
            })
            .collect()
    }

    /// A domain's number, from 1.
    fn domain(&self, rng: &mut Rng) -> u64 {
        let count = u64::from(self.domains);
        match self.spread {
            Spread::Uniform => 1 + rng.below(count),
            // The logarithm of a rank is about even where the n-th has a share of 1/n.
            Spread::Zipf => {
                let rank = ((count + 1) as f64).powf(rng.fraction());
                (rank as u64).clamp(1, count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn population(spread: Spread) -> Population {
        Population {
            domains: 100,
            spread,
            suffix: "far.test".to_owned(),
            recipients: 4,
            first: 10,
        }
    }

    fn share_of_the_first(spread: Spread) -> f64 {
        let population = population(spread);
        let all: Vec<String> = (0..20_000)
            .flat_map(|number| population.recipients(1, number))
            .collect();
        let first = all.iter().filter(|to| to.ends_with("@d00001.far.test"));
        first.count() as f64 / all.len() as f64
    }

    #[test]
    fn no_recipient_belongs_to_two_messages() {
        let population = population(Spread::Zipf);
        let mut seen = HashSet::new();
        for number in 0..5_000 {
            for to in population.recipients(1, number) {
                assert!(seen.insert(to.clone()), "{to}");
            }
        }
        assert_eq!(population.recipients(1, 3), population.recipients(1, 3));
    }

    #[test]
    fn spreads_differ_in_what_the_first_domain_gets() {
        assert!((share_of_the_first(Spread::Uniform) - 0.01).abs() < 0.005);
        assert!((share_of_the_first(Spread::Zipf) - 0.15).abs() < 0.03);
    }
}
