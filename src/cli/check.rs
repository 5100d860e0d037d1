//! `keygate check`: is the file good, and what does it leave open?

use super::output;
use crate::config::{self, review};

/// Runs it.
///
/// # Errors
/// The configuration's problems, one a line.
pub fn run(file: &super::ConfigFile) -> anyhow::Result<()> {
    let path = file.config.display();
    let config = config::load(&file.config).map_err(|problems| {
        let count = match problems.0.len() {
            1 => "1 problem".to_owned(),
            count => format!("{count} problems"),
        };
        anyhow::anyhow!("{path}: {count}\n{problems}")
    })?;
    for line in review::review(&config) {
        output::line(&line);
    }
    output::line(&format!("{path}: ok"));
    Ok(())
}
