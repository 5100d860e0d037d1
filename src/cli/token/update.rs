//! `keygate token update`: replaces what is named and leaves the rest.
//!
//! A token has a policy or a grant of its own. `--policy` takes the place of either; a grant's
//! flags never silently lift a policy off: that takes `--no-policy`.

use super::flag::{ExpiryFlags, GrantFlags, check_name, require_known};
use super::{OneArgs, view};
use crate::config::Outline;
use crate::token::store::{Change, Record};
use crate::values::clock::Clock;
use crate::values::grant::GrantText;
use anyhow::bail;

/// Arguments of `token update`.
#[derive(Debug, clap::Args)]
pub(super) struct UpdateArgs {
    #[command(flatten)]
    one: OneArgs,
    /// What people call it from now on
    #[arg(long)]
    name: Option<String>,
    /// The policy that it falls under from now on, in place of its own grant if it has one
    #[arg(long, conflicts_with = "GrantFlags")]
    policy: Option<String>,
    /// Take its policy away: its own grant holds if flags here give it one, else the default policy
    #[arg(long, conflicts_with = "policy")]
    no_policy: bool,
    #[command(flatten)]
    expiry: ExpiryFlags,
    /// It does not end
    #[arg(long, conflicts_with = "ExpiryFlags")]
    no_expiry: bool,
    #[command(flatten)]
    grant: GrantFlags,
    /// Whether it may mint client tokens from now on
    #[arg(long, value_name = "true|false")]
    may_mint: Option<bool>,
}

/// Changes a token and shows it.
pub(super) fn run(args: &UpdateArgs) -> anyhow::Result<()> {
    let id = args.one.lasting_id()?;
    let outline = args.one.target.outline()?;
    let fixed = fixed(args, &outline)?;
    if fixed == Change::default() && !args.grant.given() {
        bail!("nothing to change: `keygate token update --help` shows what can be");
    }
    let store = args.one.target.open(&outline)?;
    let record = store.amend::<anyhow::Error>(id, |now| with_grant(args, &outline, &fixed, now))?;
    view::print_one(&record, args.one.target.json);
    Ok(())
}

/// What does not depend on the record.
fn fixed(args: &UpdateArgs, outline: &Outline) -> anyhow::Result<Change> {
    if let Some(name) = &args.name {
        check_name(name)?;
    }
    if let Some(policy) = &args.policy {
        require_known("policy", policy, &outline.policies)?;
    }
    let expires_at = match args.expiry.read(&Clock::system())? {
        None if args.no_expiry => Some(None),
        end => end.map(Some),
    };
    Ok(Change {
        name: args.name.clone(),
        expires_at,
        policy: if args.no_policy { Some(None) } else { args.policy.clone().map(Some) },
        grant: args.policy.as_ref().map(|_| None),
        disabled: None,
        may_mint: args.may_mint,
    })
}

/// The grant's flags over the grant that the record has.
fn with_grant(
    args: &UpdateArgs,
    outline: &Outline,
    fixed: &Change,
    now: &Record,
) -> anyhow::Result<Change> {
    let mut change = fixed.clone();
    if args.grant.given() {
        if let Some(policy) = now.policy.as_ref().filter(|_| !args.no_policy) {
            bail!(
                "the token falls under the policy '{policy}'; add --no-policy to give it a grant of its own"
            );
        }
        let base = match &now.grant {
            None => GrantText::default(),
            Some(Ok(grant)) => grant.clone(),
            Some(Err(_)) => {
                bail!(
                    "the token's grant can't be read; put it under a policy with --policy, or delete it"
                )
            }
        };
        change.grant = Some(Some(args.grant.apply(base, &outline.providers)?));
    }
    Ok(change)
}
