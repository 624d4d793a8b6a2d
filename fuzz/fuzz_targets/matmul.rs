//! Any shape, strides and numbers: the kernel on every ISA equals the reference's chain of its rounding class, bit
//! for bit (all NaNs are one value).
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use longhand_tensor::matmul::{Epilogue, Weight, matmul};
use longhand_tensor::reference::{self, Fused32, Unfused32};
use longhand_tensor::{Accumulate, Ctx, Isa, MatMut, MatRef};

#[derive(Arbitrary, Debug)]
struct Input {
    m: u8,
    n: u8,
    k: u16,
    transposed: [bool; 2],
    packed: bool,
    add: bool,
    bias: bool,
    bits: Vec<u32>,
}

fn bits(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }
}

fuzz_target!(|input: Input| {
    let (m, n, k) = (input.m as usize % 40, input.n as usize % 80, input.k as usize % 600);
    let number = |i: usize| match input.bits.get(i % input.bits.len().max(1)) {
        Some(&b) if i < input.bits.len() => f32::from_bits(b),
        Some(&b) => (b.wrapping_mul(i as u32 | 1) >> 8) as f32 / 8_388_608.0 - 1.0,
        None => 1.0,
    };
    let a: Vec<f32> = (0..m * k).map(number).collect();
    let b: Vec<f32> = (0..k * n).map(|i| number(i + m * k)).collect();
    let old: Vec<f32> = (0..m * n).map(|i| number(i + 7)).collect();
    let bias: Vec<f32> = (0..n).map(|i| number(i + 3)).collect();
    let view = |data, rows, cols, transposed| match transposed {
        true => MatRef::new(data, cols, rows).map(MatRef::t),
        false => MatRef::new(data, rows, cols),
    };
    let a = view(&a[..], m, k, input.transposed[0]).expect("a is (M, K)");
    let b = view(&b[..], k, n, input.transposed[1]).expect("b is (K, N)");
    let acc = if input.add { Accumulate::Add } else { Accumulate::Store };
    let bias = input.bias.then_some(&bias[..]);
    for isa in Isa::available() {
        let mut want = old.clone();
        match isa.fused() {
            true => reference::matmul::<Fused32>(&mut want, a, b, acc, bias),
            false => reference::matmul::<Unfused32>(&mut want, a, b, acc, bias),
        }
        let mut got = old.clone();
        let c = MatMut::new(&mut got, m, n).expect("c is (M, N)");
        let (ctx, epilogue) = (Ctx::new(isa), Epilogue { bias, ..Epilogue::default() });
        let done = match input.packed {
            true => matmul(&ctx, c, a, &Weight::pack(&ctx, b).expect("b packs"), acc, epilogue),
            false => matmul(&ctx, c, a, b, acc, epilogue),
        };
        done.expect("shapes agree");
        for i in 0..m * n {
            assert_eq!(bits(got[i]), bits(want[i]), "{isa} {m}x{n}x{k} element {i}: {} {}", got[i], want[i]);
        }
    }
});
