//! `keygate token create`: the only place where a plain token is seen.

use super::flag::{ExpiryFlags, GrantFlags, check_name, require_known};
use super::{Target, view};
use crate::token::opaque;
use crate::token::store::{Record, TokenStore};
use crate::values::clock::Clock;
use crate::values::grant::GrantText;
use crate::values::ids::TokenDigest;
use crate::values::secret::Secret;
use std::convert::Infallible;

/// Arguments of `token create`.
#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    /// What people call it
    #[arg(long)]
    name: String,
    /// The policy that it falls under
    #[arg(long, conflicts_with = "GrantFlags")]
    policy: Option<String>,
    #[command(flatten)]
    grant: GrantFlags,
    #[command(flatten)]
    expiry: ExpiryFlags,
    /// A token of your own (at least 12 characters); other users of this machine may see it in
    /// the list of processes: `-` reads it from standard input
    #[arg(long, value_name = "TOKEN", value_parser = secret, allow_hyphen_values = true)]
    token: Option<Secret>,
    /// Let it mint client tokens: short-lived, for browsers and apps, never wider than itself
    #[arg(long)]
    may_mint: bool,
    #[command(flatten)]
    target: Target,
}

/// Creates a token and prints it.
pub(super) fn run(args: &CreateArgs) -> anyhow::Result<()> {
    let outline = args.target.outline()?;
    let clock = Clock::system();
    check_name(&args.name)?;
    if let Some(policy) = &args.policy {
        require_known("policy", policy, &outline.policies)?;
    }
    let grant = match args.grant.given() {
        true => Some(Ok(args.grant.apply(GrantText::default(), &outline.providers)?)),
        false => None,
    };
    let expires_at = args.expiry.read(&clock)?;
    let token = plain(args.token.as_ref())?;
    // Its digest and last four characters are what stays of it.
    let plain = token.expose();
    let record = Record {
        id: opaque::draw_id()?,
        name: args.name.clone(),
        digest: TokenDigest::of(plain.as_bytes()),
        last4: opaque::last4(plain),
        created_at: clock.wall_ms(),
        expires_at,
        disabled: false,
        may_mint: args.may_mint,
        policy: args.policy.clone(),
        grant,
        last_used_at: None,
    };
    args.target.open(&outline)?.create(&record)?;
    view::print_created(&record, &token, args.target.json);
    Ok(())
}

fn plain(given: Option<&Secret>) -> anyhow::Result<Secret> {
    let Some(given) = given else { return Ok(Secret::new(opaque::draw()?)) };
    // It is only checked here, and compared with the sign for standard input.
    let token = match given.expose() {
        "-" => {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line)?;
            Secret::new(line.trim_end_matches(['\r', '\n']))
        }
        _ => given.clone(),
    };
    opaque::validate_custom(token.expose())?;
    Ok(token)
}

fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}
