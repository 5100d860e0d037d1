//! `keygate token …`: creates, lists, shows, changes and deletes tokens in the store.
//!
//! It opens the store itself, whether or not a gateway runs; a running one follows within a
//! second. The plain token is printed once, by [`create`], and is in no message of any command:
//! an operator may well paste it where an id is wanted.

mod change;
mod client;
mod create;
mod flag;
mod update;
mod view;

use super::Target;
use crate::config::{Outline, outline};
use crate::store::Sqlite;
use crate::token::store::TokenStore;
use anyhow::bail;
use clap::Subcommand;

/// Arguments of `token`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a token and print it, this once
    Create(Box<create::CreateArgs>),
    /// List all tokens, or those that were minted with them
    List(ListArgs),
    /// Show one token, minted ones too
    Show(OneArgs),
    /// Change a token's name, expiry or grant
    Update(Box<update::UpdateArgs>),
    /// Refuse a token until it is enabled again; a client token for good
    Disable(OneArgs),
    /// Accept a disabled token again
    Enable(OneArgs),
    /// Delete a token for good; what it has open ends
    Delete(OneArgs),
}

/// Arguments of `token list`.
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// The client tokens that were minted lately, revoked and expired ones included
    #[arg(long)]
    client: bool,
    #[command(flatten)]
    target: Target,
}

/// Which token, and the same.
#[derive(Debug, clap::Args)]
struct OneArgs {
    /// The token's id (`tok_…` or `ctk_…`, as `keygate token list` shows it)
    id: String,
    #[command(flatten)]
    target: Target,
}

/// Runs it.
///
/// # Errors
/// What was asked makes no sense with this configuration or store, or the store failed.
pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Create(args) => create::run(args),
        Command::List(args) => list(args),
        Command::Show(args) => show(args),
        Command::Update(args) => update::run(args),
        Command::Disable(args) => change::set_disabled(args, true),
        Command::Enable(args) => change::set_disabled(args, false),
        Command::Delete(args) => change::delete(args),
    }
}

fn list(args: &ListArgs) -> anyhow::Result<()> {
    if args.client {
        return client::list(&args.target);
    }
    let args = &args.target;
    let inventory = args.store()?.inventory()?;
    for row in &inventory.unreadable {
        let (id, why) = (view::printable(&row.id), row.why);
        super::output::problem(&format!("token '{id}' can't be used: {why}; delete it"));
    }
    view::print_list(&inventory.records, args.json);
    Ok(())
}

fn show(args: &OneArgs) -> anyhow::Result<()> {
    if args.is_client() {
        return client::show(args);
    }
    let record = args.target.store()?.get(args.id()?)?;
    view::print_one(&record, args.target.json);
    Ok(())
}

impl Target {
    fn outline(&self) -> anyhow::Result<Outline> {
        Ok(outline(&self.file.config)?)
    }

    fn store(&self) -> anyhow::Result<Sqlite> {
        self.open(&self.outline()?)
    }

    fn open(&self, outline: &Outline) -> anyhow::Result<Sqlite> {
        self.store_of(outline, " for tokens: add `store: { sqlite: /var/lib/keygate/keygate.db }`")
    }
}

impl OneArgs {
    /// Whether it is a client token's.
    fn is_client(&self) -> bool {
        self.id.starts_with("ctk_")
    }

    /// The id of a proxy token: minted ones live too briefly to be changed.
    fn lasting_id(&self) -> anyhow::Result<&str> {
        let id = self.id()?;
        if self.is_client() {
            bail!(
                "a client token can't be changed, only deleted, and that is for good: mint another"
            );
        }
        Ok(id)
    }

    /// The id; what does not look like one is not repeated.
    fn id(&self) -> anyhow::Result<&str> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b"_-".contains(&c);
        let rest = self.id.strip_prefix("tok_").or_else(|| self.id.strip_prefix("ctk_"));
        let rest = rest.unwrap_or_default();
        if rest.len() != 16 || !rest.bytes().all(allowed) {
            bail!(
                "this is no token's id: ids are `tok_` and 16 characters, `keygate token list` shows them"
            );
        }
        Ok(&self.id)
    }
}
