//! The `longhand` binary: arguments, progress and the places of files; all else is in the libraries.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod failure;
mod limits;
mod machine;
mod metrics;
mod plot;
mod pool;
mod progress;
mod report;
mod rows;
mod signals;
mod tables;

use args::{Command, Refused};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(Refused::Shown(text)) => {
            progress::print_line(text.trim_end());
            return ended(0);
        }
        Err(Refused::Usage(line)) => {
            progress::note(&line);
            return ExitCode::from(2);
        }
    };
    let done = match cli.command {
        Command::Demo(args) => commands::demo::run(&args),
        Command::Train(args) => commands::train::run(&args),
        Command::Generate(args) => commands::generate::run(&args),
        Command::Score(args) => commands::score::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Convert(args) => commands::convert::run(&args),
        Command::Finetune(args) => commands::finetune::run(&args),
        Command::Evaluate(args) => commands::evaluate::run(&args),
        Command::Predict(args) => commands::predict::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Gradcheck(args) => commands::gradcheck::run(&args),
        Command::Roofline(args) => commands::roofline::run(&args),
        Command::Bench { what } => commands::bench::run(&what),
    };
    match done {
        Ok(status) => ended(status),
        Err(failure) => {
            progress::note(&failure.line);
            ExitCode::from(failure.status)
        }
    }
}

/// The exit of a command that ended well: a failure if standard output refused a line.
fn ended(status: u8) -> ExitCode {
    let lost = progress::lost_output();
    if let Some(problem) = lost {
        progress::note(&format!("standard output: {problem}"));
    }
    if lost.is_some() && status == 0 { ExitCode::FAILURE } else { ExitCode::from(status) }
}
