use std::collections::{HashMap, HashSet};

use super::simulate::{Choose, tell};
use super::*;

/// Walks every path of choices, odometer-wise.
#[derive(Default)]
struct Paths {
    /// (choice, options) along the present path.
    path: Vec<(usize, usize)>,
    at: usize,
}

impl Choose for Paths {
    fn choose(&mut self, n: usize) -> usize {
        if self.at == self.path.len() {
            self.path.push((0, n));
        }
        assert_eq!(self.path[self.at].1, n, "the same choices lead to the same options");
        self.at += 1;
        self.path[self.at - 1].0
    }
}

impl Paths {
    /// Moves on to the next path; false after the last.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((k, n)) = self.path.pop() {
            if k + 1 < n {
                self.path.push((k + 1, n));
                return true;
            }
        }
        false
    }
}

/// All stories of `world`, weighted choices walked once for each unit of weight, so a text may come more than once.
fn for_each_story(world: &World, mut f: impl FnMut(Story)) {
    let mut paths = Paths::default();
    loop {
        f(tell(world, &mut paths));
        if !paths.advance() {
            return;
        }
    }
}

/// FNV-1a, 64 bits.
fn fnv(text: &str, hash: u64) -> u64 {
    text.bytes().fold(hash, |h, b| (h ^ b as u64).wrapping_mul(0x0000_0100_0000_01b3))
}

/// A world of one wording and few choices, listed in full by the slower tests.
fn tiny() -> World {
    World { wordings: 1, ..World::reduced() }
}

#[test]
fn probabilities_of_the_reduced_world_sum_to_1() {
    for world in [tiny(), World { max_events: 1, ..World::reduced() }] {
        let mut texts: HashMap<String, f64> = HashMap::new();
        for_each_story(&world, |s| {
            texts.insert(s.text, s.log_prob);
        });
        let mut total = 0.0;
        for (text, drawn) in &texts {
            let replayed = world.log_prob(text).unwrap_or_else(|| panic!("{text}: {:?}", world.parse(text)));
            assert!((replayed - drawn).abs() < 1e-9, "{text}: drawn {drawn}, replayed {replayed}");
            total += libm::exp(replayed);
        }
        assert!((total - 1.0).abs() < 1e-9, "sum {total}");
        assert_eq!(texts.len() as u128, world.count());
    }
}

#[test]
fn generator_and_parser_agree() {
    let world = World::full();
    let n = if cfg!(debug_assertions) { 5_000 } else { 50_000 };
    for split in [Split::Train, Split::Validation, Split::Test, Split::Tasks] {
        for story in world.stories(7, split, n) {
            let replayed =
                world.log_prob(&story.text).unwrap_or_else(|| panic!("{}: {:?}", story.text, world.parse(&story.text)));
            assert!((replayed - story.log_prob).abs() < 1e-9, "{}: {} and {replayed}", story.text, story.log_prob);
        }
    }
}

/// A story's text never begins another's, and at every word the continuations differ within the word or after it.
#[test]
fn texts_are_prefix_free() {
    let mut texts = Vec::new();
    for_each_story(&tiny(), |s| texts.push(s.text));
    texts.sort();
    texts.dedup();
    for pair in texts.windows(2) {
        assert!(!pair[1].starts_with(&pair[0]), "{} begins {}", pair[0], pair[1]);
    }
}

/// No word of a class begins another, and names alone are capitalised: what a slot holds is read in one way.
#[test]
fn classes_are_prefix_free() {
    let names: Vec<&str> = lexicon::NAMES.iter().map(|n| n.0).collect();
    let classes: [&[&str]; 6] =
        [&names, &lexicon::PLACES, &lexicon::COLOURS, &lexicon::NOUNS, &lexicon::GLAD, &lexicon::SAD];
    for class in classes {
        for (i, a) in class.iter().enumerate() {
            for (j, b) in class.iter().enumerate() {
                assert!(i == j || !a.starts_with(b), "{b} begins {a}");
            }
        }
    }
    assert!(names.iter().all(|n| n.starts_with(|c: char| c.is_ascii_uppercase())));
}

