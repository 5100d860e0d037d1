//! `keygate check` (stub)

/// Runs it.
///
/// # Errors
/// The configuration's problems.
pub fn run(_file: &super::ConfigFile) -> anyhow::Result<()> {
    anyhow::bail!("stub")
}
