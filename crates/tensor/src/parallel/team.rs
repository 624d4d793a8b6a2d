//! A team: the threads of a pool, awake from the first parallel call of a step to its last.
//!
//! A training step of a small model has some hundred parallel calls of 50 µs to 500 µs each. Handing them out one by
//! one through a pool's deques lets threads fall asleep between two calls, and waking one takes as long as a call. Here
//! every thread of the pool stays in one broadcast for the whole step: the leader runs the step, and wherever it comes
//! to a parallel call it opens a job, of which all threads take blocks by a counter.
//!
//! ```text
//! leader   … serial … | open job, epoch odd | blocks … | close, epoch even | wait until active = 0 | … serial …
//! helper   spin on epoch ...................| active+1, epoch still the same? blocks …, active−1 | spin …
//! ```
//!
//! A helper that comes late finds no block left, and the leader waits for nobody who has not begun. Which thread runs a
//! block cannot reach a result.

use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;

/// Looks at the epoch before a waiting thread begins to offer its core to others: some 20 µs.
const SPINS: u32 = 1 << 9;

/// What a parallel call is to the threads: `call(data, i)` runs block i.
type Call = unsafe fn(*const (), usize);

/// The job that is open, and who works at it.
struct Team {
    /// Odd while a job is open. `ENDED` after the last one.
    epoch: AtomicUsize,
    /// Helpers that have announced themselves for the open job and not left it yet, with or without a block.
    active: AtomicUsize,
    /// The next block to take.
    next: AtomicUsize,
    blocks: AtomicUsize,
    data: AtomicPtr<()>,
    /// A `Call`.
    call: AtomicPtr<()>,
    /// What a helper's block panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// The epoch of a team that has come to its end.
const ENDED: usize = usize::MAX;

/// What a thread is to a team.
#[derive(Clone, Copy)]
enum Role {
    Outside,
    /// It leads this one, and has no job open.
    Leads(*const Team),
    /// It helps one, or runs a block of the job that it opened.
    Busy,
}

thread_local! {
    static ROLE: Cell<Role> = const { Cell::new(Role::Outside) };
}

/// Gives this thread a role until dropped. Roles nest: while a thread waits in rayon it may be given another team's
/// broadcast.
struct As {
    before: Role,
}

impl As {
    fn role(role: Role) -> Self {
        As { before: ROLE.replace(role) }
    }
}

impl Drop for As {
    fn drop(&mut self) {
        ROLE.set(self.before);
    }
}

/// Runs `work` with every thread of the current pool awake and at its service.
pub(super) fn enter<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    if !matches!(ROLE.get(), Role::Outside) || rayon::current_num_threads() == 1 {
        return work();
    }
    let team = Team {
        epoch: AtomicUsize::new(0),
        active: AtomicUsize::new(0),
        next: AtomicUsize::new(0),
        blocks: AtomicUsize::new(0),
        data: AtomicPtr::new(ptr::null_mut()),
        call: AtomicPtr::new(ptr::null_mut()),
        panic: Mutex::new(None),
    };
    let (work, result) = (Mutex::new(Some(work)), Mutex::new(None));
    rayon::broadcast(|_| {
        // Whoever comes first leads.
        let work = work.lock().ok().and_then(|mut work| work.take());
        match work {
            Some(work) => {
                let _end = Lead { team: &team, _role: As::role(Role::Leads(&team)) };
                let value = work();
                if let Ok(mut slot) = result.lock() {
                    *slot = Some(value);
                }
            }
            None => {
                let _role = As::role(Role::Busy);
                team.help();
            }
        }
    });
    // A panic of `work` has gone through `broadcast` already.
    result.into_inner().ok().flatten().expect("the leader leaves its result")
}

