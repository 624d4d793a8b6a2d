//! Plain loops: attention.
