//! Slots: the places in a request where a credential sits.
//!
//! [`extract`] reads the caller's token from whichever slot holds it, [`strip`] removes every slot
//! before anything is forwarded, [`inject`] puts the real key into exactly one. [`place`] names
//! the slots. Invariant: [`inject::inject`] is the only function in which a provider key leaves
//! its wrapper, and it wants a `Permit`.

pub mod extract;
pub mod inject;
pub mod place;
pub mod strip;
