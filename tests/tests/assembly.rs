//! The machine code of the kernels, as a plain release build of longhand-tensor makes it.
//!
//! A vector method that is not inlined into its kernel's trampoline still computes the right numbers, at a tenth
//! of the speed, and no other test would notice. AVX-512's code is compiled on every x86-64 machine, so this holds
//! also where it cannot run.
#![cfg(target_arch = "x86_64")]

use longhand_tests::asm::{self, Function};
use longhand_tests::{cargo_plain, rustc_plain, workspace_root};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The trampolines that kernels are compiled into.
const ISAS: [&str; 2] = ["simd::avx2::trampoline::<", "simd::avx512::trampoline::<"];

/// Kernels that multiply and add vectors, by a part of their path.
const KERNELS: &[&str] = &[
    "attention::forward::Softmax",
    "attention::backward::Dots",
    "attention::backward::Gradient48",
    "attention::naive::Gradient",
    "attention::naive::Scores",
    "attention::naive::WeightedSum",
    "attention::naive::AddOuter",
    "attention::naive::Exponentials",
    "attention::product::Product",
    "kernels::cross_entropy::Forward",
    "kernels::cross_entropy::Backward",
    "kernels::cross_entropy::InPlace",
    "kernels::gelu::Forward",
    "kernels::gelu::Backward",
    "kernels::layernorm::Forward",
    "kernels::layernorm::Backward",
    "kernels::reduce::Blocks",
    "kernels::softmax::Forward",
    "kernels::softmax::Backward",
    "matmul::epilogue::MatmulEpilogue",
    "matmul::turned::Rows",
];

/// Kernels that compute on vectors and have no sum of products.
const WITHOUT_FMA: &[&str] = &[
    "attention::dropout::Keep",
    "attention::forward::Drop",
    "attention::pack::Panels",
    "attention::pack::PutRows",
    "attention::pack::ScaleRows",
    "kernels::adamw::Step",
    "kernels::dropout::Apply",
    "kernels::embedding::Forward",
    "kernels::embedding::AddRows",
    "kernels::layernorm::AddBlocks",
    "kernels::residual::Sum",
    "matmul::bias::ColumnSums",
];

/// Kernels whose inner loops keep every vector in a register, with the ISA that has the tile.
const MICROKERNELS: &[(&str, &str)] = &[
    (ISAS[0], "matmul::microkernel::MatmulTiles<6, 1, 0>"),
    (ISAS[0], "matmul::microkernel::MatmulTiles<"),
    (ISAS[1], "matmul::microkernel::MatmulTiles<14, 2, 0>"),
    (ISAS[1], "matmul::microkernel::MatmulTiles<14, 2, 4>"),
    (ISAS[1], "matmul::microkernel::MatmulTiles<"),
    (ISAS[0], "matmul::turned::Rows"),
    (ISAS[1], "matmul::turned::Rows"),
    (ISAS[0], "attention::product::Product"),
    (ISAS[1], "attention::product::Product"),
];

fn target() -> PathBuf {
    workspace_root().join("target").join("assembly")
}

/// The listing of longhand-tensor, built once: a release build without link-time optimisation, which would leave
/// the code to the linker.
fn tensor() -> &'static [Function] {
    static LISTING: OnceLock<Vec<Function>> = OnceLock::new();
    LISTING.get_or_init(|| {
        let path = target().join("longhand_tensor.s");
        build(&path);
        if !path.exists() {
            // Cargo holds the build for fresh though its listing is gone: build again from nothing.
            fs::remove_dir_all(target()).expect("target/assembly can be removed");
            build(&path);
        }
        asm::parse(&fs::read_to_string(&path).expect("the listing is text"))
    })
}

fn build(listing: &Path) {
    let (dir, emit) = (target().display().to_string(), format!("asm={}", listing.display()));
    let args = ["rustc", "--locked", "--package", "longhand-tensor", "--release", "--lib", "--target-dir", &dir, "--"];
    let flags = ["--emit", &emit, "-C", "codegen-units=1", "-C", "symbol-mangling-version=v0"];
    cargo_plain(&[&args[..], &flags[..]].concat()).unwrap_or_else(|e| panic!("{e}"));
}

