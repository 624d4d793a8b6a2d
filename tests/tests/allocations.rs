//! From its third step on, training allocates nothing of its own: the first steps find out what is needed, later ones
//! reuse it.

use longhand_gpt::config::{Arch, Config};
use longhand_gpt::data::Batch;
use longhand_gpt::model::Gpt;
use longhand_gpt::optim::{OptimOptions, Schedule};
use longhand_gpt::train::Trainer;
use longhand_tensor::{Ctx, parallel};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator; counts what any thread asks of it.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's, as it is; `alloc_zeroed` and `realloc` of the trait come to `alloc` and are counted there.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: every pointer came from the system, with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// Allocations of all threads while `work` runs.
fn allocations<R>(work: impl FnOnce() -> R) -> (usize, R) {
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    let result = work();
    (ALLOCATIONS.load(Ordering::SeqCst) - before, result)
}

/// A ragged microbatch of `lens`, whose tokens change from step to step.
fn microbatch(step: u32, lens: &[usize]) -> Batch {
    let rows: u32 = lens.iter().sum::<usize>() as u32;
    let ids = |salt: u32| (0..rows).map(|i| (i * 31 + step * 17 + salt) % VOCABULARY as u32).collect();
    Batch { tokens: ids(3), targets: ids(8), lens: lens.to_vec() }
}

const VOCABULARY: usize = 97;
const STEPS: u32 = 10;

/// Two microbatches: the longest there are at first, later of any length and number of sequences.
fn microbatches(step: u32) -> [Batch; 2] {
    let cut = |len: usize| 1 + (len * 7 + 13 * step as usize) % len;
    match step {
        0 | 1 => [microbatch(step, &[40, 40, 40, 40]), microbatch(step, &[40, 40, 40, 40])],
        _ => [microbatch(step, &[cut(40), cut(31), 40, 1]), microbatch(step, &[40, cut(33), cut(17)])],
    }
}

/// Allocations of an empty stretch of work in the pool, and of each of the first steps; with a recorder or without.
fn training(arch: Arch, threads: usize, recorded: bool) -> (usize, Vec<usize>) {
    let mut config = Config::new(arch, VOCABULARY, 40);
    (config.n_embd, config.n_layer, config.n_head) = (48, 3, 4);
    config.set_dropout(0.1);
    let options = OptimOptions {
        min_lr: 3e-4,
        warmup_iters: 2,
        lr_decay_iters: 200,
        schedule: Schedule::Cosine,
        beta2: 0.99,
        ..OptimOptions::constant(3e-3)
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let ctx = if recorded { Ctx::default().with_recorder(Arc::default()) } else { Ctx::default() };
        let mut trainer = Trainer::new(ctx, Gpt::new(&config).unwrap(), options, 5).unwrap();
        let step = |step| {
            let microbatches = microbatches(step);
            let (count, report) = allocations(|| trainer.step(&microbatches));
            assert!(report.unwrap().loss.is_finite());
            count
        };
        let steps = (0..STEPS).map(step).collect();
        let ctx = Ctx::default();
        (allocations(|| parallel::enter(&ctx, || ())).0, steps)
    })
}

#[test]
fn training_allocates_nothing_from_the_third_step_on() {
    assert!(allocations(|| std::hint::black_box(vec![0u8; 100])).0 == 1, "the count counts");
    for arch in [Arch::Gpt1, Arch::Gpt2] {
        for (threads, recorded) in [(1, false), (2, false), (2, true)] {
            let (empty, counts) = training(arch, threads, recorded);
            println!("{arch:?}, {threads} threads, recorded {recorded}: {counts:?}, an empty stretch {empty}");
            // Rayon's broadcast, which wakes the threads once a step, keeps its jobs in a vector.
            assert_eq!(empty, usize::from(threads > 1), "{threads} threads");
            // A thread that the system let sleep through two steps takes its scratch when it first helps.
            let extra = counts[2..].iter().sum::<usize>() - empty * (STEPS as usize - 2);
            assert!(counts[0] > 0 && extra < threads, "{arch:?}, {threads} threads: {counts:?}");
        }
    }
}
