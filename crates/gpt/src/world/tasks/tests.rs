use std::collections::{BTreeSet, HashMap, HashSet};

use super::*;
use crate::finetune::examples::Label;
use crate::world::Verdict;

fn full(task: WorldTask, part: Part, n: u64) -> Examples {
    task.examples(&World::full(), 1, part, n)
}

fn class(example: &Example) -> usize {
    match example.label {
        Some(Label::Class(y) | Label::Choice(y)) => y as usize,
        _ => panic!("no class: {example:?}"),
    }
}

/// What a text says, read without the generator: the words of a sentence decide what it tells.
#[derive(Debug, Default)]
struct Told<'t> {
    people: Vec<&'t str>,
    things: Vec<String>,
    /// Where each person is, what is not told None; and who holds each thing.
    place: Vec<Option<&'t str>>,
    holder: Vec<usize>,
    /// Who wishes, and for what: a thing, or the other.
    wish: Option<(usize, Option<usize>)>,
}

impl<'t> Told<'t> {
    /// Replays the opening, the wish and the events of `text`; `before` is called with each event's first word's index and the
    /// words, before it happens.
    fn replay(text: &'t str, mut before: impl FnMut(&Told<'t>, usize, &[&'t str])) -> Told<'t> {
        let mut told = Told::default();
        let mut at = 0;
        for sentence in text.split_terminator('.') {
            let words: Vec<&str> = sentence.split_whitespace().collect();
            let has = |w: &str| words.contains(&w);
            let person = |k: &str| told.people.iter().position(|&p| p == k);
            let thing = |w: &[&str]| format!("{} {}", w[0], w[1]);
            if has("end") || has("belonged") || words[0] == "The" {
                break;
            }
            if told.people.len() < 2 {
                // [One day] NAME had a RED BALL in the PLACE
                let n = words.len();
                told.people.push(words[n - 8]);
                told.things.push(thing(&words[n - 5..]));
                told.place.push(Some(words[n - 1]));
                told.holder.push(told.holder.len());
            } else if told.wish.is_none() {
                let wished = thing(&words[words.len() - 2..]);
                told.wish = Some((person(words[0]).unwrap(), told.things.iter().position(|t| *t == wished)));
            } else {
                before(&told, at, &words);
                let who = person(words[0]).unwrap();
                let to = Some(words[words.len() - 1]).filter(|&w| w != "night");
                let (both, one) = (has("took") || has("led") || has("met") || has("sat"), has("left") || has("off"));
                if both {
                    told.place = vec![to; 2];
                } else if one {
                    told.place[who] = to;
                } else {
                    let given = told.things.iter().position(|t| *t == thing(&words[3..])).unwrap();
                    assert_eq!(told.holder[given], who, "{text}");
                    told.holder[given] = 1 - who;
                }
            }
            at += words.len();
        }
        told
    }
}

#[test]
fn a_longer_draw_begins_with_the_rows_of_a_shorter() {
    for task in WorldTask::ALL {
        assert_eq!(WorldTask::from_name(task.name()), Some(task));
        for part in [Part::Train, Part::Test] {
            let (short, long) = (full(task, part, 7), full(task, part, 20));
            assert_eq!(short.rows, long.rows[..7], "{task:?}");
            assert_eq!((short.kind, short.labels.len()), (task.kind(), task.labels().len()));
        }
        assert_ne!(task.examples(&World::full(), 2, Part::Train, 5).rows, full(task, Part::Train, 5).rows);
    }
}

#[test]
fn labels_are_balanced_in_any_first_rows() {
    for task in [WorldTask::Sentiment, WorldTask::Entailment, WorldTask::Paraphrase, WorldTask::Ending] {
        let classes = task.labels().len().max(2);
        let mut counts = vec![0u64; classes];
        for row in full(task, Part::Train, 1_000).rows {
            counts[class(&row)] += 1;
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(most - least <= 1, "{task:?}: {counts:?}");
        }
    }
    let mut first = 0u64;
    for (i, row) in (1..).zip(full(WorldTask::Span, Part::Train, 1_000).rows) {
        let told = Told::replay(&row.text, |_, _, _| {});
        first += u64::from(row.text_b.contains(&told.things[0]));
        assert!(first.abs_diff(i - first) <= 1, "{first} of {i}");
    }
}

#[test]
fn labels_are_what_the_text_says() {
    for part in [Part::Train, Part::Test] {
        for row in full(WorldTask::Sentiment, part, 500).rows {
            let told = Told::replay(&row.text, |_, _, _| {});
            let (who, thing) = told.wish.unwrap();
            let fulfilled = thing.map_or(told.place[0] == told.place[1], |t| told.holder[t] == who);
            assert_eq!(class(&row), usize::from(fulfilled), "{}", row.text);
            // With the outcome told, it is a story of the world.
            let outcome = if fulfilled { "came true" } else { "did not come true" };
            let (name, mood) = (told.people[who], if fulfilled { "glad" } else { "sad" });
            let whole = format!("{} The wish of {name} {outcome} and {name} was {mood}.", row.text);
            assert!(matches!(World::full().parse(&whole), Verdict::Story(_)), "{whole}");
        }
        let mut moved = 0;
        for row in full(WorldTask::Ending, part, 500).rows {
            let told = Told::replay(&row.text, |_, _, _| {});
            for (k, choice) in row.choices.iter().enumerate() {
                assert_eq!(ends_as(&told, choice), [k == class(&row); 4], "{}{choice}", row.text);
            }
            assert_eq!(bag_of(&row.choices[0]).len(), bag_of(&row.choices[1]).len());
            moved += usize::from(told.holder[0] == 1);
        }
        assert!((200..300).contains(&moved), "{moved}");
    }
}

/// Whether what an end says of either person's place, and of who has either thing, is as it was told.
fn ends_as(told: &Told, end: &str) -> [bool; 4] {
    // [At the end] NAME was in the PLACE and NAME was in the PLACE. The RED BALL was with NAME and the …
    let words = bag_of(end);
    let person = |k: usize| told.people.iter().position(|p| *p == words[k]).unwrap();
    let thing = |k: usize| told.things.iter().position(|t| *t == words[k..k + 2].join(" ")).unwrap();
    let place = |who: usize, at: usize| told.place[person(who)] == Some(words[at]);
    let has = |what: usize, who: usize| told.holder[thing(what)] == person(who);
    [place(3, 7), place(9, 13), has(15, 19), has(22, 26)]
}

/// The words of a text.
fn bag_of(text: &str) -> Vec<&str> {
    text.split([' ', '.']).filter(|w| !w.is_empty()).collect()
}

#[test]
fn tags_and_spans_are_what_the_text_says() {
    for row in full(WorldTask::Tagging, Part::Train, 500).rows {
        let Some(Label::Tags(tags)) = &row.label else { panic!() };
        assert_eq!(tags.len(), row.text.split_whitespace().count());
        let mut asked: Vec<u32> = Vec::new();
        Told::replay(&row.text, |told, at, words| {
            let Some(tag) = tags[at] else { return };
            let who = told.people.iter().position(|p| *p == words[0]).expect("a name is asked about");
            let holds = told.holder.contains(&who);
            let right = if told.place[0] == told.place[1] { 1 + u32::from(holds) } else { 0 };
            assert_eq!(tag, right, "{}, word {at}", row.text);
            asked.push(tag);
        });
        asked.sort();
        assert_eq!((asked, tags.iter().flatten().count()), (vec![0, 1, 2], 3), "{}", row.text);
    }
    for part in [Part::Train, Part::Test] {
        for row in full(WorldTask::Span, part, 500).rows {
            let Some(Label::Spans(spans)) = &row.label else { panic!() };
            let told = Told::replay(&row.text, |_, _, _| {});
            // … end NAME was in the PLACE and NAME was in the PLACE
            let words = bag_of(&row.text);
            let end = &words[words.len() - 11..];
            let at = |name: &str| if end[0] == name { end[4] } else { end[10] };
            assert_eq!([end[0], end[6]], [told.people[0], told.people[1]], "{row:?}");
            for who in [0, 1] {
                assert_ne!(told.place[who], Some(at(told.people[who])), "{row:?}");
            }
            // The RED BALL was in the
            let question = bag_of(&row.text_b);
            let thing = told.things.iter().position(|t| *t == question[1..3].join(" ")).unwrap();
            let answer = at(told.people[told.holder[thing]]);
            assert!(!spans.is_empty() && spans.iter().all(|s| &row.text[s.clone()] == answer), "{row:?}");
            assert!(spans.windows(2).all(|p| p[0].start > p[1].start));
            assert_eq!(spans.len(), row.text.matches(answer).count(), "{row:?}");
            assert_ne!(end[4], end[10], "{row:?}");
        }
    }
}

#[test]
fn what_follows_is_told_and_what_does_not_swaps_the_people() {
    let mut of_places = 0;
    for part in [Part::Train, Part::Test] {
        for row in full(WorldTask::Entailment, part, 1_000).rows {
            let told = Told::replay(&row.text, |_, _, _| {});
            assert_ne!(told.place[0], told.place[1]);
            // Half of an end: where both are, or who has what.
            let whole = if row.text_b.contains(" end ") {
                of_places += 1;
                format!(
                    "{} The {} was with {} and the {} was with {}.",
                    row.text_b, told.things[0], told.people[0], told.things[1], told.people[1]
                )
            } else {
                format!(
                    " At the end {} was in the x and {} was in the y.{}",
                    told.people[0], told.people[1], row.text_b
                )
            };
            let said = ends_as(&told, &whole);
            let said = if row.text_b.contains(" end ") { &said[..2] } else { &said[2..] };
            assert_eq!(said, [class(&row) == 1; 2], "{row:?}");
        }
    }
    assert!((900..1100).contains(&of_places), "{of_places}");
}

#[test]
fn paraphrases_say_the_same_and_others_swap_the_people() {
    for part in [Part::Train, Part::Test] {
        for row in full(WorldTask::Paraphrase, part, 1_000).rows {
            let told = Told::replay(&row.text, |_, _, _| {});
            let words = bag_of(&row.text_b);
            assert_eq!(ends_as(&told, &row.text_b), [class(&row) == 1; 4], "{row:?}");
            let said = |words: &[&str]| words.iter().map(|w| w.to_string()).collect::<BTreeSet<_>>().len();
            assert_eq!(said(&[words[7], words[13]]) + said(&[words[19], words[26]]), 4, "{row:?}");
        }
    }
}

/// Rows of 1 part or of 2, their texts joined.
fn texts(examples: &Examples) -> Vec<String> {
    examples.rows.iter().map(|r| format!("{}|{}|{}", r.text, r.text_b, r.choices.concat())).collect()
}

#[test]
fn no_text_of_a_test_row_is_trained_on() {
    let world = World::full();
    // Of more rows some are alike: there are so many beginnings of two texts, and no more.
    let n = 2_000;
    // Optimised, there is time for more stories.
    let stories = if cfg!(debug_assertions) { n } else { 10_000 };
    // What stories that a model reads begin with, up to their end.
    let mut read: HashMap<usize, HashSet<String>> = HashMap::new();
    for story in world.stories(1, Split::Train, 10 * stories).chain(world.stories(1, Split::Validation, stories)) {
        for sentence in &story.sentences[3..] {
            let end = sentence.range.end;
            read.entry(end).or_default().insert(story.text[..end].to_string());
        }
    }
    let mut numbers = HashSet::new();
    for task in WorldTask::ALL {
        let (train, test) = (full(task, Part::Train, n), full(task, Part::Test, n));
        let all: Vec<String> = texts(&train).into_iter().chain(texts(&test)).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "{task:?}: a row comes twice");
        let first: HashSet<&str> = train.rows.iter().map(|r| r.text.as_str()).collect();
        for row in &test.rows {
            assert!(!first.contains(row.text.as_str()), "{task:?}: {}", row.text);
        }
        for row in train.rows.iter().chain(&test.rows) {
            for text in [&row.text, &row.text_b] {
                let end = text.rfind('.').map_or(0, |at| at + 1);
                assert!(!read.get(&end).is_some_and(|r| r.contains(&text[..end])), "{task:?}: {text}");
            }
        }
        for part in [Part::Train, Part::Test] {
            let source = Source::new(&world, 1, task, part);
            let last = source.first + WorldTask::MOST * ATTEMPTS;
            assert!(source.first >= Split::Tasks.range().start && last <= Split::Tasks.range().end);
            assert!(numbers.insert(source.first / (WorldTask::MOST * ATTEMPTS)), "each has its own stories");
            assert_eq!(source.first % (WorldTask::MOST * ATTEMPTS), 0);
        }
    }
}

/// Tokens of a row at most, if each word and each full stop is one, with what the transformations add.
#[test]
fn rows_fit_in_a_context() {
    let tokens = |text: &str| text.split_whitespace().count() + text.matches('.').count();
    for task in WorldTask::ALL {
        let rows = full(task, Part::Train, 3_000).rows;
        let longest = |r: &Example| match task.kind() {
            TaskKind::Classification | TaskKind::Tagging => tokens(&r.text) + 2,
            TaskKind::Choice => r.choices.iter().map(|c| tokens(&r.text) + tokens(c) + 3).max().unwrap(),
            _ => tokens(&r.text) + tokens(&r.text_b) + 3,
        };
        let longest = rows.iter().map(longest).max().unwrap();
        println!("{}: {longest} tokens at most", task.name());
        assert!(longest <= 128, "{task:?}: {longest}");
    }
}

/// Words without their order stay within 10 points of chance where two texts are related, and word overlap with them.
#[test]
fn bags_of_words_are_near_chance() {
    let mut over = Vec::new();
    for (task, chance) in [(WorldTask::Entailment, 50.0), (WorldTask::Paraphrase, 50.0), (WorldTask::Ending, 50.0)] {
        let accuracy = bag::accuracy(&full(task, Part::Train, 4_000), &full(task, Part::Test, 2_000));
        println!("{}: {accuracy:.1}%", task.name());
        if accuracy > chance + 10.0 {
            over.push(task);
        }
    }
    let sentiment =
        bag::accuracy(&full(WorldTask::Sentiment, Part::Train, 4_000), &full(WorldTask::Sentiment, Part::Test, 2_000));
    println!("sentiment: {sentiment:.1}%");
    assert!(over.is_empty(), "{over:?}");
}

/// A row as the book prints it.
fn shown(task: WorldTask, row: &Example) -> String {
    let labels = task.labels();
    let mut lines = vec![row.text.clone()];
    match row.label.as_ref().expect("a label") {
        Label::Class(y) => {
            lines.extend(Some(format!("${}", row.text_b)).filter(|_| !row.text_b.is_empty()));
            lines.push(format!("→ {}", labels[*y as usize]));
        }
        Label::Choice(y) => {
            lines.extend(row.choices.iter().map(|c| format!("${c}")));
            lines.push(format!("→ answer {}", y + 1));
        }
        Label::Tags(tags) => {
            let word = |(w, t): (&str, &Option<u32>)| match t {
                Some(t) => format!("{w}[{}]", labels[*t as usize]),
                None => w.to_string(),
            };
            lines[0] = row.text.split(' ').zip(tags).map(word).collect::<Vec<_>>().join(" ");
        }
        Label::Spans(spans) => {
            let at: Vec<String> = spans.iter().map(|s| s.start.to_string()).collect();
            lines.push(format!("${}", row.text_b));
            lines.push(format!("→ {}, at byte {}", &row.text[spans[0].clone()], at.join(" or ")));
        }
        _ => panic!("{row:?}"),
    }
    lines.join("\n")
}

#[test]
fn the_book_shows_the_first_row_of_each() {
    let book = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/world.md")).unwrap();
    for task in WorldTask::ALL {
        let row = shown(task, &full(task, Part::Train, 1).rows[0]);
        println!("{row}\n");
        assert!(book.contains(&row), "the book has another row of {}:\n{row}", task.name());
    }
}
