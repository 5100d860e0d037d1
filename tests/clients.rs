//! Real clients through the real binary: the scripts of `tests/clients/`, each of which is also
//! the example of how to use its library with keygate.
//!
//! Behind the gateway stands the mock provider of the demo, which answers as the libraries expect
//! and takes nothing but its own keys; between the two a tap keeps every byte. Asserted is what the
//! client got, what the provider saw and what the access log says. What came out makes the tables
//! of `docs/clients.md`: a row that differs fails its test, `make clients-table` writes them anew.

mod body;
mod decart;
mod denial;
mod install;
mod mint;
mod request;
mod rig;
mod session;
mod streams;
mod table;
mod tap;
mod upload;

pub(crate) use install::{Environment, NODE, PYTHON, PYTHON_JWT, install, python_programs};
