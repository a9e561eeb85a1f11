//! `nightmail access`: what the access rules of a configuration make of a client.

mod live;

use std::net::IpAddr;

use clap::{Args, Subcommand, ValueEnum};
use nightmail_access::{Decision, Explained, Facts, Rules, Stage, Tags};
use nightmail_core::{Address, ForwardPath, ReversePath};
use nightmail_server::config::Config;
use nightmail_server::gate;
use serde_json::{Value, json};

use crate::error::CommandError;
use crate::output::{Table, yes};

#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    /// Say which of the [[access]] rules decides about a client, and why. Nothing is sent anywhere.
    Test(Box<TestArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// The client's address.
    #[arg(long, value_name = "IP")]
    client: IpAddr,
    /// The client's name, as its address and the name lead to each other; none when absent.
    #[arg(long, value_name = "NAME")]
    client_name: Option<String>,
    /// What it says in HELO or EHLO.
    #[arg(long, value_name = "NAME")]
    helo: Option<String>,
    /// The sender; "<>" for none. Without it, the stages up to helo are shown.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_sender)]
    from: Option<ReversePath>,
    /// The recipient. Without it, the stages up to mail are shown.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_recipient, requires = "from")]
    to: Option<ForwardPath>,
    /// It uses TLS.
    #[arg(long)]
    tls: bool,
    /// It has logged in.
    #[arg(long)]
    authenticated: bool,
    /// A tag that a check has given, such as "early-talker" (repeatable).
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Show this stage alone.
    #[arg(long, value_enum)]
    stage: Option<StageArg>,
    /// Also ask DNS for the client's name, for lists that it is on and whether they work, and for the sender's SPF, and
    /// tag accordingly.
    #[arg(long)]
    live: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub(crate) enum StageArg {
    Connect,
    Helo,
    Mail,
    Rcpt,
    Data,
}

impl StageArg {
    const fn stage(self) -> Stage {
        match self {
            Self::Connect => Stage::Connect,
            Self::Helo => Stage::Helo,
            Self::Mail => Stage::Mail,
            Self::Rcpt => Stage::Rcpt,
            Self::Data => Stage::Data,
        }
    }
}

fn parse_sender(text: &str) -> Result<ReversePath, String> {
    match text {
        "" | "<>" => Ok(ReversePath::Null),
        text => parse_address(text).map(ReversePath::Address),
    }
}

fn parse_recipient(text: &str) -> Result<ForwardPath, String> {
    match text.eq_ignore_ascii_case("postmaster") {
        true => Ok(ForwardPath::Postmaster),
        false => parse_address(text).map(ForwardPath::Address),
    }
}

fn parse_address(text: &str) -> Result<Address, String> {
    Address::parse(text).map_err(|error| format!("{error}; write it as user@domain"))
}

/// What came of one stage.
struct Tested {
    stage: StageArg,
    rules: Vec<Explained>,
    /// The tags that were given in it.
    tagged: Vec<String>,
    decision: Decision,
}

impl TestArgs {
    /// The last stage of which everything is known.
    fn last_stage(&self) -> StageArg {
        match (&self.from, &self.to) {
            (Some(_), Some(_)) => StageArg::Data,
            (Some(_), None) => StageArg::Mail,
            (None, _) => StageArg::Helo,
        }
    }

    fn test(&self, rules: &Rules, client_name: Option<&str>, given: Tags) -> Vec<Tested> {
        let mut tags = given;
        let mut stages = Vec::new();
        for &stage in StageArg::value_variants() {
            if stage > self.last_stage() {
                break;
            }
            let before = tags.clone();
            let facts = Facts {
                client: Some(self.client),
                client_name,
                helo: self.helo.as_deref(),
                sender: self.from.as_ref(),
                recipient: self.to.as_ref(),
                tls: self.tls,
                authenticated: self.authenticated,
                tags: &before,
            };
            let explained = rules.explain(stage.stage(), &facts, &mut before.clone());
            let decision = rules.decide(stage.stage(), &facts, &mut tags);
            let ends = ends(&decision);
            stages.push(Tested {
                stage,
                rules: explained,
                tagged: new_tags(&before, &tags),
                decision,
            });
            if ends {
                break;
            }
        }
        stages
    }
}

/// Whether the client hears no more of this message.
const fn ends(decision: &Decision) -> bool {
    matches!(
        decision,
        Decision::Reject { .. } | Decision::Defer { .. } | Decision::Discard { .. }
    )
}

fn new_tags(before: &Tags, after: &Tags) -> Vec<String> {
    let new = after.iter().filter(|tag| !before.contains(tag));
    new.map(str::to_owned).collect()
}

impl AccessCommand {
    /// Tests the rules of `config`; what to print.
    pub(crate) async fn run(self, config: &Config, json: bool) -> Result<String, CommandError> {
        let Self::Test(args) = self;
        let rules = gate::rules(config).map_err(|error| CommandError::Usage(error.to_string()))?;
        let mut tags = Tags::default();
        for tag in &args.tag {
            tags.insert(tag);
        }
        let mut client_name = args.client_name.clone();
        let mut seen = Vec::new();
        if args.live {
            let found = live::look(
                config,
                args.client,
                args.helo.as_deref(),
                args.from.as_ref(),
            );
            let found = found.await?;
            client_name = client_name.or(found.client_name);
            for tag in &found.tags {
                tags.insert(tag);
            }
            seen = found.seen;
        }
        let stages = args.test(&rules, client_name.as_deref(), tags);
        let shown: Vec<&Tested> = stages
            .iter()
            .filter(|tested| args.stage.is_none_or(|stage| stage == tested.stage))
            .collect();
        match json {
            false => Ok(text(&seen, &shown)),
            true => as_json(&seen, &shown),
        }
    }
}

fn text(seen: &[String], stages: &[&Tested]) -> String {
    let mut text: String = seen.iter().map(|line| format!("{line}\n")).collect();
    for tested in stages {
        let stage = tested.stage.stage();
        text.push_str(&format!("{stage}: {}\n", verdict(tested)));
        let mut table = Table::new(&["  RULE", "FITS", "BECAUSE"]);
        for rule in &tested.rules {
            table.row([
                format!("  {}", rule.rule),
                yes(rule.fits).to_owned(),
                rule.because.clone(),
            ]);
        }
        if !tested.rules.is_empty() {
            text.push_str(&table.render());
        }
    }
    text
}

/// What is decided, in words.
fn verdict(tested: &Tested) -> String {
    let decided = match &tested.decision {
        Decision::Pass => "no rule decides".to_owned(),
        Decision::Accept { rule } => format!("accepted by {rule}"),
        Decision::Reject { rule, text } => format!("rejected by {rule}: {text}"),
        Decision::Defer { rule, text } => format!("deferred by {rule}: {text}"),
        Decision::Discard { rule } => format!("discarded by {rule}"),
        Decision::Route { rule, to } => format!("sent to {to} by {rule}"),
    };
    match tested.tagged.as_slice() {
        [] => decided,
        tags => format!("{decided}; tagged {}", tags.join(", ")),
    }
}

fn as_json(seen: &[String], stages: &[&Tested]) -> Result<String, CommandError> {
    let stages: Vec<Value> = stages.iter().map(|tested| stage_json(tested)).collect();
    let value = json!({ "kind": "access-tested", "seen": seen, "stages": stages });
    let text = serde_json::to_string_pretty(&value);
    text.map(|text| text + "\n")
        .map_err(|error| CommandError::Usage(error.to_string()))
}

fn stage_json(tested: &Tested) -> Value {
    let (decision, rule, what) = match &tested.decision {
        Decision::Pass => ("pass", None, None),
        Decision::Accept { rule } => ("accept", Some(rule), None),
        Decision::Reject { rule, text } => ("reject", Some(rule), Some(text.to_string())),
        Decision::Defer { rule, text } => ("defer", Some(rule), Some(text.to_string())),
        Decision::Discard { rule } => ("discard", Some(rule), None),
        Decision::Route { rule, to } => ("route", Some(rule), Some(to.to_string())),
    };
    let rules: Vec<Value> = tested
        .rules
        .iter()
        .map(|rule| json!({ "rule": rule.rule, "fits": rule.fits, "because": rule.because }))
        .collect();
    json!({
        "stage": tested.stage.stage().as_str(),
        "decision": decision,
        "rule": rule.map(|rule| rule.as_ref()),
        "text": what,
        "tagged": tested.tagged,
        "rules": rules,
    })
}
