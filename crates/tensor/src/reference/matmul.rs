//! Plain loops: matmul.
