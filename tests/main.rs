//! Integration tests: one binary, one module per concern.
//!
//! The gateway is started through `keygate::app` or as the real binary; every upstream is the
//! scriptable recorder of [`support`], and what it received is what is asserted.

mod config_fixtures;
