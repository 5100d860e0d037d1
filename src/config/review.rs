//! What `check` tells about a valid configuration: what each policy leaves unrestricted, and warnings. (stub)
