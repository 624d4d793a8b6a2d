//! Any ragged batch and mask: fused equals naive bit for bit on every ISA, and both are near float64.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use longhand_tensor::attention::{Attention, Mask, Seq, attention_forward, attention_naive_forward};
use longhand_tensor::reference::{self, F64};
use longhand_tensor::{Ctx, Isa};

#[derive(Arbitrary, Debug)]
struct Input {
    lengths: Vec<u8>,
    heads: u8,
    head_size: u8,
    mask: u8,
    band: u8,
    numbers: Vec<i8>,
}

fuzz_target!(|input: Input| {
    let seqs: Vec<Seq> =
        input.lengths.iter().take(3).map(|&n| n as usize % 120).map(|n| Seq { queries: n, keys: n }).collect();
    let (heads, head_size) = (1 + input.heads as usize % 3, 1 + input.head_size as usize % 70);
    let mask = match input.mask % 3 {
        0 => Mask::Causal,
        1 => Mask::None,
        _ => Mask::Banded(1 + input.band as usize),
    };
    let scale = 1.0 / (head_size as f32).sqrt();
    let att = Attention { heads, head_size, mask, dropout: None, scale };
    let (rows, c) = (seqs.iter().map(|s| s.keys).sum::<usize>(), heads * head_size);
    let number = |i: usize| {
        let x = input.numbers.get(i % input.numbers.len().max(1)).copied().unwrap_or(1);
        x as f32 / 64.0 + (i % 97) as f32 / 512.0
    };
    let qkv: Vec<f32> = (0..rows * 3 * c).map(number).collect();
    let wide: Vec<f64> = qkv.iter().map(|&x| x as f64).collect();
    let (mut want, mut want_lse) = (vec![0.0; rows * c], vec![0.0; rows * heads]);
    reference::attention_forward::<F64>(&mut want, &mut want_lse, &wide, &seqs, &att);
    for isa in Isa::available() {
        let ctx = Ctx::new(isa);
        let (mut fused, mut naive) = (vec![f32::NAN; rows * c], vec![f32::NAN; rows * c]);
        let (mut lse, mut naive_lse) = (vec![f32::NAN; rows * heads], vec![f32::NAN; rows * heads]);
        attention_forward(&ctx, &mut fused, &mut lse, &qkv, &seqs, &att).expect("shapes agree");
        attention_naive_forward(&ctx, &mut naive, &mut naive_lse, &qkv, &seqs, &att).expect("shapes agree");
        let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits());
        assert!(same(&fused, &naive) && same(&lse, &naive_lse), "{isa} {att:?} {seqs:?}");
        for i in 0..rows * c {
            // |score| ≤ 70·2.2²/√70 < 41 is off by at most 70·2⁻²⁴ of that, 1.7e-4, and so is the maximum: a weight by
            // 3.4e-4 of itself, and a mean of values below 2.2 by twice that times 2.2.
            assert!((fused[i] as f64 - want[i]).abs() < 2e-3, "{isa} element {i}: {} {}", fused[i], want[i]);
        }
    }
});
