//! Runs the built binary in a folder of the test's own.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A folder that is removed at the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("longhand-cli-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), contents).unwrap();
    }

    /// A file in a folder that is made if need be.
    pub fn write_in(&self, folder: &str, name: &str, contents: &str) {
        fs::create_dir_all(self.0.join(folder)).unwrap();
        fs::write(self.0.join(folder).join(name), contents).unwrap();
    }

    /// A text of a few kilobytes with something to learn, as `t.txt`.
    pub fn text(&self) {
        let mut text = String::new();
        for i in 0..200u32 {
            let (a, b) = (["cat", "dog", "bird"][i as usize % 3], ["sat", "ran"][(i / 3) as usize % 2]);
            text.push_str(&format!("The {a} {b} {} times.\n", i * 7 % 10));
        }
        self.write("t.txt", text);
    }

    /// The binary with these words, in the folder.
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhand"));
        command.current_dir(&self.0).args(words.split_whitespace()).stdin(Stdio::null());
        command
    }

    pub fn run(&self, words: &str) -> Done {
        Done::of(self.command(words).output().unwrap())
    }

    /// As `run`, with arguments that hold blanks.
    pub fn run_args(&self, args: &[&str]) -> Done {
        Done::of(self.command("").args(args).output().unwrap())
    }

    pub fn spawn(&self, words: &str) -> Child {
        self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Flags of a run of a second on `t.txt`.
    pub fn tiny(&self, more: &str) -> String {
        format!(
            "train t.txt --tokenizer bytes --n-layer 1 --n-head 2 --n-embd 16 --block-size 16 --batch-size 4 \
             --eval-iters 2 {more}"
        )
    }

    /// Every file below `name`, with its contents.
    pub fn snapshot(&self, name: &str) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(path: &Path, all: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in fs::read_dir(path).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, all);
                } else if path.file_name().is_none_or(|n| n != "lock") {
                    all.push((path.clone(), fs::read(&path).unwrap()));
                }
            }
        }
        let mut all = Vec::new();
        walk(&self.0.join(name), &mut all);
        all.sort();
        all
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a command left.
#[derive(Debug)]
pub struct Done {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    pub fn of(output: Output) -> Done {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The standard output of a command that went well.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.status, Some(0), "{self:?}");
        self.out
    }

    /// The one line of a command that was refused, without the program's name.
    #[track_caller]
    pub fn refused(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{self:?}");
        let lines: Vec<&str> = self.err.lines().collect();
        assert_eq!(lines.len(), 1, "{self:?}");
        lines[0].strip_prefix("longhand: ").unwrap_or_else(|| panic!("{self:?}")).to_string()
    }
}

/// The 16 digits that a run ends with.
#[track_caller]
pub fn weights(out: &str) -> String {
    let line = out.lines().find_map(|l| l.strip_prefix("weights ")).unwrap_or_else(|| panic!("no hash: {out}"));
    let hash = line.split_whitespace().next().unwrap().to_string();
    assert!(hash.len() == 16 && hash.chars().all(|c| c.is_ascii_hexdigit()), "{hash}");
    hash
}
