//! From what was written to what it means. (stub)
use super::{Config, Problems, file::File};
/// Resolves.
///
/// # Errors
/// Every semantic problem at once.
pub fn resolve(_file: File) -> Result<Config, Problems> {
    Err(Problems::one("", "stub"))
}
