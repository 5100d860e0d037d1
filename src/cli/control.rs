//! `keygate reload` and `keygate status`: they ask the running gateway. (stub)

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    file: super::ConfigFile,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `keygate reload`
///
/// # Errors
/// The reload's own, or nobody answers.
pub fn reload(_file: &super::ConfigFile) -> anyhow::Result<()> {
    anyhow::bail!("stub")
}

/// `keygate status`
///
/// # Errors
/// Nobody answers.
pub fn status(_args: &StatusArgs) -> anyhow::Result<()> {
    anyhow::bail!("stub")
}
