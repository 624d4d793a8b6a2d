//! Matrix products and causal attention beside other Rust libraries, in one process and in turn.
//!
//! ```text
//! gemm             the product, on the threads of the same rayon pool
//! matrixmultiply   the product, on threads of its own, at most four
//! candle           the attention that its models compute: matmul, mask, softmax_last_dim, matmul
//! candle flash     the attention that it computes in one pass
//! ```
//!
//! Both sides read the same inputs, and the peer's result has to be ours but for rounding before anything is timed. A
//! round is a turn of ours and a turn of the peer's; the ratio is the peer's time over ours in the same round, the
//! median of all rounds.
//!
//! What the sides are given differs where their interfaces do, to the peer's favour: ours takes queries, keys and values
//! as one linear layer leaves them, candle takes them apart and contiguous, and the copies that its models make for that
//! are not timed. `matmul_packed` is ours with the weight packed before, as generation has it, beside peers that have no such
//! thing; elsewhere neither side packs before.
//!
//! matrixmultiply and candle read how many threads they may use from the environment, and once: so every number of
//! threads is a process of its own.
//!
//! ```text
//! cargo bench -p longhand-benches --features peers --bench peers [-- NAME…]
//! ```

use candle_core::{Device, Result, Tensor};
use candle_nn::attention::{AttnMask, flash_attn};
use candle_nn::ops::softmax_last_dim;
use gemm::Parallelism;
use longhand_measure::cases::{self, CausalAttention, Linear};
use longhand_measure::sampling::{Pair, pair};
use longhand_measure::{pool, thread_counts};
use longhand_tensor::{Ctx, parallel};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

/// M, N, K, and whether our weight is packed before.
const MATMUL: [([usize; 3], bool); 11] = [
    ([1024, 1024, 1024], false),
    ([2048, 2048, 2048], false),
    ([256, 768, 768], false),
    ([256, 2304, 768], false),
    ([256, 3072, 768], false),
    ([256, 768, 3072], false),
    ([4096, 3072, 768], false),
    ([8, 3072, 768], false),
    ([8, 3072, 768], true),
    ([1, 3072, 768], false),
    ([1, 3072, 768], true),
];

/// B, NH, T, HS.
const ATTENTION: [[usize; 4]; 4] = [[1, 12, 128, 64], [1, 12, 512, 64], [1, 12, 1024, 64], [4, 12, 64, 64]];

/// What the peers read their number of threads from.
const THREADS: [&str; 3] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS", "MATMUL_NUM_THREADS"];

/// Before the number of threads, on the command line of such a process.
const ON_THREADS: &str = "--on-threads";

/// One that computes what we compute.
trait Peer: Send {
    fn name(&self) -> &'static str;
    fn run(&mut self);
    /// What the last run computed, in our layout.
    fn out(&self) -> Vec<f32>;
}

/// The tensors of a product, C (M, N) = X (M, K) · Wᵀ, W (N, K).
struct Product {
    dims: [usize; 3],
    x: Arc<[f32]>,
    w: Arc<[f32]>,
    out: Vec<f32>,
}

impl Product {
    fn of(dims: [usize; 3], ours: &Linear) -> Self {
        let [m, n, k] = dims;
        assert!(ours.x.len() == m * k && ours.w.len() == n * k, "{dims:?} are the product's");
        Product { dims, x: ours.x.clone(), w: ours.w.clone(), out: vec![0.0; m * n] }
    }
}

struct Gemm(Product);

impl Peer for Gemm {
    fn name(&self) -> &'static str {
        "gemm"
    }

    fn run(&mut self) {
        let Product { dims: [m, n, k], ref x, ref w, ref mut out } = self.0;
        let threads = match parallel::current_threads() {
            1 => Parallelism::None,
            n => Parallelism::Rayon(n),
        };
        let (rows_of_n, rows_of_k) = (n as isize, k as isize);
        // SAFETY: `of` checked the lengths: every index that these dims and strides reach lies in its slice.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                out.as_mut_ptr(),
                1,
                rows_of_n,
                false,
                x.as_ptr(),
                1,
                rows_of_k,
                w.as_ptr(),
                rows_of_k,
                1,
                0.0,
                1.0,
                false,
                false,
                false,
                threads,
            );
        }
    }

    fn out(&self) -> Vec<f32> {
        self.0.out.clone()
    }
}

