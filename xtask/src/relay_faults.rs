//! `cargo xtask relay-faults [messages] [seed]`: the test of a relay among faults in its long form.

use std::path::Path;
use std::process::Command;

use clap::Args;

use crate::chaos::any_seed;
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
    let again = format!("cargo xtask relay-faults {} {seed}", args.messages);
    println!("==> {again}");
    let status = Command::new(env!("CARGO"))
        .args(["test", "-p", "nightmail", "--test", "relay", "--"])
        .args(["faults", "--nocapture"])
        .env("NIGHTMAIL_RELAY_MESSAGES", args.messages.to_string())
        .env("NIGHTMAIL_RELAY_SEED", seed.to_string())
        .current_dir(root)
        .status()
        .map_err(|source| TaskError::Start {
            program: "cargo test".to_owned(),
            source,
        })?;
    match status.success() {
        true => Ok(()),
        false => Err(TaskError::Found(format!(
            "relay-faults: promises were broken; again by `{again}`"
        ))),
    }
}
