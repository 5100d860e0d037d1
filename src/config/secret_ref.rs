//! References to secrets: the only door. (stub)
