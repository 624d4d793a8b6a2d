//! Plain loops: rows.
