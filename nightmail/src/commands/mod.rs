//! The commands: one file for each group of them, each of which makes requests of words.

pub(crate) mod access;
pub(crate) mod account;
pub(crate) mod alias;
pub(crate) mod certificate;
pub(crate) mod dkim;
pub(crate) mod dns;
pub(crate) mod domain;
pub(crate) mod greylist;
pub(crate) mod mailbox;
pub(crate) mod node;
mod pages;
pub(crate) mod queue;
pub(crate) mod quota;
pub(crate) mod services;
mod show;
pub(crate) mod trace;

use std::process::ExitCode;

use nightmail_admin::{AdminRequest, AdminResponse};
use nightmail_bench::BenchCommand;
use nightmail_server::config::{Config, preflight};
use tokio::runtime::{Builder, Runtime};

use crate::cli::{Cli, ClusterCommand, Command, ConfigCommand, Place};
use crate::error::CommandError;
use crate::operator::{Operator, load_config};
use crate::{demo, output, rehearse, serve};

/// Carries a command out and says what to exit with.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, CommandError> {
    let Cli {
        place,
        json,
        command,
    } = cli;
    place.require_one()?;
    match command {
        Command::Demo(args) => {
            runtime(Builder::new_multi_thread())?.block_on(Box::pin(demo::run(&place, args)))
        }
        Command::Serve => {
            let (config, confinement) = serve::prepare(&place)?;
            let work = Box::pin(serve::run(config, confinement));
            runtime(Builder::new_multi_thread())?.block_on(work)
        }
        Command::Config(command) => config(command, &place),
        Command::Bench(command) => bench(*command, json),
        Command::Rehearse(command) => {
            let work = Box::pin(rehearse::run(command, &place));
            runtime(Builder::new_multi_thread())?.block_on(work)
        }
        Command::Access(command) => {
            let work = Box::pin(access(command, place, json));
            runtime(Builder::new_current_thread())?.block_on(work)
        }
        Command::Cluster(command) => {
            let work = Box::pin(cluster(command, place));
            runtime(Builder::new_current_thread())?.block_on(work)
        }
        command => {
            let work = Box::pin(administer(command, place, json));
            runtime(Builder::new_current_thread())?.block_on(work)
        }
    }
}

/// Threads for blocking work: few, as each keeps memory of its own, and the disk serves no more at once.
const BLOCKING_THREADS_PER_CORE: usize = 2;

fn runtime(mut builder: Builder) -> Result<Runtime, CommandError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    builder
        .enable_all()
        .max_blocking_threads(cores * BLOCKING_THREADS_PER_CORE)
        .build()
        .map_err(CommandError::io("cannot start the runtime"))
}

fn config(command: ConfigCommand, place: &Place) -> Result<ExitCode, CommandError> {
    let file = match command {
        ConfigCommand::Example => {
            output::print(&Config::example())?;
            return Ok(ExitCode::SUCCESS);
        }
        ConfigCommand::Check { file } => file,
    };
    let config = match file {
        Some(file) => Config::load(&file)?,
        None => load_config(place)?,
    };
    let found = preflight(&config);
    for finding in &found.findings {
        output::print(&format!("{finding}\n"))?;
    }
    if !found.is_ready() {
        return Ok(ExitCode::from(2));
    }
    output::print("the configuration is good\n")?;
    Ok(ExitCode::SUCCESS)
}

async fn access(
    command: access::AccessCommand,
    place: Place,
    json: bool,
) -> Result<ExitCode, CommandError> {
    if place.socket.is_some() {
        return Err(CommandError::Usage(
            "the rules are in the configuration: give --config FILE".to_owned(),
        ));
    }
    output::print(&command.run(&load_config(&place)?, json).await?)?;
    Ok(ExitCode::SUCCESS)
}

async fn cluster(command: ClusterCommand, place: Place) -> Result<ExitCode, CommandError> {
    let ClusterCommand::Init = command;
    let made = nightmail_server::shared::init(&load_config(&place)?).await?;
    output::print(&format!("{made}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn bench(command: BenchCommand, json: bool) -> Result<ExitCode, CommandError> {
    let json = json || command.json();
    let work = Box::pin(nightmail_bench::run(command));
    let report = runtime(Builder::new_current_thread())?.block_on(work)?;
    output::print(&report.render(json)?)?;
    Ok(ExitCode::SUCCESS)
}

async fn administer(command: Command, place: Place, json: bool) -> Result<ExitCode, CommandError> {
    let mut operator = Operator::new(&place)?;
    let response = match command {
        Command::Quota(quota::QuotaCommand::Set(args)) => quota::set(&mut operator, args).await?,
        command => pages::ask_all(&mut operator, request(command)?).await?,
    };
    let text = if json {
        output::json(&response)?
    } else {
        show::response(&response)
    };
    output::print(&text)?;
    Ok(match &response {
        AdminResponse::Checked(view) if view.problems.len() as u64 > view.repaired => {
            ExitCode::FAILURE
        }
        AdminResponse::DnsChecked { good: false, .. } => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

fn request(command: Command) -> Result<AdminRequest, CommandError> {
    Ok(match command {
        Command::Domain(command) => command.request(),
        Command::Account(command) => command.request()?,
        Command::Alias(command) => command.request(),
        Command::Mailbox(command) => command.request(),
        Command::Queue(command) => command.request()?,
        Command::Quota(quota::QuotaCommand::Show { account }) => {
            AdminRequest::QuotaShow { account }
        }
        Command::Trace(args) => args.request(),
        Command::Node(command) => command.request(),
        Command::Certificate(command) => command.request(),
        Command::Dkim(command) => command.request(),
        Command::Dns(command) => command.request(),
        Command::Greylist(command) => command.request(),
        Command::Resolve { address } => AdminRequest::Resolve { address },
        Command::Check(args) => AdminRequest::Check {
            read_messages: args.read_messages,
        },
        Command::Repair(args) => AdminRequest::Repair {
            read_messages: args.read_messages,
        },
        Command::Reclaim => AdminRequest::Reclaim,
        Command::Status => AdminRequest::Status,
        Command::Quota(quota::QuotaCommand::Set(_))
        | Command::Demo(_)
        | Command::Serve
        | Command::Config(_)
        | Command::Access(_)
        | Command::Cluster(_)
        | Command::Bench(_)
        | Command::Rehearse(_) => {
            return Err(CommandError::Usage(
                "not a command for the admin API".to_owned(),
            ));
        }
    })
}
