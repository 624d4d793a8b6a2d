//! The rows of a task from the command line: which layout, which columns, what is asked.

use crate::args::RowArgs;
use crate::failure::Failure;
use crate::progress::note;
use longhand_gpt::finetune::data::{self, Columns, Format, Labelled, Spec};
use longhand_gpt::finetune::examples::{Examples, TaskKind};
use longhand_gpt::finetune::spec::TaskSpec;
use longhand_gpt::world::World;
use longhand_gpt::world::tasks::{Part, WorldTask};
use std::path::Path;

/// The layout that was named, else that of the file's name; JSONL for standard input.
///
/// # Errors
/// An unknown name.
pub fn format(args: &RowArgs, path: &Path) -> Result<Format, Failure> {
    let names = || Format::ALL.iter().map(|f| f.name()).collect::<Vec<_>>().join(", ");
    match &args.format {
        Some(name) => Format::from_name(name)
            .ok_or_else(|| Failure::usage(format!("format = {name}: is not known; one of {}", names()))),
        None if path == Path::new("-") => Ok(Format::Jsonl),
        None => Format::from_path(path).ok_or_else(|| {
            Failure::usage(format!(
                "{}: no layout goes by this name; --format names one of {}",
                path.display(),
                names()
            ))
        }),
    }
}

/// The seed of the embedded tasks: their rows are the same for every net.
pub const WORLD_SEED: u64 = 1;
/// Test rows of an embedded task.
pub const WORLD_TEST: u64 = 2000;

/// The embedded task that was asked for.
fn of_world(args: &RowArgs) -> Option<WorldTask> {
    args.world.as_deref().and_then(WorldTask::from_name)
}

fn named(path: Option<&Path>) -> Result<&Path, Failure> {
    path.ok_or_else(|| Failure::usage("name a file of rows, - for standard input, or --world TASK"))
}

/// Rows to train on: their classes are collected. Without a task they are asked what their layout usually is.
///
/// # Errors
/// What reading says.
pub fn to_train(
    path: Option<&Path>,
    args: &RowArgs,
    task: Option<&str>,
    scores: bool,
    world_rows: u64,
) -> Result<Examples, Failure> {
    if let Some(world) = of_world(args) {
        if world_rows > WorldTask::MOST {
            let limit = format!("an embedded task has {} at most", WorldTask::MOST);
            return Err(Failure::usage(format!("max_rows = {world_rows}: {limit}")));
        }
        return Ok(world.examples(&World::full(), WORLD_SEED, Part::Train, world_rows));
    }
    let path = named(path)?;
    let format = format(args, path)?;
    let kind = task.and_then(TaskKind::from_name).unwrap_or(format.kind());
    read(path, args, Spec { scores, ..Spec::new(kind, format) })
}

/// Rows beside those that are trained on: of the same task and classes.
///
/// # Errors
/// What reading says; a class that the others do not have.
pub fn beside(
    path: &Path,
    args: &RowArgs,
    others: &Examples,
    labels: &[String],
    scores: bool,
) -> Result<Examples, Failure> {
    let labels = (!labels.is_empty()).then_some(labels);
    let format = format(args, path)?;
    read(path, args, Spec { labels, scores, ..Spec::new(others.kind, format) })
}

/// Rows that a net is asked about.
///
/// # Errors
/// What reading says: a layout of another task, a class that the net does not know.
pub fn for_net(path: Option<&Path>, args: &RowArgs, spec: &TaskSpec, labelled: Labelled) -> Result<Examples, Failure> {
    if let Some(world) = of_world(args) {
        let examples = world.examples(&World::full(), WORLD_SEED, Part::Test, WORLD_TEST);
        if examples.kind != spec.kind || (spec.has_classes() && examples.labels != spec.labels) {
            let (name, kind) = (world.name(), spec.kind.name());
            let own = spec.labels.join(", ");
            let problem = format!("world = {name}: the net was tuned for another task, {kind} ({own})");
            return Err(Failure::usage(problem));
        }
        return Ok(examples);
    }
    let path = named(path)?;
    let labels = spec.has_classes().then_some(&spec.labels[..]);
    let format = format(args, path)?;
    read(path, args, Spec { labels, labelled, scores: spec.scores.is_some(), ..Spec::new(spec.kind, format) })
}

fn read(path: &Path, args: &RowArgs, spec: Spec<'_>) -> Result<Examples, Failure> {
    let columns = Columns {
        text: args.text.clone(),
        text_b: args.text_b.clone(),
        label: args.label.clone(),
        choices: args.choices.clone(),
    };
    let examples = data::read(path, &Spec { columns, skip_bad_rows: args.skip_bad_rows, ..spec })?;
    if examples.skipped > 0 {
        note(&format!("{}: {} bad rows left out", path.display(), examples.skipped));
    }
    Ok(examples)
}

/// `given` where it says something, elsewhere `usual`, that of the rows trained on; another layout has other columns.
/// A file whose name ends as that of those rows has their layout.
pub fn over(given: &RowArgs, path: Option<&Path>, usual: &RowArgs, trained_on: Option<&Path>) -> RowArgs {
    let end = |path: Option<&Path>| path.and_then(|p| Some(p.extension()?.to_ascii_lowercase()));
    let alike = end(path).is_some() && end(path) == end(trained_on);
    let format = given.format.clone().or_else(|| usual.format.clone().filter(|_| alike));
    let none = RowArgs::default();
    let usual = if given.format.is_some() && given.format != usual.format { &none } else { usual };
    let column = |given: &Option<String>, usual: &Option<String>| given.clone().or_else(|| usual.clone());
    RowArgs {
        // The world's rows only where a file is not named.
        world: given.world.clone(),
        format,
        text: column(&given.text, &usual.text),
        text_b: column(&given.text_b, &usual.text_b),
        label: column(&given.label, &usual.label),
        choices: if given.choices.is_empty() { usual.choices.clone() } else { given.choices.clone() },
        skip_bad_rows: given.skip_bad_rows,
    }
}