/// Everything wrong with `functions`, given the kernels to find.
fn faults(functions: &[Function], kernels: &[&str], microkernels: &[(&str, &str)]) -> Vec<String> {
    let mut faults = Vec::new();
    for f in functions {
        // A body with vector multiply-adds, or a trampoline without: neither may leave vector code. Nor may any other
        // function call an intrinsic, which is what a vector helper outside a trampoline does.
        let vector = f.vector_fmas() > 0 || ISAS.iter().any(|isa| f.name.contains(isa));
        for callee in f.out_of_line() {
            if vector || callee.contains("core_arch::") {
                faults.push(format!("{}\n    calls {callee}", f.name));
            }
        }
    }
    let found = |isa: &str, kernel: &str| -> Vec<&Function> {
        let here = |f: &&Function| f.name.contains(isa) && f.name.contains(kernel) && f.vector_fmas() > 0;
        functions.iter().filter(here).collect()
    };
    for isa in ISAS {
        for kernel in kernels {
            if found(isa, kernel).is_empty() {
                faults.push(format!("no function with vector multiply-adds for {isa}{kernel}"));
            }
        }
    }
    for (isa, kernel) in microkernels {
        let tiles = found(isa, kernel);
        if tiles.is_empty() {
            faults.push(format!("no microkernel {isa}{kernel}"));
        }
        for f in tiles {
            if f.inner_loop().is_none() {
                faults.push(format!("{}\n    has no loop with multiply-adds", f.name));
            }
            for bad in f.spills_and_calls_in_inner_loops() {
                faults.push(format!("{}\n    inner loop: {bad}", f.name));
            }
        }
    }
    faults.sort();
    faults.dedup();
    faults
}

#[test]
fn kernels_without_multiply_adds_are_vector_code_too() {
    for isa in ISAS {
        for kernel in WITHOUT_FMA {
            let mut found = tensor().iter().filter(|f| f.name.contains(isa) && f.name.contains(kernel));
            assert!(found.any(|f| f.vector_instructions() > 0), "no vector code for {isa}{kernel}");
        }
    }
}

#[test]
fn kernels_are_compiled_whole_and_microkernels_stay_in_registers() {
    let functions = tensor();
    let faults = faults(functions, KERNELS, MICROKERNELS);
    assert!(faults.is_empty(), "{} faults in the machine code:\n{}", faults.len(), faults.join("\n"));
    for isa in ISAS {
        let n = functions.iter().filter(|f| f.name.contains(isa) && f.vector_fmas() > 0).count();
        println!("{isa}…>: {n} functions with vector multiply-adds");
    }
}

/// A full tile is its multiply-adds and nothing to wait for: MR × NV of them a step of k, four steps written out, of pairs of
/// bfloat16 one.
#[test]
fn the_full_tiles_hold_exactly_their_multiply_adds() {
    for (isa, kernel, steps, fmas) in [
        (ISAS[0], "matmul::microkernel::MatmulTiles<6, 1, 0>", 4, 6 * 2),
        (ISAS[1], "matmul::microkernel::MatmulTiles<14, 2, 0>", 4, 14 * 2),
        (ISAS[1], "matmul::microkernel::MatmulTiles<14, 2, 4>", 1, 14 * 2),
    ] {
        let tile = tensor().iter().find(|f| f.name.contains(isa) && f.name.contains(kernel));
        let inner = tile.and_then(Function::inner_loop).unwrap_or_else(|| panic!("no loop in {isa}{kernel}"));
        let n = inner.iter().filter(|i| i.is_vector_fma()).count();
        assert_eq!(n, steps * fmas, "{isa}{kernel}: multiply-adds in the loop, {fmas} a step of k");
    }
}

/// The snippet in tests/data, compiled against the library: one sound kernel, one whose helper is out of line, one
/// with more accumulators than registers.
#[test]
fn seeded_faults_are_found() {
    tensor();
    let (deps, listing) = (target().join("release").join("deps"), target().join("seeded.s"));
    let library = target().join("release").join("liblonghand_tensor.rlib");
    let source = workspace_root().join("tests").join("data").join("seeded_faults.rs");
    let (search, link) = (format!("dependency={}", deps.display()), format!("longhand_tensor={}", library.display()));
    let (source, out) = (source.display().to_string(), listing.display().to_string());
    let args = ["--edition", "2024", "--crate-type", "lib", "-C", "opt-level=3", "--emit", "asm", "-o", &out];
    let more = ["-C", "codegen-units=1", "-C", "symbol-mangling-version=v0", "--extern", &link, "-L", &search, &source];
    rustc_plain(&[&args[..], &more[..]].concat()).unwrap_or_else(|e| panic!("{e}"));
    let functions = asm::parse(&fs::read_to_string(&listing).expect("the listing is text"));

    let sound = faults(&functions, &["Sound"], &[(ISAS[0], "Sound"), (ISAS[1], "Sound")]);
    let about = |kernel: &str| sound.iter().filter(|f| f.contains(kernel)).count();
    assert_eq!(about("Sound"), 0, "{sound:#?}");
    assert!(about("OutOfLine") >= 2, "one call of the helper for each ISA: {sound:#?}");
    assert!(sound.iter().any(|f| f.contains("calls core::core_arch::")), "the helper calls intrinsics: {sound:#?}");
    let spilled = faults(&functions, &[], &[(ISAS[0], "TooWide"), (ISAS[1], "TooWide")]);
    assert!(spilled.iter().any(|f| f.contains("TooWide") && f.contains("inner loop: v")), "{spilled:#?}");
    let missing = faults(&functions, &["NoSuchKernel"], &[(ISAS[0], "NoSuchTile")]);
    assert_eq!(missing.iter().filter(|f| f.starts_with("no ")).count(), 3, "{missing:#?}");
}
