//! Matrix multiplication: five loops, packed panels, one microkernel.
