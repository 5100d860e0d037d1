//! Reading bodies, as far as the gate has to.

pub mod disposition;
mod json;
pub mod json_model;
pub mod message_model;
pub mod multipart_model;
mod number;
mod text;
