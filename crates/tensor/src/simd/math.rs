//! exp2, exp, tanh and erf on vectors of 16, with measured error bounds.
