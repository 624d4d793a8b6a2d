//! Attention: causal, banded or unmasked; naive and fused.
