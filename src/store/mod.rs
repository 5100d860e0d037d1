//! Implementations of the store traits. (stub)
