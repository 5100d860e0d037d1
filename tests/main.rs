//! Integration tests: one binary, one module per concern.
//!
//! The gateway is started through `keygate::app` or as the real binary; every upstream is the
//! scriptable recorder of [`support`], and what it received is what is asserted.

// `cfg(test)` tells clippy that these modules are tests, helpers included.
#[cfg(test)]
mod abuse;
#[cfg(test)]
mod allowed_origins;
#[cfg(test)]
mod browser;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod config_fixtures;
#[cfg(test)]
mod creation;
#[cfg(test)]
mod cut;
#[cfg(test)]
mod decart;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod denial;
#[cfg(test)]
mod durable_stream;
#[cfg(test)]
mod evasion;
#[cfg(test)]
mod fault;
#[cfg(test)]
mod forgery;
#[cfg(test)]
mod front;
#[cfg(test)]
mod gate;
#[cfg(test)]
mod grant;
#[cfg(test)]
mod hidden_model;
#[cfg(test)]
mod house;
#[cfg(test)]
mod issuer;
#[cfg(test)]
mod late_model;
#[cfg(test)]
mod layering;
#[cfg(test)]
mod leak;
#[cfg(test)]
mod limit;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod mint;
#[cfg(test)]
mod mint_abuse;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod service;
#[cfg(test)]
mod slow;
#[cfg(test)]
mod socket;
#[cfg(test)]
mod socket_model;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod stream_pages;
#[cfg(test)]
mod support;
#[cfg(test)]
mod swap;
#[cfg(test)]
mod systemd;
#[cfg(test)]
mod ticket;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod token_cli;
