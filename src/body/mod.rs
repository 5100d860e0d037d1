//! Reading bodies, as far as the gate has to.

pub mod json_model;
