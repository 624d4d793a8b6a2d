//! No kernel touches memory beyond its caller's slices.
//!
//! Each test starts itself again as a child, where every slice ends at an unreadable page, then begins behind one
//! (`fence`). The child names each case before it runs, so the last line of a child that died names the kernel.
#![cfg(target_os = "linux")]

mod attention;
mod fence;
mod matmul;
mod rows;

use fence::{Fence, Side, fenced};
use longhand_tensor::kernels;
use longhand_tensor::{Ctx, Isa};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

#[global_allocator]
static ALLOCATOR: Fence = Fence;

/// Set in a child: which of a test's children it is.
const CHILD: &str = "LONGHAND_OVER_READS";

/// How a child ended.
struct Ended {
    signal: Option<i32>,
    success: bool,
    /// All it said; the last line is its last case, unless it panicked.
    said: String,
}

impl Ended {
    fn last_case(&self) -> &str {
        self.said.lines().rfind(|line| line.contains(" | ")).unwrap_or("no case")
    }
}

/// Runs the test of that name alone, as child `which`.
fn child(test: &str, which: &str) -> Ended {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, which);
    // A backtrace between guard pages would take minutes.
    let out = command.env("RUST_BACKTRACE", "0").output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains(" | "), "the child of {test} ran no case:\n{said}");
    Ended { signal: out.status.signal(), success: out.status.success(), said }
}

/// Runs `work` in a child, fenced behind and then in front.
fn stays_within_its_slices(test: &str, work: fn(&str)) {
    if std::env::var_os(CHILD).is_some() {
        fenced(Side::Behind, || work("behind"));
        fenced(Side::Front, || work("in front"));
        return;
    }
    let ended = child(test, "all");
    assert_ne!(ended.signal, Some(libc::SIGSEGV), "memory beyond a slice was touched: {}", ended.last_case());
    let cases = ended.said.lines().filter(|line| line.contains(" | ")).count();
    println!("{test}: {cases} cases on {:?}", Isa::available());
    assert!(ended.success, "{}", &ended.said[ended.said.rfind(ended.last_case()).unwrap_or(0)..]);
}

/// `n` floats whose value says nothing; exactly as many are allocated.
fn floats(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 13) as f32 * 0.25 - 1.5).collect()
}

/// Runs a case on every instruction set, and says which before.
fn on_every_isa(what: &str, case: impl Fn(&Ctx)) {
    for isa in Isa::available() {
        eprintln!("{isa} | {what}");
        case(&Ctx::new(isa).with_threads(1));
    }
}

#[test]
fn every_op() {
    stays_within_its_slices("every_op", rows::every_op);
}

#[test]
fn row_kernels_that_add() {
    stays_within_its_slices("row_kernels_that_add", rows::adding);
}

#[test]
fn matmul_of_every_edge() {
    stays_within_its_slices("matmul_of_every_edge", matmul::every_edge);
}

#[test]
fn matmul_of_rows_that_lie_apart() {
    stays_within_its_slices("matmul_of_rows_that_lie_apart", matmul::rows_apart);
}

#[test]
fn attention_of_every_length() {
    stays_within_its_slices("attention_of_every_length", attention::every_length);
}

#[test]
fn attention_of_every_head_size() {
    stays_within_its_slices("attention_of_every_head_size", attention::every_head_size);
}

#[test]
fn attention_of_long_sequences() {
    stays_within_its_slices("attention_of_long_sequences", attention::long_sequences);
}

#[test]
fn attention_over_a_cache() {
    stays_within_its_slices("attention_over_a_cache", attention::cached);
}

/// The test can fail: a kernel that is told of one float more than its slice has, before or after it, dies of it.
#[test]
fn a_float_beyond_a_slice_is_found() {
    let faults = [(Side::Behind, false), (Side::Behind, true), (Side::Front, false), (Side::Front, true)];
    let isas = Isa::available();
    if let Ok(which) = std::env::var(CHILD) {
        let which: usize = which.parse().unwrap();
        let (index, seeded) = (which / 2, which % 2 == 1);
        let (isa, (side, write)) = (isas[index / faults.len()], faults[index % faults.len()]);
        fenced(side, || seeded_fault(isa, side, write, seeded));
        return;
    }
    for (i, isa) in isas.iter().flat_map(|isa| [isa; 4]).enumerate() {
        let what = format!("{isa}, (side, writes) {:?}", faults[i % faults.len()]);
        let sound = child("a_float_beyond_a_slice_is_found", &(2 * i).to_string());
        assert!(sound.success, "without a fault the child lives: {what}");
        let faulty = child("a_float_beyond_a_slice_is_found", &(2 * i + 1).to_string());
        assert_eq!(faulty.signal, Some(libc::SIGSEGV), "the fault was not found: {what}");
        assert_eq!(faulty.last_case(), format!("{isa} | a seeded fault"));
    }
}

/// A kernel on 37 floats; when `seeded`, what it reads or writes is one float longer than its memory, at `side`.
fn seeded_fault(isa: Isa, side: Side, write: bool, seeded: bool) {
    const N: usize = 37;
    let (inp, mut out) = (floats(N), floats(N));
    let long = N + usize::from(seeded);
    let before = usize::from(seeded && side == Side::Front);
    let other = floats(long);
    eprintln!("{isa} | a seeded fault");
    let ctx = Ctx::new(isa);
    if write {
        // SAFETY: none when `seeded`: the float beyond is the fault, and the process dies of it.
        let out = unsafe { std::slice::from_raw_parts_mut(out.as_mut_ptr().wrapping_sub(before), long) };
        kernels::residual_forward(&ctx, out, &other, &other).unwrap();
    } else {
        // SAFETY: as above.
        let inp = unsafe { std::slice::from_raw_parts(inp.as_ptr().wrapping_sub(before), long) };
        kernels::sum_of_squares(&ctx, inp).unwrap();
    }
}
