//! The built-in mock provider. (stub)
