//! Health, metrics, the control socket. (stub)
