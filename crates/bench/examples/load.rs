//! The load generator by itself: `cargo run -p nightmail-bench --example load -- smtp 127.0.0.1:2525`.

use clap::Parser;
use nightmail_bench::{BenchCommand, BenchError};

/// Load for mail servers.
#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: BenchCommand,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BenchError> {
    let command = Line::parse().command;
    let json = command.json();
    let report = nightmail_bench::run(command).await?;
    print!("{}", report.render(json)?);
    Ok(())
}