/// Runs `f(0)`, …, `f(blocks − 1)` on the team that this thread leads; false, and nothing done, if it leads none.
pub(super) fn run<F: Fn(usize) + Sync>(blocks: usize, f: &F) -> bool {
    let Role::Leads(team) = ROLE.get() else { return false };
    // SAFETY: a thread leads a team only while `enter`'s lives.
    let team = unsafe { &*team };
    /// # Safety
    /// `data` is a live `&F`.
    unsafe fn call<F: Fn(usize)>(data: *const (), i: usize) {
        // SAFETY: the caller's word.
        unsafe { (*data.cast::<F>())(i) }
    }
    let open = Open::job(team, ptr::from_ref(f).cast(), call::<F>, blocks);
    while let Some(i) = team.take() {
        f(i);
    }
    drop(open);
    if let Some(payload) = team.panicked() {
        resume_unwind(payload);
    }
    true
}

/// Leads a team until dropped, and sends the helpers home then.
struct Lead<'a> {
    team: &'a Team,
    _role: As,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.team.epoch.store(ENDED, Ordering::Release);
    }
}

/// An open job; closed when dropped, also by a panic. Meanwhile its thread leads nobody: a parallel call inside a
/// block, though none is made, would be a job inside a job.
struct Open<'a> {
    team: &'a Team,
    _role: As,
}

impl<'a> Open<'a> {
    fn job(team: &'a Team, data: *const (), call: Call, blocks: usize) -> Self {
        // Where both the leader's block and a helper's had panicked, the helper's is left over.
        core::mem::forget(team.panicked());
        // No helper reads these now: the last job was closed and left by all.
        team.data.store(data.cast_mut(), Ordering::Relaxed);
        team.call.store(call as *const () as *mut (), Ordering::Relaxed);
        team.blocks.store(blocks, Ordering::Relaxed);
        team.next.store(0, Ordering::Relaxed);
        team.epoch.fetch_add(1, Ordering::SeqCst);
        Open { team, _role: As::role(Role::Busy) }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        // Sequentially consistent with `help`: either the helper sees that the job is closed, or it is waited for here.
        self.team.epoch.fetch_add(1, Ordering::SeqCst);
        let mut wait = Wait::default();
        while self.team.active.load(Ordering::SeqCst) != 0 {
            wait.again();
        }
    }
}

impl Team {
    /// What a helper's block panicked with, once.
    fn panicked(&self) -> Option<Box<dyn Any + Send>> {
        self.panic.lock().ok().and_then(|mut p| p.take())
    }

    /// Keeps the first panic's payload for the leader. Others are leaked: to drop one runs the caller's code, which may
    /// panic again, here of all places.
    fn keep(&self, payload: Box<dyn Any + Send>) {
        match self.panic.lock() {
            Ok(mut slot) if slot.is_none() => *slot = Some(payload),
            _ => core::mem::forget(payload),
        }
    }

    /// The number of a block that nobody has taken.
    fn take(&self) -> Option<usize> {
        let i = self.next.fetch_add(1, Ordering::Relaxed);
        (i < self.blocks.load(Ordering::Relaxed)).then_some(i)
    }

