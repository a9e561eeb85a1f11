//! `cargo xtask chaos [minutes] [seed]`: the chaos test in its long form.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;

use crate::error::TaskError;

/// How long, and which choices.
#[derive(Debug, Args)]
pub(crate) struct ChaosArgs {
    /// How long things go wrong.
    #[arg(default_value_t = 10.0)]
    minutes: f64,
    /// Repeats the choices of an earlier run; any when absent.
    seed: Option<u64>,
    /// One machine that is killed, instead of a cluster.
    #[arg(long)]
    one_machine: bool,
}

/// Runs the test, which prints its summary, and says how to repeat it.
pub(crate) fn run(root: &Path, args: &ChaosArgs) -> Result<(), TaskError> {
    let seed = args.seed.unwrap_or_else(any_seed);
    let (test, form) = match args.one_machine {
        true => ("one_machine", " --one-machine"),
        false => ("a_cluster", ""),
    };
    let again = format!("chaos {} {seed}{form}", args.minutes);
    let settings = [
        ("NIGHTMAIL_CHAOS_MINUTES", args.minutes.to_string()),
        ("NIGHTMAIL_CHAOS_SEED", seed.to_string()),
    ];
    run_test(root, "chaos", test, &settings, &again)
}

/// Runs tests of the program by their name in `file`, under `settings`; `again` is the command that repeats it.
pub(crate) fn run_test(
    root: &Path,
    file: &str,
    test: &str,
    settings: &[(&str, String)],
    again: &str,
) -> Result<(), TaskError> {
    println!("==> cargo xtask {again}");
    let status = Command::new(env!("CARGO"))
        .args(["test", "-p", "nightmail", "--test", file, "--"])
        .args([test, "--nocapture"])
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .current_dir(root)
        .status()
        .map_err(|source| TaskError::Start {
            program: "cargo test".to_owned(),
            source,
        })?;
    match status.success() {
        true => Ok(()),
        false => {
            let command = again.split(' ').next().unwrap_or(file);
            Err(TaskError::Found(format!(
                "{command}: promises were broken; again by `cargo xtask {again}`"
            )))
        }
    }
}

/// A seed that differs from run to run.
pub(crate) fn any_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() % 1_000_000)
}
