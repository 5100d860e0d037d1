//! `keygate keys …`: the keys that sign client tokens.

use super::{Target, output};
use crate::config;
use crate::config::client::Algorithm;
use crate::token::jwks;
use crate::token::store::ClientStore;
use crate::values::clock::Clock;
use crate::values::timestamp;
use anyhow::{Context, bail};
use clap::Subcommand;
use serde_json::json;

/// What it means to have no store.
const LACKING: &str = ": its keys live in memory, and a restart makes new ones";

/// Arguments of `keys`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new signing key: published at once, signing ten minutes later
    Rotate(Target),
    /// List the signing keys
    List(Target),
}

/// Runs it.
///
/// # Errors
/// There is no store, signing is off, or the store failed.
pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Rotate(target) => rotate(target),
        Command::List(target) => list(target),
    }
}

fn rotate(target: &Target) -> anyhow::Result<()> {
    let outline = config::outline(&target.file.config)?;
    let algorithm = match outline.signing.as_deref() {
        None => Algorithm::EdDsa,
        Some(text) => Algorithm::parse(text).context("client_tokens.signing: nothing is signed")?,
    };
    let store = target.store_of(&outline, LACKING)?;
    let now_ms = Clock::system().wall_ms();
    let mut made = None;
    store.rotate(&mut |keys| {
        // On schedule or not is the gateway's to say; this one is asked for.
        let never = std::time::Duration::from_secs(u64::MAX / 2_000);
        let rotation = jwks::due(keys, algorithm, never, now_ms, true)?;
        made = rotation.create.as_ref().map(|key| (key.kid.clone(), key.signs_from));
        Ok(rotation)
    })?;
    let Some((kid, signs_from)) = made else {
        bail!("a new key is waiting to sign already; `keygate keys list` shows from when");
    };
    let from = timestamp::format(signs_from);
    let text = match target.json {
        true => json!({ "kid": kid, "signs_from": from }).to_string(),
        false => format!("{kid} is published now and signs from {from}"),
    };
    output::line(&text);
    Ok(())
}

fn list(target: &Target) -> anyhow::Result<()> {
    let keys = target.store_of(&config::outline(&target.file.config)?, LACKING)?.keys()?;
    let rows = keys.iter().map(|key| {
        json!({
            "kid": key.kid,
            "algorithm": key.algorithm.as_str(),
            "created_at": timestamp::format(key.created_at),
            "signs_from": timestamp::format(key.signs_from),
        })
    });
    if target.json {
        output::line(&serde_json::Value::Array(rows.collect()).to_string());
        return Ok(());
    }
    for key in &keys {
        let from = timestamp::format(key.signs_from);
        output::line(&format!("{}  {}  signs from {from}", key.kid, key.algorithm.as_str()));
    }
    Ok(())
}
