//! The folder of a run: a fresh one by default, a used one only when asked for, and one process at a time.
//!
//! ```text
//! runs/NAME/run.json       marks the folder as a run
//! runs/NAME/lock           the process id of its owner, locked while it runs
//! runs/NAME/checkpoints/   see `checkpoint`
//! runs/NAME/best/          the checkpoint with the lowest held-out loss, of a run that stops early
//! ```

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::fs::sync_folder;
pub use crate::fs::write_atomic;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The folder of runs that were given no folder.
pub const RUNS: &str = "runs";

const MARKER: &str = "run.json";
/// The marker of a run that has no settings yet.
const BEGUN: &[u8] = b"{\n  \"format\": \"longhand-run\",\n  \"version\": 1\n}\n";
const LOCK: &str = "lock";
const CHECKPOINTS: &str = "checkpoints";
const BEST: &str = "best";

/// What to do with a folder that holds a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Say what is in it and stop.
    Refuse,
    /// Go on with it.
    Resume,
    /// Remove what the run wrote and begin anew.
    Overwrite,
}

/// A run's folder, locked until this value is dropped.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Held for its lock, which the system releases when the process ends, however it ends.
    _lock: File,
}

impl RunDir {
    /// Creates `root/NAME`, or the first of `root/NAME-2`, `root/NAME-3`, … that does not exist. Characters of the
    /// name that do not belong in a file's become `-`.
    ///
    /// # Errors
    /// `Io`.
    pub fn fresh(root: impl AsRef<Path>, name: &str) -> Result<RunDir> {
        let root = root.as_ref();
        fs::create_dir_all(root).map_err(Error::io(root))?;
        let name = plain_name(name);
        for n in 1u64.. {
            let path = root.join(if n == 1 { name.clone() } else { format!("{name}-{n}") });
            match fs::create_dir(&path) {
                Ok(()) => return RunDir::begin(path),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => (),
                Err(e) => return Err(Error::Io { path, source: e }),
            }
        }
        Err(Error::Folder { path: root.into(), problem: "no name is free".into() })
    }