    /// Works at every job until the team ends.
    fn help(&self) {
        let (mut seen, mut wait) = (0, Wait::default());
        loop {
            let epoch = self.epoch.load(Ordering::Acquire);
            if epoch == ENDED {
                return;
            }
            if epoch == seen || epoch.is_multiple_of(2) {
                wait.again();
                continue;
            }
            seen = epoch;
            self.active.fetch_add(1, Ordering::SeqCst);
            if self.epoch.load(Ordering::SeqCst) == epoch {
                self.help_with_job();
                wait = Wait::default();
            }
            self.active.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn help_with_job(&self) {
        let (data, call) = (self.data.load(Ordering::Relaxed), self.call.load(Ordering::Relaxed));
        // SAFETY: the job is open, so these are what `Open::job` stored: a `Call`, as a pointer of the same size.
        let call = unsafe { core::mem::transmute::<*mut (), Call>(call) };
        let done = catch_unwind(AssertUnwindSafe(|| {
            while let Some(i) = self.take() {
                // SAFETY: `run` keeps the closure alive until this helper is no longer active.
                unsafe { call(data, i) };
            }
        }));
        if let Err(payload) = done {
            self.keep(payload);
        }
    }
}

/// Waiting: on the core at first, then with the core on offer, so that more threads than cores get on as well.
#[derive(Default)]
struct Wait(u32);

impl Wait {
    fn again(&mut self) {
        if self.0 < SPINS {
            self.0 += 1;
            core::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn every_block_of_every_job_runs_once() {
        for threads in [1, 2, 5] {
            let counts: Vec<AtomicUsize> = (0..97).map(|_| AtomicUsize::new(0)).collect();
            let led = pool(threads).install(|| {
                enter(|| {
                    let mut led = true;
                    for job in 0..2000 {
                        led &= run(job % 98, &|i| {
                            counts[i].fetch_add(1, Ordering::Relaxed);
                        });
                    }
                    led
                })
            });
            assert_eq!(led, threads > 1);
            // Block i runs in jobs of more than i blocks: 2000 = 20·98 + 40.
            let expected = |i: usize| if led { 20 * (97 - i) + 39usize.saturating_sub(i) } else { 0 };
            for (i, count) in counts.iter().enumerate() {
                assert_eq!(count.load(Ordering::Relaxed), expected(i), "block {i}, {threads} threads");
            }
        }
    }

    #[test]
    fn teams_end_and_begin_and_do_not_nest() {
        let pool = pool(3);
        for round in 0..200 {
            let sum = pool.install(|| enter(|| enter(|| round + 1)));
            assert_eq!(sum, round + 1);
        }
        assert!(!run(3, &|_| ()), "no team is led here");
    }

    #[test]
    fn a_call_inside_a_block_is_nobodys_job() {
        let led = AtomicUsize::new(0);
        let outer = pool(3).install(|| {
            enter(|| {
                let inner = |_: usize| {
                    led.fetch_add(usize::from(run(2, &|_| ())), Ordering::Relaxed);
                };
                run(20, &inner) && run(3, &|_| ())
            })
        });
        assert!(outer && led.into_inner() == 0);
    }

    #[test]
    fn a_team_inside_a_block_is_a_plain_call() {
        let sum = AtomicUsize::new(0);
        pool(3).install(|| {
            enter(|| {
                run(20, &|i| {
                    sum.fetch_add(enter(|| i), Ordering::Relaxed);
                })
            })
        });
        assert_eq!(sum.into_inner(), 190);
    }

    #[test]
    fn a_panic_is_not_left_for_the_next_call() {
        let pool = pool(3);
        for _ in 0..50 {
            let next = pool.install(|| {
                enter(|| {
                    let all = AssertUnwindSafe(|| run(20, &|i| panic!("block {i}")));
                    assert!(catch_unwind(all).is_err());
                    catch_unwind(AssertUnwindSafe(|| run(20, &|_| ()))).is_ok()
                })
            });
            assert!(next);
        }
    }

    #[test]
    fn a_payload_that_panics_when_dropped_stops_nobody() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                assert!(std::thread::panicking(), "dropped by the team");
            }
        }
        let pool = pool(4);
        for _ in 0..20 {
            let all = || {
                run(40, &|_| {
                    std::thread::sleep(std::time::Duration::from_micros(300));
                    std::panic::panic_any(Bomb)
                })
            };
            let caught = catch_unwind(AssertUnwindSafe(|| pool.install(|| enter(all))));
            core::mem::forget(caught.expect_err("every block panics"));
        }
        assert_eq!(pool.install(|| enter(|| 7)), 7);
    }

    #[test]
    fn a_panic_in_a_block_reaches_the_caller_and_the_pool_lives_on() {
        let pool = pool(3);
        for bad in 0..20 {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.install(|| enter(|| run(20, &|i| assert!(i != bad, "block {i}"))));
            }));
            assert!(caught.is_err());
        }
        assert_eq!(pool.install(|| enter(|| 7)), 7);
    }
}