/// A determined word is the only continuation of the text before it; the other words in slots are not.
#[test]
fn determined_words_are_those_with_one_continuation() {
    let world = tiny();
    let mut texts = HashMap::new();
    for_each_story(&world, |s| {
        texts.insert(s.text, s.determined);
    });
    let words_after = |text: &str, at: usize| {
        let end = text[at..].find([' ', '.']).map_or(text.len(), |n| at + n);
        text[at..end].to_string()
    };
    let mut continuations: HashMap<&str, HashSet<String>> = HashMap::new();
    let starts =
        |text: &str| -> Vec<usize> { core::iter::once(0).chain(text.match_indices(' ').map(|(k, _)| k + 1)).collect() };
    for text in texts.keys() {
        for at in starts(text) {
            continuations.entry(&text[..at]).or_default().insert(words_after(text, at));
        }
    }
    let lexical = |word: &str| {
        lexicon::NAMES.iter().any(|n| n.0 == word)
            || lexicon::PLACES.contains(&word)
            || lexicon::COLOURS.contains(&word)
            || lexicon::NOUNS.contains(&word)
    };
    for (text, determined) in &texts {
        // The opening is left out: in a world of two names the second is no choice.
        let wish = text.match_indices('.').nth(1).expect("two opening sentences").0;
        for at in starts(text).into_iter().filter(|&at| at > wish) {
            let word = words_after(text, at);
            let known = determined.iter().any(|r| r.start == at);
            let options = continuations[&text[..at]].len();
            if known {
                assert_eq!(options, 1, "{}|{word}", &text[..at]);
            } else if lexical(&word) {
                assert!(options > 1, "{}|{word}", &text[..at]);
            }
        }
        for range in determined {
            assert_eq!(words_after(text, range.start), text[range.clone()], "a range is one word");
        }
    }
}

#[test]
fn splits_share_no_text() {
    let world = World::full();
    let texts = |split, n| -> Vec<String> { world.stories(1, split, n).map(|s| s.text).collect() };
    let train = texts(Split::Train, 60_000);
    for split in [Split::Validation, Split::Test, Split::Tasks] {
        assert_eq!(shared_texts(&train, &texts(split, 5_000)), 0, "{split:?}");
    }
    assert_eq!(shared_texts(&train, &train[10..12]), 2);
}

#[test]
fn a_trillion_stories_and_more() {
    assert!(World::full().count() > 1_000_000_000_000, "{}", World::full().count());
}

#[test]
fn wishes_come_true_about_as_often_as_not() {
    let fulfilled = World::full().stories(1, Split::Train, 4_000).filter(|s| s.fulfilled()).count();
    assert!((1_400..2_600).contains(&fulfilled), "{fulfilled} of 4000");
}

#[test]
fn corrupted_stories_are_refused() {
    let world = World::full();
    let mut inconsistent = 0;
    for story in world.stories(3, Split::Test, 300) {
        let text = &story.text;
        // Text that is cut, extended, or misspelt leaves the language.
        for end in [0, 1, text.len() / 2, text.len() - 1] {
            assert!(matches!(world.parse(&text[..end]), Verdict::Ungrammatical(_)), "{}", &text[..end]);
        }
        assert!(matches!(world.parse(&format!("{text} ")), Verdict::Ungrammatical(_)));
        assert!(matches!(world.parse(&format!("{text} {text}")), Verdict::Ungrammatical(_)));
        assert!(matches!(world.parse(&text.replace(" was ", " wos ")), Verdict::Ungrammatical(_)));
        // Another word of the same class at a determined place contradicts the state, if the grammar has it at all.
        for range in &story.determined {
            let word = &text[range.clone()];
            let names: Vec<&str> = lexicon::NAMES.iter().map(|n| n.0).collect();
            let outcomes = [["got", "did"], ["came", "did"]];
            let classes: [&[&str]; 6] =
                [&names, &lexicon::PLACES, &lexicon::COLOURS, &lexicon::NOUNS, &outcomes[0], &outcomes[1]];
            for class in classes.into_iter().filter(|class| class.contains(&word)) {
                for other in class.iter().filter(|&&w| w != word) {
                    let changed = format!("{}{other}{}", &text[..range.start], &text[range.end..]);
                    match world.parse(&changed) {
                        Verdict::Story(_) => panic!("accepted with {other} for {word} at {}: {text}", range.start),
                        Verdict::Inconsistent(fault) => {
                            assert!(fault.at <= text.len());
                            inconsistent += 1;
                        }
                        Verdict::Ungrammatical(_) => assert!(["got", "came", "did"].contains(&word), "{changed}"),
                    }
                }
            }
        }
    }
    assert!(inconsistent > 10_000);
}

