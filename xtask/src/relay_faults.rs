//! `cargo xtask relay-faults [messages] [seed]`: the test of a relay among faults in its long form.

use std::path::Path;

use clap::Args;

use crate::chaos::{any_seed, run_test};
use crate::error::TaskError;

/// How many messages, and which choices.
#[derive(Debug, Args)]
pub(crate) struct RelayFaultsArgs {
    /// Messages that are sent through the relay.
    #[arg(default_value_t = 100_000)]
    messages: u64,
    /// Repeats the choices of an earlier run; any when absent.
    seed: Option<u64>,
}

/// Runs the test, which prints its summary, and says how to repeat it.
pub(crate) fn run(root: &Path, args: &RelayFaultsArgs) -> Result<(), TaskError> {
    let seed = args.seed.unwrap_or_else(any_seed);
    let settings = [
        ("NIGHTMAIL_RELAY_MESSAGES", args.messages.to_string()),
        ("NIGHTMAIL_RELAY_SEED", seed.to_string()),
    ];
    let again = format!("relay-faults {} {seed}", args.messages);
    run_test(root, "relay", "faults", &settings, &again)
}
