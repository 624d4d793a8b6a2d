//! Runs a case whenever it is told to: so two builds of the same code can run in turn, each in its own process.
//!
//! ```text
//! turns --list         the names of the cases
//! turns THREADS        reads the name of a case a line, runs one turn of it, answers with the seconds of a call
//! ```
//!
//! A case is built when its name is first read, and dropped when another one is.

use longhand_measure::sampling::Turns;
use longhand_measure::{cases, pool};
use longhand_tensor::{Ctx, parallel};
use std::io::{BufRead, Write, stdin, stdout};

fn main() {
    let cases = cases::all();
    let of_kernels = |name: &str| !name.starts_with("attention_naive") && !name.starts_with("train_step");
    let arg = std::env::args().nth(1).unwrap_or_default();
    if arg == "--list" {
        cases.iter().filter(|c| of_kernels(&c.name)).for_each(|c| println!("{}", c.name));
        return;
    }
    let Some(threads) = arg.parse().ok().filter(|threads| *threads > 0) else {
        eprintln!("turns --list, or turns THREADS");
        std::process::exit(2);
    };
    pool(threads).install(|| {
        let ctx = Ctx::default();
        let mut lines = stdin().lock().lines().map_while(Result::ok).peekable();
        while let Some(name) = lines.next() {
            let case = cases.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("{name}: no such case"));
            let mut run = (case.build)();
            // As inside a step: the pool's threads are awake when a kernel begins.
            let mut turns = Turns::new(|| parallel::enter(&ctx, || run(&ctx)));
            loop {
                println!("{:e}", turns.next_turn());
                stdout().flush().expect("somebody reads");
                if lines.next_if(|next| *next == name).is_none() {
                    break;
                }
            }
        }
    });
}
