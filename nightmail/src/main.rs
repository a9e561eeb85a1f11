//! `nightmail`: the server, and the command line of its operator.
//!
//! Owns the command line's grammar, what it prints and its exit codes: 0 done, 1 refused or failed, 2 the command,
//! the configuration or the machine is to be mended first. What the commands do is the layers' below.

mod cli;
mod commands;
mod demo;
mod error;
mod operator;
mod output;
mod password;
mod rehearse;
mod sending;
mod serve;
mod size;

use std::process::ExitCode;

use clap::Parser;

use cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", error.render(json));
            ExitCode::from(error.exit_code())
        }
    }
}