struct MatrixMultiply(Product);

impl Peer for MatrixMultiply {
    fn name(&self) -> &'static str {
        "matrixmultiply"
    }

    fn run(&mut self) {
        let Product { dims: [m, n, k], ref x, ref w, ref mut out } = self.0;
        let (rows_of_n, rows_of_k) = (n as isize, k as isize);
        // SAFETY: `of` checked the lengths: every index that these dims and strides reach lies in its slice.
        unsafe {
            let (x, w, out) = (x.as_ptr(), w.as_ptr(), out.as_mut_ptr());
            matrixmultiply::sgemm(m, k, n, 1.0, x, rows_of_k, 1, w, 1, rows_of_k, 0.0, out, rows_of_n, 1);
        }
    }

    fn out(&self) -> Vec<f32> {
        self.0.out.clone()
    }
}

/// Queries, keys and values, and what has been computed of them (B, NH, T, HS).
struct Candle {
    qkv: [Tensor; 3],
    scale: f64,
    /// 1 where a key lies after the query (T, T); `None` for the attention in one pass, which knows no other.
    later: Option<Tensor>,
    out: Option<Tensor>,
}

impl Candle {
    fn of([b, heads, t, head_size]: [usize; 4], ours: &CausalAttention, flash: bool) -> Result<Self> {
        let packed = Tensor::from_slice(&ours.qkv, (b, t, 3, heads, head_size), &Device::Cpu)?;
        let part = |i: usize| {
            let part = packed.narrow(2, i, 1)?.squeeze(2)?;
            // (B, T, NH, HS) in one pass, (B, NH, T, HS) else: each as it is wanted.
            if flash { part.contiguous() } else { part.transpose(1, 2)?.contiguous() }
        };
        let later: Vec<u8> = (0..t * t).map(|i| u8::from(i % t > i / t)).collect();
        let later = if flash { None } else { Some(Tensor::from_vec(later, (t, t), &Device::Cpu)?) };
        let scale = 1.0 / (head_size as f64).sqrt();
        Ok(Candle { qkv: [part(0)?, part(1)?, part(2)?], scale, later, out: None })
    }

    fn forward(&self) -> Result<Tensor> {
        let [q, k, v] = &self.qkv;
        let Some(later) = &self.later else {
            return flash_attn::<f32>(q, k, v, self.scale as f32, AttnMask::causal(), None, None);
        };
        let scores = (q.matmul(&k.t()?)? * self.scale)?;
        let never = Tensor::new(f32::NEG_INFINITY, &Device::Cpu)?.broadcast_as(scores.shape())?;
        let masked = later.broadcast_as(scores.shape())?.where_cond(&never, &scores)?;
        softmax_last_dim(&masked)?.matmul(v)
    }

    /// (B·T, NH·HS) of (B, NH, T, HS).
    fn rows(out: &Tensor) -> Result<Vec<f32>> {
        out.transpose(1, 2)?.flatten_all()?.to_vec1()
    }
}

impl Peer for Candle {
    fn name(&self) -> &'static str {
        if self.later.is_some() { "candle" } else { "candle flash" }
    }

    fn run(&mut self) {
        self.out = Some(self.forward().expect("shapes agree"));
    }

    fn out(&self) -> Vec<f32> {
        Candle::rows(self.out.as_ref().expect("it has run")).expect("an output of four dims")
    }
}

/// Fails where the peer's result is not `ours` within `tolerance`, of 1 or of the greater value.
fn same(case: &str, peer: &dyn Peer, ours: &[f32], tolerance: f32) {
    let out = peer.out();
    assert_eq!(out.len(), ours.len(), "{case}: {}'s result has another length", peer.name());
    for (i, (theirs, ours)) in out.iter().zip(ours).enumerate() {
        let off = (theirs - ours).abs();
        let name = peer.name();
        assert!(off <= tolerance * ours.abs().max(1.0), "{case}[{i}]: {name} has {theirs}, we {ours}: {off:e} off");
    }
}

/// How long and how often a pair runs.
#[derive(Clone, Copy)]
struct Effort {
    budget: Duration,
    least: usize,
}

fn row(case: &str, peer: &str, pair: &Pair) {
    let [ours, theirs] = pair.seconds.map(|s| format!("{:.3}", s * 1e3));
    let spread = format!("{:.2} to {:.2}", pair.quartiles[0], pair.quartiles[1]);
    let (ratio, rounds) = (pair.ratio, pair.rounds);
    println!("{case:<34} {peer:<15} {ours:>9} {theirs:>9} {ratio:>7.2}   {spread:<14} {rounds:>5}");
}