#[test]
fn a_contradiction_is_told_from_bad_grammar() {
    let world = World::full();
    let good = "One day Anna had a blue drum in the cellar. Ben held a green cup in the barn. \
                Anna wanted to have the green cup. Ben met with Anna in the cellar. Ben gave the green cup to Anna. \
                Anna left Ben alone for the attic. \
                At the end Anna was in the attic and Ben was in the cellar. \
                The blue drum was with Anna and the green cup was with Anna. Anna got her wish and was glad.";
    assert!(matches!(world.parse(good), Verdict::Story(_)), "{:?}", world.parse(good));
    let fault = |from: &str, to: &str| match world.parse(&good.replace(from, to)) {
        Verdict::Inconsistent(fault) => fault.why,
        other => panic!("{other:?}"),
    };
    let gift = "a gift of what the giver does not have";
    assert_eq!(fault("cup was with Anna", "cup was with Ben"), "somebody else holds it");
    assert_eq!(fault("Ben gave the green cup to Anna", "Anna gave the green cup to Ben"), gift);
    assert_eq!(fault("for the attic", "for the cellar"), "a way to where one is");
    assert_eq!(
        fault("Ben met with Anna in the cellar", "Ben left Anna alone for the cellar"),
        "a parting of those apart"
    );
    assert_eq!(fault("Anna left", "Clara left"), "a stranger does something");
    assert_eq!(fault("end Anna was in the attic", "end Anna was in the kitchen"), "somebody is elsewhere");
    assert_eq!(fault("a green cup", "a green drum"), "a second thing like the first");
    assert_eq!(fault("have the green cup", "have the blue cup"), "a wish for what nobody has");
    assert_eq!(fault("got her", "got his"), "the wrong possessive");
    let failed = "Anna did not get her wish and was sad";
    assert_eq!(fault("Anna got her wish and was glad", failed), "the wish ended otherwise");
    let drunk = good.replace("Ben met with", "Ben jumped with");
    assert_eq!(
        world.parse(&drunk),
        Verdict::Ungrammatical(Fault { at: good.find("Ben met with").unwrap(), why: "no sentence fits" })
    );
}

#[test]
fn stories_are_the_same_everywhere() {
    let world = World::full();
    let hash = world.stories(1, Split::Train, 100).fold(0xcbf2_9ce4_8422_2325, |h, s| fnv(&s.text, h));
    assert_eq!(hash, 0xbae4_6d56_5eeb_f2ac, "the first 100 stories have changed: {hash:#018x}");
}

#[test]
fn draws_of_neighbouring_stories_do_not_overlap() {
    struct Counted(u64);
    impl Choose for Counted {
        fn choose(&mut self, n: usize) -> usize {
            self.0 += 1;
            n - 1
        }
    }
    let mut counted = Counted(0);
    tell(&World::full(), &mut counted);
    assert!(counted.0 <= simulate::DRAWS_PER_STORY / 2, "{} draws", counted.0);
}

#[test]
fn tokens_are_matched_to_determined_words() {
    // "to| Anna|." with the space in the word's token, and byte by byte.
    let determined = core::slice::from_ref(&(3..7));
    assert_eq!(determined_tokens(determined, &[2, 7, 8]), [false, true, false]);
    let bytes: Vec<usize> = (1..=8).collect();
    assert_eq!(determined_tokens(determined, &bytes), [false, false, false, true, true, true, true, false]);
    assert_eq!(determined_tokens(&[], &[1, 2]), [false, false]);
}
