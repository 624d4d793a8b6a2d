//! The measuring code that the benches share: the FMA peak, and the table of cases.
