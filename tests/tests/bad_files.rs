//! Every folder of `bad_files/cases/` has the line that `bad_files/expected.tsv` gives it: no panic, at most 64 MiB held
//! and a second taken, whichever way its files are read.

use longhand_gpt::mmap::Access;
use longhand_gpt::snapshot;
use longhand_tensor::Ctx;
use longhand_tensor::matmul::WeightType;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The most bytes that opening a folder may hold at a time beside what was held before.
const MEMORY: usize = 64 << 20;
const TIME: Duration = Duration::from_secs(1);
/// A machine that does other things beside this is slow at times, but not each time.
const TRIES: usize = 3;
/// Fewer cases than these were not found rather than removed.
const CASES: usize = 200;

/// The system's allocator; knows how much is held, and the most that was.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's, as it is; `alloc_zeroed` and `realloc` of the trait come to `alloc` and are counted there.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::SeqCst) + layout.size();
        PEAK.fetch_max(held, Ordering::SeqCst);
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: every pointer came from the system, with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// The most bytes that `work` holds at a time, and what it gives.
fn peak<R>(work: impl FnOnce() -> R) -> (usize, R) {
    let before = HELD.load(Ordering::SeqCst);
    PEAK.store(before, Ordering::SeqCst);
    let result = work();
    (PEAK.load(Ordering::SeqCst) - before, result)
}

/// A folder of this test's own, removed at its end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The names in a folder, in ascending order.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries.map(|entry| entry.expect("an entry").file_name().to_str().expect("a plain name").to_string()).collect()
}

/// Puts the files of `base` into the folder, and over them those of `case`, whose `NAME.absent` take one away.
fn lay(folder: &Path, base: &Path, case: Option<&Path>) {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).expect("a folder");
    let files: Vec<PathBuf> =
        [Some(base), case].into_iter().flatten().flat_map(|f| names(f).into_iter().map(|n| f.join(n))).collect();
    for file in files {
        let name = file.file_name().and_then(|n| n.to_str()).expect("a plain name");
        match name.strip_suffix(".absent") {
            Some(name) => fs::remove_file(folder.join(name)).unwrap_or_else(|e| panic!("{}: {e}", file.display())),
            None => _ = fs::copy(&file, folder.join(name)).expect("a copy"),
        }
    }
}

/// Weights as they are trained, or packed for generation on so many threads.
#[derive(Clone, Copy, Debug)]
enum Way {
    Plain,
    Packed(usize),
}

/// What opening says, with the folder's own path left out.
fn opened(folder: &Path, access: Access, way: Way) -> String {
    let open = || match way {
        Way::Plain => snapshot::open(folder, access).map(|_| ()),
        Way::Packed(threads) => {
            let ctx = Ctx::default().with_threads(threads);
            snapshot::open_packed(&ctx, folder, access, WeightType::F32).map(|_| ())
        }
    };
    let line = match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(())) => "it opens".to_string(),
        Ok(Err(e)) => e.to_string(),
        Err(_) => "it panics".to_string(),
    };
    let path = folder.display().to_string();
    line.replace(&format!("{path}/"), "").replace(&path, "FOLDER")
}

/// What is wrong with a folder's answer: another line than this, or too much memory or time for it.
fn wrong(folder: &Path, access: Access, way: Way, expected: &str) -> Option<String> {
    let mut fastest = Duration::MAX;
    for _ in 0..TRIES {
        let start = Instant::now();
        let (held, line) = peak(|| opened(folder, access, way));
        fastest = fastest.min(start.elapsed());
        if line != expected {
            return Some(line);
        }
        if line.chars().any(char::is_control) {
            return Some(format!("has control characters: {line:?}"));
        }
        if held > MEMORY {
            return Some(format!("holds {held} bytes"));
        }
        if fastest <= TIME {
            return None;
        }
    }
    Some(format!("takes {fastest:?}"))
}

#[test]
fn every_bad_file_has_its_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("bad_files");
    let scratch = Scratch(std::env::temp_dir().join(format!("longhand-bad-files-{}", std::process::id())));
    let folder = scratch.0.join("folder");
    assert!(peak(|| std::hint::black_box(vec![0u8; 1 << 20])).0 >= 1 << 20, "the count counts");

    let table = fs::read_to_string(root.join("expected.tsv")).expect("the table of lines");
    let rows: Vec<(&str, &str)> =
        table.lines().map(|row| row.split_once('\t').unwrap_or_else(|| panic!("no tab: {row}"))).collect();
    let expected: BTreeMap<&str, &str> = rows.iter().copied().collect();
    assert_eq!(expected.len(), rows.len(), "a case stands twice in the table");
    let bases = names(&root.join("good"));
    assert_eq!(names(&root.join("cases")), bases, "cases are sorted by the folder that they are made of");
    let cases: BTreeSet<String> = bases
        .iter()
        .flat_map(|base| names(&root.join("cases").join(base)).into_iter().map(move |case| format!("{base}/{case}")))
        .collect();
    assert!(cases.len() >= CASES, "{} cases", cases.len());

    let mut problems = Vec::new();
    let ways = [Way::Plain, Way::Packed(1), Way::Packed(2)].map(|way| [(Access::Map, way), (Access::Read, way)]);
    for (access, way) in ways.into_iter().flatten() {
        for base in &bases {
            lay(&folder, &root.join("good").join(base), None);
            problems
                .extend(wrong(&folder, access, way, "it opens").map(|line| format!("good {base}, {way:?}\t{line}")));
        }
        for case in &cases {
            let (base, _) = case.split_once('/').expect("base and case");
            lay(&folder, &root.join("good").join(base), Some(&root.join("cases").join(case)));
            let line = expected.get(case.as_str()).copied().unwrap_or("has no line in the table");
            problems.extend(wrong(&folder, access, way, line).map(|line| format!("{case}, {way:?}\t{line}")));
        }
    }
    let gone = expected.keys().filter(|case| !cases.contains(**case));
    problems.extend(gone.map(|case| format!("{case}\tis in the table, and no folder")));
    assert!(problems.is_empty(), "{} wrong:\n{}", problems.len(), problems.join("\n"));
}
