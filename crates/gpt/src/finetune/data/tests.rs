use super::super::examples::Example;
use super::*;

fn columns(text: &[&str]) -> Columns {
    let of = |i: usize| text.get(i).filter(|t| !t.is_empty()).map(|t| t.to_string());
    let choices = text.iter().skip(3).map(|c| c.to_string()).collect();
    Columns { text: of(0), text_b: of(1), label: of(2), choices }
}

fn file(text: &str, spec: &Spec<'_>) -> Examples {
    read_from(text.as_bytes(), Path::new("f"), spec).unwrap_or_else(|e| panic!("{e}"))
}

fn bad(text: &str, spec: &Spec<'_>) -> String {
    read_from(text.as_bytes(), Path::new("f"), spec).unwrap_err().to_string()
}

/// A row as one line: id | text | text_b | choices | label.
fn line(row: &Example) -> String {
    let label = match &row.label {
        None => "-".to_string(),
        Some(label) => format!("{label:?}"),
    };
    format!("{}|{}|{}|{}|{label}", row.id, row.text, row.text_b, row.choices.join("/"))
}

fn lines(e: &Examples) -> Vec<String> {
    e.rows.iter().map(line).collect()
}

fn spec(kind: TaskKind, format: Format) -> Spec<'static> {
    Spec::new(kind, format)
}

fn glue(format: Format) -> Spec<'static> {
    Spec::new(format.kind(), format)
}