    /// Opens a folder that was named: a new or empty one, or a run's as `existing` says.
    ///
    /// # Errors
    /// `Folder` saying what is in it and what can be done, or who uses it; `Io`.
    pub fn named(path: impl AsRef<Path>, existing: Existing) -> Result<RunDir> {
        let path = path.as_ref().to_path_buf();
        let refuse = |problem: String| Err(Error::Folder { path: path.clone(), problem });
        match fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if existing == Existing::Resume {
                    return refuse("there is no run to resume: the folder does not exist".into());
                }
                fs::create_dir_all(&path).map_err(Error::io(&path))?;
            }
            Err(e) => return Err(Error::Io { path, source: e }),
            Ok(meta) if meta.is_file() => return refuse("is a file, not a folder".into()),
            Ok(meta) if !meta.is_dir() => return refuse("is a pipe or a device, not a folder".into()),
            Ok(_) => (),
        }
        let others = other_names(&path)?;
        if path.join(MARKER).is_file() {
            match existing {
                Existing::Refuse if fs::read(path.join(MARKER)).is_ok_and(|mark| mark == BEGUN) => {
                    return refuse("holds a run that ended before its first step; --overwrite begins it again".into());
                }
                Existing::Refuse => {
                    let what = describe(&path);
                    return refuse(format!("holds {what}; --resume goes on with it, --overwrite replaces it"));
                }
                Existing::Resume => return Ok(RunDir { _lock: lock(&path)?, path }),
                Existing::Overwrite => {
                    let lock = lock(&path)?;
                    // At no moment is the folder without its mark: killed, it can be overwritten again.
                    write_atomic(&path.join(MARKER), BEGUN)?;
                    remove_run(&path, &others)?;
                    return RunDir::mark(path, lock);
                }
            }
        }
        if existing == Existing::Resume {
            return refuse("there is no run to resume".into());
        }
        if !others.is_empty() {
            let some = others.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
            let more = if others.len() > 3 { ", …" } else { "" };
            return refuse(format!(
                "holds {} files that are no run ({some}{more}); choose another folder",
                others.len()
            ));
        }
        RunDir::begin(path)
    }

    fn begin(path: PathBuf) -> Result<RunDir> {
        let lock = lock(&path)?;
        RunDir::mark(path, lock)
    }

    fn mark(path: PathBuf, lock: File) -> Result<RunDir> {
        write_atomic(&path.join(MARKER), BEGUN)?;
        let checkpoints = path.join(CHECKPOINTS);
        fs::create_dir_all(&checkpoints).map_err(Error::io(&checkpoints))?;
        sync_folder(&path)?;
        Ok(RunDir { path, _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file in it, whole or not at all.
    ///
    /// # Errors
    /// `Io`.
    pub fn write(&self, name: &str, contents: &[u8]) -> Result<()> {
        write_atomic(&self.file(name), contents)
    }

    /// The folder of its checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }
}

/// The folder of a run's checkpoints, for a run that only is read.
pub fn checkpoints_of(run: impl AsRef<Path>) -> PathBuf {
    run.as_ref().join(CHECKPOINTS)
}

/// The folder of the best checkpoint of a run that stops early; there is none of others.
pub fn best_of(run: impl AsRef<Path>) -> PathBuf {
    run.as_ref().join(BEST)
}

/// Whether a folder is a run's.
pub fn is_run(path: impl AsRef<Path>) -> bool {
    path.as_ref().join(MARKER).is_file()
}

/// The run of `root` whose latest checkpoint is the newest.
///
/// # Errors
/// `Folder` when no run there has a checkpoint; `Io`.
pub fn newest(root: impl AsRef<Path>) -> Result<PathBuf> {
    newest_of(root, |_| true, "no run here has a checkpoint; train one first")
}

/// As `newest`, among the runs whose newest checkpoint suits; `problem` says that there is none.
///
/// # Errors
/// `Folder` with `problem`; `Io`.
pub fn newest_of(root: impl AsRef<Path>, suits: impl Fn(&Path) -> bool, problem: &str) -> Result<PathBuf> {
    let root = root.as_ref();
    let none = || Error::Folder { path: root.into(), problem: problem.into() };
    let entries = match fs::read_dir(root) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(none()),
        entries => entries.map_err(Error::io(root))?,
    };
    let mut best: Option<(SystemTime, PathBuf)> = None;
    for entry in entries {
        let path = entry.map_err(Error::io(root))?.path();
        let checkpoints = path.join(CHECKPOINTS);
        let suited = || checkpoint::newest(&checkpoints).is_ok_and(|c| c.is_some_and(|c| suits(&c)));
        if !is_run(&path) || !suited() {
            continue;
        }
        // The folder changes when a checkpoint is renamed into it.
        let Ok(time) = fs::metadata(&checkpoints).and_then(|m| m.modified()) else { continue };
        if best.as_ref().is_none_or(|b| (time, &path) > (b.0, &b.1)) {
            best = Some((time, path));
        }
    }
    best.map(|(_, path)| path).ok_or_else(none)
}

/// A file name for a run of this text or model.
fn plain_name(name: &str) -> String {
    let keep = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(keep).take(64).collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { "run".into() } else { name.into() }
}

/// The names in a folder, but for the lock, a marker that was never finished, and the marks of a probe.
fn other_names(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::io(path))? {
        let name = entry.map_err(Error::io(path))?.file_name().to_string_lossy().into_owned();
        if name != LOCK && name.strip_suffix(".tmp") != Some(MARKER) && !name.starts_with(".probe") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// What a run has reached, in words.
fn describe(path: &Path) -> String {
    match checkpoint::steps(path.join(CHECKPOINTS)).unwrap_or_default().as_slice() {
        [] => "a run without a checkpoint".into(),
        [step] => format!("a run with a checkpoint of step {step}"),
        [newest, ..] => format!("a run with checkpoints up to step {newest}"),
    }
}

/// Removes what a run writes, but for its marker. What a person put into the folder stays.
fn remove_run(path: &Path, names: &[String]) -> Result<()> {
    const WRITTEN: &[&str] = &[
        "config.json",
        "generation_config.json",
        "loss.svg",
        "metrics.jsonl",
        "model.safetensors",
        "sample.txt",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "train.tokens",
        "validation.tokens",
    ];
    for folder in [CHECKPOINTS, BEST] {
        let folder = path.join(folder);
        if folder.is_dir() {
            fs::remove_dir_all(&folder).map_err(Error::io(&folder))?;
        }
    }
    for name in names.iter().filter(|n| WRITTEN.contains(&n.trim_end_matches(".tmp"))) {
        let file = path.join(name);
        fs::remove_file(&file).map_err(Error::io(&file))?;
    }
    Ok(())
}

/// Locks a folder for this process. The system drops the lock with the process, so one that died leaves none behind.
fn lock(path: &Path) -> Result<File> {
    let file = path.join(LOCK);
    let mut lock =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file).map_err(Error::io(&file))?;
    match lock.try_lock() {
        Ok(()) => (),
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            let _ = lock.take(32).read_to_string(&mut owner);
            let owner: String = owner.chars().filter(char::is_ascii_digit).collect();
            let who = if owner.is_empty() { "another process".into() } else { format!("process {owner}") };
            let problem = format!("is in use by {who}: wait for it, or choose another folder");
            return Err(Error::Folder { path: path.into(), problem });
        }
        // A file system without locks: the run goes on unguarded.
        Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => (),
        Err(TryLockError::Error(source)) => return Err(Error::Io { path: file, source }),
    }
    let written = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
    written.map_err(Error::io(&file))?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Contents, save};
    use crate::fs::TestDir;
    use serde_json::Value;

    fn save_step(run: &RunDir, step: u64) {
        let nothing = Value::Null;
        let contents = Contents {
            model: &[],
            optimizer: &[],
            config: &nothing,
            trainer: &nothing,
            seed: 0,
            fused: true,
            files: &[],
        };
        save(run.checkpoints(), step, &contents).unwrap();
    }

    fn line(path: &Path, existing: Existing) -> String {
        let line = RunDir::named(path, existing).unwrap_err().to_string();
        line.strip_prefix(&path.display().to_string()).unwrap_or(&line).to_string()
    }

    #[test]
    fn unnamed_runs_never_meet() {
        let dir = TestDir::new("runs");
        let names: Vec<String> = (0..3)
            .map(|_| RunDir::fresh(dir.path().join("runs"), "my text!").unwrap().path().display().to_string())
            .collect();
        let base = dir.path().join("runs/my-text-").display().to_string();
        assert_eq!(names, [base.clone(), format!("{base}-2"), format!("{base}-3")]);
        assert_eq!(plain_name("../x"), "x");
        assert_eq!(plain_name("…"), "run");
    }

    #[test]
    fn a_used_folder_says_what_it_holds() {
        let dir = TestDir::new("used");
        let path = dir.path().join("run");
        assert_eq!(line(&path, Existing::Resume), ": there is no run to resume: the folder does not exist");
        let run = RunDir::named(&path, Existing::Refuse).unwrap();
        let begun = ": holds a run that ended before its first step; --overwrite begins it again";
        assert_eq!(line(&path, Existing::Refuse), begun);
        run.write(MARKER, b"{\"args\": []}").unwrap();
        drop(run);
        let end = "; --resume goes on with it, --overwrite replaces it";
        assert_eq!(line(&path, Existing::Refuse), format!(": holds a run without a checkpoint{end}"));
        let run = RunDir::named(&path, Existing::Resume).unwrap();
        save_step(&run, 7);
        drop(run);
        assert_eq!(line(&path, Existing::Refuse), format!(": holds a run with a checkpoint of step 7{end}"));
        let run = RunDir::named(&path, Existing::Resume).unwrap();
        save_step(&run, 9);
        drop(run);
        assert_eq!(line(&path, Existing::Refuse), format!(": holds a run with checkpoints up to step 9{end}"));
        fs::write(path.join("metrics.jsonl"), "{}").unwrap();
        fs::write(path.join("my notes.md"), "keep").unwrap();
        let run = RunDir::named(&path, Existing::Overwrite).unwrap();
        assert!(checkpoint::steps(run.checkpoints()).unwrap().is_empty());
        assert!(!run.file("metrics.jsonl").exists() && run.file("my notes.md").exists());
    }

    #[test]
    fn a_run_that_is_replaced_never_loses_its_mark() {
        let dir = TestDir::new("mark");
        let path = dir.path().join("run");
        save_step(&RunDir::named(&path, Existing::Refuse).unwrap(), 7);
        for name in ["train.tokens.tmp", "validation.tokens.tmp", "metrics.jsonl"] {
            fs::write(path.join(name), "x").unwrap();
        }
        fs::write(path.join("notes.md"), "keep").unwrap();
        // What stops the new mark from being written stops the rest.
        let blocked = path.join("run.json.tmp");
        fs::create_dir(&blocked).unwrap();
        RunDir::named(&path, Existing::Overwrite).unwrap_err();
        assert!(is_run(&path) && path.join("metrics.jsonl").exists());
        assert_eq!(checkpoint::steps(path.join(CHECKPOINTS)).unwrap(), [7]);
        fs::remove_dir(&blocked).unwrap();
        RunDir::named(&path, Existing::Overwrite).unwrap();
        let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [CHECKPOINTS, LOCK, "notes.md", MARKER]);
    }

    #[test]
    fn a_folder_whose_mark_was_never_finished_is_an_empty_one() {
        let dir = TestDir::new("half-mark");
        dir.write("run/run.json.tmp", "{");
        dir.write("run/lock", "1\n");
        let run = RunDir::named(dir.path().join("run"), Existing::Refuse).unwrap();
        run.write("run.json", b"{}").unwrap();
        assert!(is_run(run.path()) && !run.file("run.json.tmp").exists());
    }

    #[test]
    fn what_is_no_run_is_never_touched() {
        let dir = TestDir::new("foreign-folder");
        for name in ["a.txt", "b", "c", "d"] {
            dir.write(name, "x");
        }
        for existing in [Existing::Refuse, Existing::Overwrite] {
            assert_eq!(
                line(dir.path(), existing),
                ": holds 4 files that are no run (a.txt, b, c, …); choose another folder"
            );
        }
        assert_eq!(line(dir.path(), Existing::Resume), ": there is no run to resume");
        assert_eq!(line(&dir.path().join("b"), Existing::Overwrite), ": is a file, not a folder");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
        #[cfg(target_os = "linux")]
        assert_eq!(line(Path::new("/dev/full"), Existing::Overwrite), ": is a pipe or a device, not a folder");
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = TestDir::new("lock");
        let path = dir.path().join("run");
        let run = RunDir::named(&path, Existing::Refuse).unwrap();
        for existing in [Existing::Resume, Existing::Overwrite] {
            let pid = std::process::id();
            let expected = format!(": is in use by process {pid}: wait for it, or choose another folder");
            assert_eq!(line(&path, existing), expected);
        }
        drop(run);
        // The file of a process that died is no lock.
        fs::write(path.join(LOCK), "999999999\n").unwrap();
        RunDir::named(&path, Existing::Resume).unwrap();
        assert_eq!(fs::read_to_string(path.join(LOCK)).unwrap(), format!("{}\n", std::process::id()));
    }

    #[test]
    fn the_newest_run_is_that_of_the_newest_checkpoint() {
        let dir = TestDir::new("newest-run");
        let root = dir.path().join("runs");
        assert!(
            newest(&root).unwrap_err().to_string().ends_with("runs: no run here has a checkpoint; train one first")
        );
        let a = RunDir::fresh(&root, "a").unwrap();
        let b = RunDir::fresh(&root, "b").unwrap();
        let _empty = RunDir::fresh(&root, "z").unwrap();
        assert!(newest(&root).is_err());
        save_step(&b, 1);
        std::thread::sleep(std::time::Duration::from_millis(20));
        save_step(&a, 1);
        assert_eq!(newest(&root).unwrap(), a.path());
        std::thread::sleep(std::time::Duration::from_millis(20));
        save_step(&b, 2);
        assert_eq!(newest(&root).unwrap(), b.path());
        assert!(is_run(b.path()) && !is_run(&root));
        assert_eq!(checkpoints_of(b.path()), b.checkpoints());
    }
}