/// Our side and each peer in turn; `out` gives what ours has computed.
fn beside<T: Send>(
    case: &str,
    ctx: &Ctx,
    mut ours: T,
    run: fn(&mut T, &Ctx),
    out: fn(&T) -> &[f32],
    peers: Vec<Box<dyn Peer>>,
    tolerance: f32,
    effort: Effort,
) {
    for mut peer in peers {
        // As inside a step: our threads are awake from a run's first parallel call to its last.
        let mut once = || parallel::enter(ctx, || run(&mut ours, ctx));
        once();
        peer.run();
        let measured = pair(effort.budget, effort.least, &mut once, || peer.run());
        same(case, &*peer, out(&ours), tolerance);
        row(case, peer.name(), &measured);
    }
}

/// Every case whose name begins with one of `wanted`, on the threads of the current pool.
fn measure(wanted: &[String], effort: Effort) {
    let ctx = Ctx::default();
    let threads = ctx.threads();
    let candle = if cfg!(target_feature = "avx2") { "with AVX2" } else { "for the target's baseline" };
    println!("\n{threads} thread{}. Ours: {}.", if threads == 1 { "" } else { "s" }, ctx.isa());
    println!(
        "gemm and matrixmultiply choose their instructions when they run; candle's own loops are compiled {candle}."
    );
    let [case, ours, theirs, ratio] = ["case", "ours, ms", "peer, ms", "ratio"];
    println!("{case:<34} {:<15} {ours:>9} {theirs:>9} {ratio:>7}   {:<14} rounds", "peer", "quartiles");
    let asked = |name: &str| wanted.is_empty() || wanted.iter().any(|w| name.starts_with(w.as_str()));
    for (dims @ [m, n, k], packed) in MATMUL {
        let name = cases::linear(m, n, k, packed).name;
        if asked(&name) {
            let ours = Linear::new(m, n, k, packed);
            let peers: Vec<Box<dyn Peer>> =
                vec![Box::new(Gemm(Product::of(dims, &ours))), Box::new(MatrixMultiply(Product::of(dims, &ours)))];
            // Sums of K products below 1, in another order: K roundings.
            let tolerance = k as f32 * f32::EPSILON;
            beside(&name, &ctx, ours, Linear::run, |ours| &ours.out, peers, tolerance, effort);
        }
    }
    for shape in ATTENTION {
        let name = cases::attention_name(shape, true, false);
        if asked(&name) {
            let ours = CausalAttention::new(shape, true);
            let peer = |flash| Candle::of(shape, &ours, flash).expect("shapes agree");
            let peers: Vec<Box<dyn Peer>> = vec![Box::new(peer(false)), Box::new(peer(true))];
            // Averages of values below 1.
            beside(&name, &ctx, ours, CausalAttention::forward, |ours| &ours.out, peers, 1e-5, effort);
        }
    }
}

/// This program again, for each number of threads.
fn every_number_of_threads(args: &[String]) -> std::io::Result<bool> {
    let program = std::env::current_exe()?;
    println!("ratio: the peer's time over ours in the same round, median; above 1 ours is the faster one.");
    for threads in thread_counts() {
        let threads = threads.to_string();
        let mut process = Command::new(&program);
        process.args([ON_THREADS, &threads]).args(args).envs(THREADS.map(|name| (name, &threads)));
        if !process.status()?.success() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, threads, rest @ ..] = &args[..]
        && flag == ON_THREADS
    {
        // Without --bench every pair runs once, to see that it runs and that the results agree.
        let measuring = rest.iter().any(|arg| arg == "--bench");
        let effort = match measuring {
            true => Effort { budget: Duration::from_millis(1500), least: 5 },
            false => Effort { budget: Duration::ZERO, least: 1 },
        };
        let wanted: Vec<String> = rest.iter().filter(|arg| !arg.starts_with('-')).cloned().collect();
        let threads = threads.parse().expect("a number of threads");
        pool(threads).install(|| measure(&wanted, effort));
        return ExitCode::SUCCESS;
    }
    match every_number_of_threads(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("this program cannot start itself again: {e}");
            ExitCode::FAILURE
        }
    }
}