fn unlabelled(spec: Spec<'static>) -> Spec<'static> {
    Spec { labelled: Labelled::IfThere, ..spec }
}

use TaskKind::*;

#[test]
fn formats_have_names_and_kinds() {
    for format in Format::ALL {
        assert_eq!(Format::from_name(format.name()), Some(format));
        assert!(format.kinds().contains(&format.kind()));
    }
    assert_eq!(Format::from_name("glue"), None);
    let of = |path: &str| Format::from_path(path);
    assert_eq!(
        (of("a/b.TSV"), of("b.ndjson"), of("b.txt"), of("csv")),
        (Some(Format::Tsv), Some(Format::Jsonl), None, None)
    );
    let line = bad("", &spec(Choice, Format::Sick));
    assert_eq!(line, "format = sick: holds rows of entailment and similarity, not of choice");
}

#[test]
fn columns_by_usual_names_by_name_and_by_number() {
    let usual = file(
        "id,Label,Text\nx,pos, \"good\"\n".replace(" \"good\"", "\" good \"").as_str(),
        &Spec { labelled: Labelled::IfThere, ..spec(Classification, Format::Csv) },
    );
    assert_eq!(lines(&usual), ["x|good|||Class(0)"]);
    let named = Spec { columns: columns(&["b", "", "a"]), ..spec(Classification, Format::Tsv) };
    let e = file("\u{FEFF}a\tb\r\n10\t\"x\r\n9\ty z\r\n", &named);
    assert_eq!(e.labels, ["9", "10"]);
    assert_eq!(lines(&e), ["0|\"x|||Class(1)", "1|y z|||Class(0)"]);
    let numbered = Spec { columns: columns(&["1", "", "0"]), ..spec(Classification, Format::Csv) };
    let e = file("neg,x\npos,y\n10,z", &numbered);
    assert_eq!(e.labels, ["10", "neg", "pos"]);
    assert_eq!(lines(&e), ["0|x|||Class(1)", "1|y|||Class(2)", "2|z|||Class(0)"]);
    // Numbers that are names, and numbers beside a header that is said to be there.
    assert_eq!(file("1,0\nx,a\ny,b\n", &numbered).rows.len(), 2);
    assert_eq!(lines(&file("1,0\nx,a\ny,b\n", &numbered))[0], "0|x|||Class(0)");
    assert_eq!(file("l,t\na,x\nb,y\n", &Spec { header: Some(true), ..numbered.clone() }).rows.len(), 2);
    assert_eq!(bad("a\nb\n", &numbered), "f:1:1: no column 1: the first row has 1 column, from 0");
    let no_header = Spec { header: Some(false), ..named.clone() };
    assert_eq!(bad("a\tb\n", &no_header), "f:1:1: no header, so no column is named \"a\": give its number from 0");
}

#[test]
fn what_columns_cannot_be_found() {
    let csv = |kind| spec(kind, Format::Csv);
    let wants = |text: &[&str]| Spec { columns: columns(text), ..csv(Classification) };
    let foo = "f:1:1: no column is named \"foo\"; the columns are text, label";
    assert_eq!(bad("text,label\na,b", &wants(&["", "", "foo"])), foo);
    assert_eq!(bad("text,label\na,b", &wants(&["foo"])), foo);
    let of = |text: &str, kind| bad(text, &csv(kind));
    assert_eq!(of("x,label\na,b", Classification), "f:1:1: which column is the text? the columns are x, label");
    assert_eq!(of("text,x\na,b", Classification), "f:1:1: which column is the label? the columns are text, x");
    assert_eq!(
        of("text,label\na,b", Entailment),
        "f:1:1: which column is the second text? the columns are text, label"
    );
    assert_eq!(of("text,label\na,b", Span), "f:1:1: which column is the question? the columns are text, label");
    assert_eq!(of("text,label\na,0", Choice), "f:1:1: which column is which answer? the columns are text, label");
    let bare = Spec { header: Some(false), ..csv(Classification) };
    assert_eq!(bad("a,b", &bare), "f:1:1: which column is the label? the file has no header");
}

#[test]
fn files_without_rows_labels_or_two_classes() {
    let csv = spec(Classification, Format::Csv);
    for format in [Format::Csv, Format::Tsv, Format::Jsonl, Format::Sst2, Format::Cola, Format::Sick] {
        assert_eq!(bad("", &glue(format)), "f: the file is empty", "{format:?}");
    }
    assert_eq!(bad("", &glue(Format::Squad)), "f: the file is empty");
    assert_eq!(bad("\n\n", &csv), "f: the file is empty");
    assert_eq!(bad("\n\n", &spec(Classification, Format::Jsonl)), "f: no rows");
    assert_eq!(bad("text,label\n\n", &csv), "f: a header and no rows");
    assert_eq!(bad("sentence\tlabel\r\n", &glue(Format::Sst2)), "f: a header and no rows");
    let one = "f: every row has the label \"x\": at least two different ones are needed";
    assert_eq!(bad("text,label\na,x\nb,x\n", &csv), one);
    let names = ["x".to_string(), "y".to_string()];
    let known = Spec { labels: Some(&names), ..csv.clone() };
    let e = file("text,label\na,y\nb,y\n", &known);
    assert_eq!((e.labels.as_slice(), lines(&e)[0].as_str()), (&names[..], "0|a|||Class(1)"));
    assert_eq!(bad("text,label\na,y\nb,z", &known), "f:3:3: unknown label \"z\"; the labels are x, y");
    assert_eq!(bad("text,label\na,\n", &csv), "f:2:3: no label");
    assert_eq!(bad("text,label\na,x\nb, \n", &known), "f:3:3: no label");
    let e = file("text,label\na,x\nb,\n", &Spec { labelled: Labelled::IfThere, ..csv.clone() });
    assert_eq!(lines(&e), ["0|a|||Class(0)", "1|b|||-"]);
    let e = file("text,label\na,unheard\n", &Spec { labelled: Labelled::Ignored, ..known });
    assert_eq!(lines(&e), ["0|a|||-"]);
    let many: String = (0..5000).map(|i| format!("a,x{i}\n")).collect();
    let line = bad(&format!("text,label\n{many}"), &csv);
    assert_eq!(line, "f:4098:3: more than 4096 different labels: is this the label's column?");
    assert_eq!(
        bad("text,label\ra,x\r", &csv),
        "f: the first line holds a carriage return: lines must end with \\n or \\r\\n"
    );
}

#[test]
fn bad_rows_are_errors_or_are_counted() {
    let csv = spec(Classification, Format::Csv);
    let skip = Spec { skip_bad_rows: true, ..csv.clone() };
    let text = "text,label\na,x\nb\n\"c\"d,x\ne,f,g\n,y\n\"open,x\nh,\n\ni,y\n";
    let e = file(text, &skip);
    assert_eq!(lines(&e), ["0|a|||Class(0)", "4||||Class(1)", "8|i|||Class(1)"]);
    assert_eq!(e.skipped, 6);
    assert_eq!(bad(text, &csv), "f:3:1: 1 field where there should be 2");
    assert_eq!(bad("text,label\na,x\ne,f,g\n", &csv), "f:3:5: 3 fields where there should be 2");
    assert_eq!(bad("text,label\na,x\n\"e,f\n", &csv), "f:3:1: this quote is never closed");
    let none = "f: none of 2 rows can be used; the first, 2:1: 1 field where there should be 2";
    assert_eq!(bad("text,label\na\nb\n", &skip), none);
    let mut latin = b"text,label\ncaf\xE9,x\na,x\nb,y\n".to_vec();
    let of = |bytes: &[u8], spec: &Spec<'_>| read_from(bytes, Path::new("f"), spec);
    assert_eq!(of(&latin, &csv).unwrap_err().to_string(), "f:2:4: the byte 0xE9 is not UTF-8");
    assert_eq!(of(&latin, &skip).unwrap().skipped, 1);
    latin.extend(vec![b'z'; 3 * MAX_LINE]);
    latin.extend(b"\nc,y\n");
    let e = of(&latin, &skip).unwrap();
    assert_eq!((e.skipped, e.rows.len()), (2, 3));
    let long = bad(&format!("text,label\na,x\n{}", "z".repeat(MAX_LINE + 1)), &csv);
    assert_eq!(long, "f:3:1: the line is longer than 1.0 MiB (1048576 bytes)");
}

#[test]
fn scores() {
    let tsv = Spec { scores: true, ..spec(Similarity, Format::Tsv) };
    let e = file("sentence1\tsentence2\tscore\na\tb\t3.5\nc\td\t-1e-1\n", &tsv);
    assert_eq!(lines(&e), ["0|a|b||Score(3.5)", "1|c|d||Score(-0.1)"]);
    assert!(e.labels.is_empty());
    let of = |score: &str| bad(&format!("sentence1\tsentence2\tscore\na\tb\t{score}\n"), &tsv);
    assert_eq!(of("NaN"), "f:2:5: \"NaN\" is not a number");
    assert_eq!(of("high"), "f:2:5: \"high\" is not a number");
    assert_eq!(of("1e999"), "f:2:5: \"1e999\" is not a number");
}

#[test]
fn choices_by_number_letter_and_text() {
    let csv = spec(Choice, Format::Csv);
    let text = "context,question,ending_1,ending_0,label\nA.,Why?,x,y,1\nB.,,x,y,A\nC.,,x,y,x\n";
    assert_eq!(lines(&file(text, &csv)), ["0|A. Why?||y/x|Choice(1)", "1|B.||y/x|Choice(0)", "2|C.||y/x|Choice(1)"]);
    let named = Spec { columns: columns(&["0", "", "3", "1", "2"]), ..csv.clone() };
    assert_eq!(lines(&file("A.,x,y,0\n", &named)), ["0|A.||x/y|Choice(0)"]);
    let of = |label: &str| bad(&format!("text,choice a,choice b,label\nA,x,x,{label}\n"), &csv);
    assert_eq!(of("2"), "f:2:7: answer 2 of 2, which count from 0");
    assert_eq!(of("z"), "f:2:7: \"z\" is neither an answer's number nor its text");
    assert_eq!(of("x"), "f:2:7: \"x\" is the text of several answers");
    let json = spec(Choice, Format::Jsonl);
    let text = "{\"text\": \"A\", \"choices\": [\"x\", \"y\", 3], \"label\": 2}\n\
                {\"text\": \"B\", \"ending0\": \"x\", \"ending1\": \"y\", \"label\": \"0\"}\n";
    assert_eq!(lines(&file(text, &json)), ["0|A||x/y/3|Choice(2)", "1|B||x/y|Choice(0)"]);
    let one = "{\"text\": \"A\", \"choices\": [\"x\"], \"label\": 0}\n";
    assert_eq!(bad(one, &json), "f:1:2: a choice among 1: at least two answers are needed");
    let none = "{\"text\": \"A\", \"label\": 0}\n";
    assert_eq!(bad(none, &json), "f:1:1: no key for the answers: name one, or call it \"choices\"");
    let array = "{\"text\": \"A\", \"choices\": [\"x\", []], \"label\": 0}\n";
    assert_eq!(bad(array, &json), "f:1:15: an array of 0 items is not a text");
}

#[test]
fn tags() {
    let json = spec(Tagging, Format::Jsonl);
    let text = "{\"tokens\": [\"Ann\", \"ran\", \".\"], \"tags\": [\"N\", \"V\", null]}\n\
                {\"text\": \" Bob  sat\", \"tags\": \"N _\"}\n";
    let e = file(text, &json);
    assert_eq!(e.labels, ["N", "V"]);
    assert_eq!(lines(&e), ["0|Ann ran .|||Tags([Some(0), Some(1), None])", "1|Bob sat|||Tags([Some(0), None])"]);
    let e = file("text\ttags\na b\t2 10\n", &spec(Tagging, Format::Tsv));
    assert_eq!((e.labels.len(), lines(&e)[0].as_str()), (2, "0|a b|||Tags([Some(0), Some(1)])"));
    assert_eq!(bad("text\ttags\na b\tN\n", &spec(Tagging, Format::Tsv)), "f:2:5: 1 tags for 2 words");
    assert_eq!(bad("text\ttags\na b\t_ _\n", &spec(Tagging, Format::Tsv)), "f: no word has a tag");
    let line = bad("{\"words\": [\"a b\"], \"tags\": [\"N\"]}", &json);
    assert_eq!(line, "f:1:2: \"a b\" is not a word");
}

#[test]
fn answers_of_a_document() {
    let json = spec(Span, Format::Jsonl);
    let of = |answer: &str| {
        format!("{{\"id\": 5, \"context\": \" é Ann met Ann\", \"question\": \"Who?\", \"answers\": {answer}}}")
    };
    let row = |answer: &str| lines(&file(&of(answer), &json))[0].clone();
    let first = "5| é Ann met Ann|Who?||Spans([4..7])";
    assert_eq!(row("\"Ann\""), first);
    assert_eq!(row("{\"text\": \"Ann\", \"answer_start\": 3}"), first);
    let both = "5| é Ann met Ann|Who?||Spans([12..15, 4..7])";
    assert_eq!(row("{\"text\": [\"Ann\", \"Ann\"], \"answer_start\": [11, 3]}"), both);
    assert_eq!(row("[{\"text\": \"Ann\", \"answer_start\": 11}, \"Ann\", \"Ann\"]"), both);
    let line = |answer: &str| bad(&of(answer), &json);
    assert_eq!(line("\"Bob\""), "f:1:61: the answer \"Bob\" is not in the document");
    let off = "f:1:61: the answer \"Ann\" does not begin at character 4 of the document";
    assert_eq!(line("{\"text\": \"Ann\", \"answer_start\": 4}"), off);
    assert_eq!(line("{\"text\": \"Ann\", \"answer_start\": 400}"), off.replace("character 4", "character 400"));
    assert_eq!(
        line("{\"text\": \"Ann\", \"answer_start\": -1}"),
        "f:1:61: \"answers\" is an object of 2 keys, not a label"
    );
    assert_eq!(line("[]"), "f:1:61: no answer");
    assert_eq!(line("[\"\"]"), "f:1:61: an empty answer");
    let e = file("document\tquestion\tanswer\nAnn has it\tWho has it?\tAnn\n", &spec(Span, Format::Tsv));
    assert_eq!(lines(&e), ["0|Ann has it|Who has it?||Spans([0..3])"]);
}

#[test]
fn objects_a_line() {
    let json = spec(Classification, Format::Jsonl);
    let text = "{\"text\": \"a\\nb\", \"label\": true}\r\n\n{\"label\": 7, \"sentence\": \"c\"}\n";
    let e = file(text, &json);
    assert_eq!(
        (e.labels.join(" "), lines(&e)),
        ("7 true".to_string(), vec!["0|a\nb|||Class(1)".to_string(), "1|c|||Class(0)".to_string()])
    );
    let named = Spec { columns: columns(&["x", "", "y"]), ..json.clone() };
    assert_eq!(lines(&file("{\"x\": \"a\", \"y\": 1}\n{\"x\": \"y\", \"y\": 0}", &named)).len(), 2);
    let of = |line: &str| bad(line, &json);
    assert_eq!(of("{\"text\": \"a\", \"text\": 1}"), "f:1:24: the key \"text\" stands twice");
    assert_eq!(of("{\"text\": \"a\""), "f:1:12: EOF while parsing an object");
    assert_eq!(of("[1]"), "f:1:1: an array of 1 items is not an object");
    assert_eq!(of("{\"text\": \"a\"}"), "f:1:1: no key for the label: name one, or call it \"label\"");
    assert_eq!(of("{\"text\": \"a\", \"label\": null}"), "f:1:15: no label");
    assert_eq!(of("{\"text\": \"a\", \"label\": [1]}"), "f:1:15: \"label\" is an array of 1 items, not a label");
    assert_eq!(of("{\"text\": {}, \"label\": 1}"), "f:1:2: \"text\" is an object of 0 keys, not a text");
    assert_eq!(bad("{\"x\": \"a\"}", &named), "f:1:1: no key \"y\"");
    let e = file("{\"text\": \"a\", \"label\": null}\n{\"text\": \"b\"}\n", &unlabelled(json.clone()));
    assert_eq!(lines(&e), ["0|a|||-", "1|b|||-"]);
    let pair = "{\"premise\": \"a\", \"hypothesis\": \"b\", \"label\": \"yes\"}\n{\"premise\": \"a\", \"hypothesis\": \"b\", \"label\": \"no\"}";
    assert_eq!(lines(&file(pair, &spec(Entailment, Format::Jsonl)))[0], "0|a|b||Class(1)");
    let target = "{\"text\": \"a b\", \"summary\": \"a\"}";
    assert_eq!(lines(&file(target, &spec(Sequence, Format::Jsonl))), ["0|a b|||Text(\"a\")"]);
}

#[test]
fn layouts_of_glue() {
    let of = |text: &str, format| lines(&file(text, &glue(format)));
    let test = |text: &str, format| lines(&file(text, &unlabelled(glue(format))));
    let cola = "gj04\t1\t\tIt \"runs\".\ngj04\t0\t*\tRuns it.\n";
    assert_eq!(of(cola, Format::Cola), ["0|It \"runs\".|||Class(1)", "1|Runs it.|||Class(0)"]);
    assert_eq!(test("index\tsentence\n9\tIt runs.\n", Format::Cola), ["9|It runs.|||-"]);
    assert_eq!(of("sentence\tlabel\ngood \t1\nbad \t0\n", Format::Sst2), ["0|good|||Class(1)", "1|bad|||Class(0)"]);
    assert_eq!(test("index\tsentence\n0\tgood\n", Format::Sst2), ["0|good|||-"]);
    let mrpc = "\u{FEFF}Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t70\t71\ta\tb\n0\t72\t73\tc\td\n";
    assert_eq!(of(mrpc, Format::Mrpc), ["0|a|b||Class(1)", "1|c|d||Class(0)"]);
    let mrpc = "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n3\t70\t71\ta\tb\n";
    assert_eq!(test(mrpc, Format::Mrpc), ["3|a|b||-"]);
    let qqp = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n13\t1\t2\ta?\tb?\t0\n14\t1\t2\ta?\tb?\t1\n";
    assert_eq!(of(qqp, Format::Qqp)[0], "13|a?|b?||Class(0)");
    assert_eq!(test("id\tquestion1\tquestion2\n4\ta?\tb?\n", Format::Qqp), ["4|a?|b?||-"]);
    let mnli = "index\tpromptID\tpairID\tgenre\ts1b\ts2b\ts1p\ts2p\tsentence1\tsentence2";
    let row = "\tp\tq\tg\tx\tx\tx\tx\ta\tb";
    let train = format!("{mnli}\tlabel1\tgold_label\n0{row}\tneutral\tneutral\n1{row}\tneutral\tentailment\n");
    assert_eq!(of(&train, Format::Mnli), ["0|a|b||Class(2)", "1|a|b||Class(1)"]);
    let dev = format!("{mnli}\tlabel1\tlabel2\tgold_label\n5{row}\tneutral\tneutral\tmaybe\n");
    let known = "unknown label \"maybe\"; the labels are contradiction, entailment, neutral";
    assert_eq!(bad(&dev, &glue(Format::Mnli)), format!("f:2:37: {known}"));
    assert_eq!(test(&format!("{mnli}\n8{row}\n"), Format::Mnli), ["8|a|b||-"]);
    assert_eq!(
        bad(&format!("{mnli}\n8{row}\n"), &glue(Format::Mnli)).split(';').next(),
        Some("f:1:1: no column of labels")
    );
    let qnli = "index\tquestion\tsentence\tlabel\n0\ta?\tb\tentailment\n1\tc?\td\tnot_entailment\n";
    assert_eq!(of(qnli, Format::Qnli), ["0|a?|b||Class(0)", "1|c?|d||Class(1)"]);
    let rte = "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n1\tc\td\tnot_entailment\n";
    assert_eq!(of(rte, Format::Rte)[1], "1|c|d||Class(1)");
    let wnli = "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t1\n1\tc\td\t0\n";
    assert_eq!(of(wnli, Format::Wnli)[0], "0|a|b||Class(1)");
    assert_eq!(test("index\tsentence1\tsentence2\n2\ta\tb\n", Format::Wnli), ["2|a|b||-"]);
    let sts = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2";
    let row = "0\tg\tf\t2012\t1\tnone\tnone\ta\tb";
    assert_eq!(of(&format!("{sts}\tscore\n{row}\t5.000\n"), Format::StsB), ["0|a|b||Score(5.0)"]);
    assert_eq!(test(&format!("{sts}\n{row}\n"), Format::StsB), ["0|a|b||-"]);
    let other = "f:1:1: not the layout of rte: the header should have sentence1 in column 1, sentence2 in column 2, label in \
                 the last";
    assert_eq!(bad("sentence\tlabel\na\t1\n", &glue(Format::Rte)), other);
    let other = "f:1:1: not the layout of cola: 2 columns where there should be 4";
    assert_eq!(bad("sentence\tlabel\na\t1\n", &glue(Format::Cola)), other);
    assert_eq!(
        bad("sentence\tlabel\na\t1\nb\t2", &glue(Format::Sst2)),
        "f:3:3: unknown label \"2\"; the labels are 0, 1"
    );
}

#[test]
fn sick_and_stories() {
    let sick = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n\
                1\ta\tb\t4.5\tNEUTRAL\n7\tc\td\t1\tCONTRADICTION\n";
    let e = file(sick, &glue(Format::Sick));
    assert_eq!(e.labels, ["CONTRADICTION", "ENTAILMENT", "NEUTRAL"]);
    assert_eq!(lines(&e), ["1|a|b||Class(2)", "7|c|d||Class(0)"]);
    assert_eq!(lines(&file(sick, &spec(Similarity, Format::Sick))), ["1|a|b||Score(4.5)", "7|c|d||Score(1.0)"]);
    let test = file("pair_ID\tsentence_A\tsentence_B\n6\ta\tb\n", &unlabelled(glue(Format::Sick)));
    assert_eq!(lines(&test), ["6|a|b||-"]);
    assert_eq!(bad("a\tb\n", &glue(Format::Sick)), "f:1:1: not the layout of sick: no column is named pair_ID");
    let header = "InputStoryid,InputSentence1,InputSentence2,InputSentence3,InputSentence4,RandomFifthSentenceQuiz1,\
                  RandomFifthSentenceQuiz2";
    let row = "s1,\"A, b.\",C.,D.,E.,\"He said \"\"x\"\".\",F.";
    let stories = glue(Format::RocStories);
    let e = file(&format!("{header},AnswerRightEnding\n{row},1\n{row},2\n"), &stories);
    assert_eq!(lines(&e)[1], "s1|A, b. C. D. E.||He said \"x\"./F.|Choice(1)");
    assert_eq!(lines(&file(&format!("{header}\n{row}\n"), &unlabelled(stories.clone())))[0].chars().last(), Some('-'));
    let zero = bad(&format!("{header},AnswerRightEnding\n{row},0\n"), &stories);
    assert_eq!(zero, "f:2:41: answer 0 of 2, which count from 1");
    assert!(bad("a,b\n", &stories).starts_with("f:1:1: not the layout of rocstories: the header"));
}

#[test]
fn squad() {
    let of = |qas: &str| {
        format!(
            "{{\"version\": \"1.1\", \"data\": [{{\"title\": \"t\", \"paragraphs\": [{{\"context\": \"É is Ann.\", \"qas\": [{qas}]}}]}}]}}"
        )
    };
    let qa = "{\"id\": \"q1\", \"question\": \" Who?\", \"answers\": [{\"text\": \"Ann\", \"answer_start\": 5}]}";
    let squad = glue(Format::Squad);
    assert_eq!(lines(&file(&of(qa), &squad)), ["q1|É is Ann.|Who?||Spans([6..9])"]);
    let open = "{\"id\": \"q2\", \"question\": \"Who?\"}";
    assert_eq!(lines(&file(&of(open), &unlabelled(squad.clone()))), ["q2|É is Ann.|Who?||-"]);
    let at = "f: data[0].paragraphs[0].qas[0]: ";
    assert_eq!(bad(&of(open), &squad), format!("{at}no label"));
    let off = of(&qa.replace('5', "4"));
    assert_eq!(bad(&off, &squad), format!("{at}the answer \"Ann\" does not begin at character 4 of the document"));
    let v2 = of("{\"id\": \"q\", \"question\": \"?\", \"is_impossible\": true, \"answers\": []}");
    let none = "is_impossible: a question without an answer, as in version 2, has no span";
    assert_eq!(bad(&v2, &squad), format!("{at}{none}"));
    let skip = Spec { skip_bad_rows: true, ..squad.clone() };
    assert_eq!(bad(&v2, &skip), format!("f: none of 1 rows can be used; the first: {none}"));
    assert_eq!(file(&of(&format!("{open},{qa}")), &skip).skipped, 1);
    assert_eq!(bad("{\"data\": 3}", &squad), "f: data: must be an array");
    assert_eq!(bad("{\"data\": [{}]}", &squad), "f: data[0].paragraphs: must be an array");
    assert_eq!(bad("{", &squad), "f: line 1, column 1: EOF while parsing an object");
    assert_eq!(bad(&of(""), &squad), "f: no rows");
}

#[test]
fn files_that_cannot_be_opened() {
    let dir = crate::fs::TestDir::new("finetune-data");
    let csv = spec(Classification, Format::Csv);
    let of = |path: &Path| read(path, &csv).unwrap_err().to_string();
    assert_eq!(of(dir.path()), format!("{}: a folder; name a file in it", dir.path().display()));
    let missing = dir.path().join("none.csv");
    assert_eq!(of(&missing), format!("{}: No such file or directory (os error 2)", missing.display()));
    let path = dir.write("a.csv", "text,label\na,x\nb,y\n");
    assert_eq!(read(&path, &csv).unwrap().path, path);
    let nul = dir.write("b.csv", "text,label\na\0,x\n");
    assert_eq!(of(&nul), format!("{}: not a text file: a NUL byte", nul.display()));
}
