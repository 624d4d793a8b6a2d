//! A program that holds a model: ids in, ids out, without autograd and without tokenizers.
//!
//! `cargo run --release -p longhand-gpt --no-default-features --features threads --example embed -- FOLDER 464 3290`

use longhand_gpt::generate::{Session, check_prompt};
use longhand_gpt::mmap::Access;
use longhand_gpt::sampling::{Sampler, Sampling};
use longhand_gpt::snapshot::open_body_packed;
use longhand_tensor::Ctx;
use longhand_tensor::exec::Weights;
use longhand_tensor::matmul::WeightType;
use std::error::Error;

fn run() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("embed FOLDER ID …: a model's folder, and the ids of a prompt")?;
    let mut ids = args.map(|id| id.parse()).collect::<Result<Vec<u32>, _>>()?;

    let ctx = Ctx::default();
    let body = open_body_packed(&ctx, &folder, Access::Map, WeightType::F32)?;
    check_prompt(body.model.config(), &ids)?;
    let mut session = Session::new(&ctx, &body.model, Weights::Packed(&body.params), 1)?;
    let mut sampler = Sampler::new(Sampling { seed: 1, ..Sampling::default() })?;

    let (mut read, most) = (0, body.model.config().n_positions.min(ids.len() + 64));
    while ids.len() < most {
        let logits = session.feed(&[(0, &ids[read..])])?;
        read = ids.len();
        ids.push(sampler.sample(logits, 0, read)?);
        print!("{} ", ids[read]);
    }
    println!();
    Ok(())
}

fn main() {
    if let Err(e) = run() {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
