//! Reading bodies, as far as the gate has to.

mod json;
pub mod json_model;
mod number;
mod text;
