//! `keygate token disable`, `enable` and `delete`.

use super::{OneArgs, client, view};
use crate::cli::output;
use crate::token::store::{Change, ClientStore, TokenStore};

/// Disables or enables a token and shows it.
///
/// A minted token is revoked instead, which nothing takes back: it has two forms, and the signed one
/// may be remembered by others.
pub(super) fn set_disabled(args: &OneArgs, disabled: bool) -> anyhow::Result<()> {
    if args.is_client() && disabled {
        args.target.store()?.revoke_client(args.id()?)?;
        return client::show(args);
    }
    let change = Change { disabled: Some(disabled), ..Change::default() };
    let record = args.target.store()?.update(args.lasting_id()?, &change)?;
    view::print_one(&record, args.target.json);
    Ok(())
}

/// Deletes a token, readable or not.
pub(super) fn delete(args: &OneArgs) -> anyhow::Result<()> {
    let id = args.id()?;
    let store = args.target.store()?;
    match args.is_client() {
        // Its record stays until it would have ended: it is refused in its signed form too.
        true => store.revoke_client(id)?,
        false => store.delete(id)?,
    }
    if args.target.json {
        output::line(&serde_json::json!({ "id": id, "deleted": true }).to_string());
    } else {
        output::line(&format!("{id} is deleted"));
    }
    Ok(())
}
