//! The command line: one file per command, one arm here.
//!
//! Commands print results to standard output and problems to standard error, and exit with 0,
//! 1 (something is wrong with what was asked or configured) or 2 (usage, by clap).

pub mod check;
pub mod control;
pub mod demo;
pub mod keys;
#[cfg(test)]
mod manual;
pub mod output;
pub mod serve;
pub mod token;

use crate::config::Outline;
use crate::store::Sqlite;
use anyhow::Context;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// keygate keeps AI and streaming API keys: callers get tokens, providers get the real key.
#[derive(Debug, Parser)]
#[command(name = "keygate", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Serve(serve::Args),
    /// Check a configuration and say what it leaves unrestricted
    Check(ConfigFile),
    /// Create, list, show, change and delete tokens
    Token(token::Args),
    /// List and change the keys that sign client tokens
    Keys(keys::Args),
    /// Make the running gateway read its configuration again
    Reload(ConfigFile),
    /// Show how the running gateway is doing
    Status(control::StatusArgs),
    /// Run a gateway with a built-in mock provider, to try things out
    Demo(demo::Args),
}

/// `-c FILE`, which every command takes.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigFile {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "/etc/keygate/keygate.yaml")]
    pub config: PathBuf,
}

/// Where the store is, and how to print.
#[derive(Debug, clap::Args)]
struct Target {
    #[command(flatten)]
    file: ConfigFile,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Target {
    /// Opens the store; `lacking` goes on behind "has no store", where there is none.
    fn store_of(&self, outline: &Outline, lacking: &str) -> anyhow::Result<Sqlite> {
        let file = self.file.config.display();
        let path = outline.store.as_ref();
        Ok(Sqlite::open(path.with_context(|| format!("{file} has no store{lacking}"))?)?)
    }
}

/// Runs the command that the process was called with.
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Check(file) => check::run(&file),
        Command::Token(args) => token::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Reload(file) => control::reload(&file),
        Command::Status(args) => control::status(&args),
        Command::Demo(args) => demo::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::problem(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
