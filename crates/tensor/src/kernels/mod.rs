//! Row kernels: X_forward and X_backward side by side, one file an op.
