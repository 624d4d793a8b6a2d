//! Shared helpers of the whole-system tests.

pub mod asm;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the workspace.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the workspace").to_path_buf()
}

/// Runs cargo with `args` at the root of the workspace and returns what it printed.
/// # Errors
/// The command and its standard error, when it fails or cannot be started.
pub fn cargo(args: &[&str]) -> Result<String, String> {
    run("cargo", args, Command::new(cargo_program()).args(args))
}

/// As `cargo`, as a plain build has it: no flags from the environment, no link-time optimisation.
/// # Errors
/// As `cargo`.
pub fn cargo_plain(args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(cargo_program());
    command.args(args).env("CARGO_PROFILE_RELEASE_LTO", "off");
    for flags in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_TARGET_DIR"] {
        command.env_remove(flags);
    }
    run("cargo", args, &mut command)
}

/// Runs the compiler that belongs to `cargo`.
/// # Errors
/// As `cargo`.
pub fn rustc_plain(args: &[&str]) -> Result<String, String> {
    let beside = Path::new(&cargo_program()).with_file_name("rustc");
    let program = if beside.exists() { beside.into_os_string() } else { "rustc".into() };
    run("rustc", args, Command::new(program).args(args))
}

fn cargo_program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn run(name: &str, args: &[&str], command: &mut Command) -> Result<String, String> {
    let line = format!("{name} {}", args.join(" "));
    let out = command.current_dir(workspace_root()).output();
    let out = out.map_err(|e| format!("`{line}` cannot be started: {e}"))?;
    if out.status.success() {
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    } else {
        Err(format!("`{line}` failed ({}):\n{}", out.status, String::from_utf8_lossy(&out.stderr)))
    }
}

/// As `cargo`, without the network where everything needed has been downloaded, else with it.
/// Panics, naming both attempts, when neither works.
pub fn cargo_offline_first(args: &[&str]) -> String {
    let (command, rest) = args.split_first().expect("a cargo command");
    let offline: Vec<&str> = [&[*command, "--offline"], rest].concat();
    cargo(&offline).or_else(|first| cargo(args).map_err(|second| format!("{first}\n{second}"))).unwrap_or_else(|e| {
        panic!("neither the downloaded crates nor the network answer; run `cargo fetch --locked` once\n{e}")
    })
}
