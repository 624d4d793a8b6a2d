//! `longhand doctor`: what this machine gives, and whether it computes what every other one does.

use crate::args::DoctorArgs;
use crate::failure::Failure;
use crate::machine::{self, Cgroup, Cpu, human_bytes};
use crate::pool::Workers;
use crate::progress::print_line;
use longhand_gpt::config::{Arch, Config};
use longhand_gpt::data::{Batch, Rows, Tokens, Windows};
use longhand_gpt::model::Gpt;
use longhand_gpt::optim::{OptimOptions, Schedule};
use longhand_gpt::snapshot;
use longhand_gpt::train::Trainer;
use longhand_tensor::simd::{Kernel, LANES, Simd, dispatch_on};
use longhand_tensor::{Ctx, Isa};

/// The weights after the 50 steps, for the rounding class F (fused multiply-add).
const PUBLISHED: &str = "02ba3d49b305ce85";

/// Shows; the exit status: 1 when the hash is not the published one.
pub fn run(args: &DoctorArgs) -> Result<u8, Failure> {
    let (cpu, cgroup) = (Cpu::detect(), Cgroup::detect());
    let workers = Workers::new(args.threads)?;
    let isa = workers.ctx.isa();
    let or_none = |x: Option<String>| x.unwrap_or_else(|| "none".into());
    let show = |name: &str, value: String| print_line(&format!("{name:<16}{value}"));

    show("longhand", format!("{} ({})", env!("CARGO_PKG_VERSION"), build()));
    show("cpu", if cpu.name.is_empty() { std::env::consts::ARCH.into() } else { cpu.name.clone() });
    show("features", features().join(" "));
    show("cores", format!("{} granted of {} present", cpu.granted, cpu.present));
    show("cgroup cores", or_none(cgroup.cores.map(|c| format!("{c:.2}"))));
    show("cgroup memory", or_none(cgroup.memory_limit.map(human_bytes)));
    show("memory", or_none(machine::available_memory().map(|b| format!("{} available", human_bytes(b)))));
    show("LONGHAND_ISA", std::env::var("LONGHAND_ISA").unwrap_or_else(|_| "not set".into()));
    let names: Vec<&str> = Isa::available().iter().map(|i| i.name()).collect();
    show("kernels", format!("{isa}, of {}", names.join(", ")));
    show("rounding", format!("class {}", if isa.fused() { "F (fused multiply-add)" } else { "U (two roundings)" }));
    let (rows, columns) = dispatch_on(isa, Tile);
    show("matmul tile", format!("{rows} × {columns} outputs in registers"));
    show("threads", workers.ctx.threads().to_string());

    let hash = format!("{:016x}", workers.run(|| fifty_steps(&workers.ctx))?);
    let (verdict, status) = match (isa.fused(), hash == PUBLISHED) {
        (_, true) => ("as published", 0),
        (true, false) => ("NOT the published one", 1),
        (false, false) => ("class U, for which none is published", 0),
    };
    show("50 steps", format!("{hash}, {verdict}"));
    for warning in warnings(&cpu, isa) {
        show("warning", warning);
    }
    if status != 0 {
        show("warning", format!("the published hash is {PUBLISHED}: please report this page"));
    }
    Ok(status)
}

/// The outputs that matmul's microkernel keeps in registers: rows and columns.
struct Tile;

impl Kernel for Tile {
    type Output = (usize, usize);
    fn run<S: Simd>(self, _: S) -> (usize, usize) {
        (S::MR, S::NV * LANES)
    }
}

fn build() -> &'static str {
    if cfg!(debug_assertions) { "debug build" } else { "release build" }
}

fn features() -> Vec<&'static str> {
    #[allow(unused_mut, reason = "only x86-64 pushes")]
    let mut all = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! push {
            ($($name:tt),*) => { $( if std::arch::is_x86_feature_detected!($name) { all.push($name); } )* };
        }
        push!("sse4.2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512dq");
        push!("avx512vnni", "avx512bf16");
    }
    if all.is_empty() { vec!["none known"] } else { all }
}

/// What makes this machine slower than it could be.
fn warnings(cpu: &Cpu, isa: Isa) -> Vec<String> {
    let mut all = Vec::new();
    if cfg!(debug_assertions) {
        all.push("a debug build checks every step: cargo build --release is several times faster".into());
    }
    if cpu.granted < cpu.present {
        all.push(format!("this process may use {} of {} cores", cpu.granted, cpu.present));
    }
    let best = Isa::detect();
    if isa != best {
        all.push(format!("LONGHAND_ISA lowers the kernels from {best} to {isa}"));
    }
    if let Ok(asked) = std::env::var("LONGHAND_ISA")
        && !asked.is_empty()
        && asked != isa.to_string()
    {
        all.push(format!("LONGHAND_ISA={asked} has no effect: this CPU's best is {best}"));
    }
    if best == Isa::PORTABLE || best == Isa::SCALAR {
        all.push("no kernels of this CPU's own: the portable ones are slower".into());
    }
    all
}

/// Fifty steps of a small model on a sequence made by arithmetic; the hash of its weights.
fn fifty_steps(ctx: &Ctx) -> Result<u64, Failure> {
    const VOCABULARY: u32 = 61;
    let ids = (0..4000u32).map(|i| (i * i + i / 7) % VOCABULARY).collect();
    let mut config = Config::new(Arch::Gpt1, VOCABULARY as usize, 40);
    (config.n_layer, config.n_embd, config.n_head) = (2, 48, 3);
    let options = OptimOptions {
        min_lr: 2e-4,
        warmup_iters: 5,
        lr_decay_iters: 50,
        schedule: Schedule::Cosine,
        beta2: 0.99,
        ..OptimOptions::constant(2e-3)
    };
    let mut trainer = Trainer::new(ctx.clone(), Gpt::new(&config)?, options, 7)?;
    let mut rows = Windows::new(Tokens::from_ids(ids), 40, 7)?;
    let mut batch = vec![Batch::new()];
    for step in 0..50 {
        rows.draw(step, 4, 0..4, &mut batch[0]);
        trainer.step(&batch)?;
    }
    Ok(snapshot::hash(trainer.params()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fused_isa_has_the_published_hash() {
        for isa in Isa::available().into_iter().filter(|i| i.fused()) {
            let hash = fifty_steps(&Ctx::new(isa).with_threads(1)).unwrap();
            assert_eq!(format!("{hash:016x}"), PUBLISHED, "{isa}");
        }
    }
}
