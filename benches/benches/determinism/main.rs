//! What the promise of equal bits costs: each kernel whose order of summation is fixed, beside one that is free.
//!
//! ```text
//! split_k      dW summed over parts of the batch in any order            matmul's one chain over k
//! layernorm    statistics in one pass, dγ and dβ by threads              two passes, 16 lanes, blocks of 64 rows in f64
//! attention    dQ added to as blocks of keys finish                      a chain over keys for a block of queries
//! embedding    gradients added as tokens come                            a stable sort first
//! ```
//!
//! The tensors are those of a training step of GPT-2 124M, and as many sets of them are visited in turn as make the
//! caches forget them. A round is a pass over all sets. Rounds alternate, shipped and variant; each variant's time is
//! divided by the mean of the shipped ones before and after it, and the median of these ratios is what counts. A variant
//! with settings is measured with the one that is fastest here.
//!
//! The variants are compiled under `--cfg longhand_variants` alone.

#[cfg(longhand_variants)]
mod attention;
#[cfg(longhand_variants)]
mod contest;
#[cfg(longhand_variants)]
mod embedding;
#[cfg(longhand_variants)]
mod layernorm;
#[cfg(longhand_variants)]
mod split_k;

#[cfg(longhand_variants)]
fn main() {
    contest::main();
}

#[cfg(not(longhand_variants))]
fn main() {
    println!(
        "determinism: not built; run: CARGO_TARGET_DIR=target/variants RUSTFLAGS='--cfg longhand_variants' \
         cargo bench -p longhand-benches --bench determinism"
    );
}
