//! What operators see. (stub)
