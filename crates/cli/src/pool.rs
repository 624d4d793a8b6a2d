//! The one thread pool, of the cores that this process was granted.

use crate::failure::Failure;
use crate::machine::Cpu;
use crate::progress::note;
use longhand_tensor::{Ctx, Isa};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// More threads than this are a mistake on any machine.
const MOST_THREADS: usize = 1024;

/// A pool and the context of every kernel that runs in it.
pub struct Workers {
    pool: ThreadPool,
    /// The instruction set and the threads.
    pub ctx: Ctx,
}

impl Workers {
    /// `threads`, or as many as there are granted cores; more of them are said to be no help.
    ///
    /// # Errors
    /// A number out of range, an unknown LONGHAND_ISA, or threads that the system does not give.
    pub fn new(threads: Option<usize>) -> Result<Workers, Failure> {
        let granted = Cpu::detect().granted;
        let threads = threads.unwrap_or(granted);
        if threads == 0 || threads > MOST_THREADS {
            return Err(Failure::usage(format!("threads = {threads}: must be from 1 to {MOST_THREADS}")));
        }
        if threads > granted {
            note(&format!("{threads} threads on {granted} granted cores: more threads than cores only wait"));
        }
        let built = ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("longhand-{i}")).build();
        let pool = built.map_err(|e| Failure::new(format!("{threads} threads: {e}")))?;
        let ctx = pool.install(Ctx::from_env)?.with_threads(threads);
        Ok(Workers { pool, ctx })
    }

    /// Runs `work` in the pool; entered once a step, so that kernels find their threads awake.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pool.install(work)
    }
}

/// The instruction set of an `--isa`.
///
/// # Errors
/// One that this CPU does not have.
pub fn isa_named(name: &str) -> Result<Isa, Failure> {
    let all = Isa::available();
    all.iter().find(|isa| isa.name() == name).copied().ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|isa| isa.name()).collect();
        Failure::usage(format!("isa = {name}: must be one that this CPU has: {}", names.join(", ")))
    })
}
