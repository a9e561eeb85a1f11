//! The project's own tasks: `cargo xtask tidy`, `cargo xtask ci`, `cargo xtask bench`, `cargo xtask chaos`,
//! `cargo xtask relay-faults`.

mod bench;
mod chaos;
mod ci;
mod error;
mod layers;
mod licences;
mod relay_faults;
mod rules;
mod source;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::TaskError;

/// Tasks of the workspace.
#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check layers, sources and licences.
    Tidy,
    /// Run everything that must pass: format, lints, tidy, tests.
    Ci,
    /// Measure Nightmail, and a peer where there is one, under the same loads.
    Bench(bench::BenchArgs),
    /// Put a cluster under load while things go wrong, and compare what is there with what was promised.
    Chaos(chaos::ChaosArgs),
    /// Relay messages between a source and hosts that make faults, and account for every recipient.
    RelayFaults(relay_faults::RelayFaultsArgs),
}

fn main() -> ExitCode {
    let root = root();
    let done = match Line::parse().task {
        Task::Tidy => tidy::run(&root),
        Task::Ci => ci::run(&root),
        Task::Bench(args) => bench::run(&root, &args),
        Task::Chaos(args) => chaos::run(&root, &args),
        Task::RelayFaults(args) => relay_faults::run(&root, &args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Reads a text file.
fn read(path: &Path) -> Result<String, TaskError> {
    std::fs::read_to_string(path).map_err(|source| TaskError::File {
        path: path.to_owned(),
        source,
    })
}
