//! `keygate token …` (stub)

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: super::ConfigFile,
}

/// Runs it.
///
/// # Errors
/// Anything that keeps it from running.
pub fn run(_args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("stub")
}
