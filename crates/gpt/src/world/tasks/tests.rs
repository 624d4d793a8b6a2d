use super::*;

#[test]
fn dump() {
    use crate::finetune::examples::Label;
    let dir = std::path::PathBuf::from("/tmp/ft-tasks");
    std::fs::create_dir_all(&dir).unwrap();
    for task in WorldTask::ALL {
        for (part, name, n) in [(Part::Train, "train", 5000), (Part::Test, "test", 2000)] {
            let mut out = String::new();
            for r in task.examples(&World::full(), 1, part, n).rows {
                let label = match r.label.unwrap() {
                    Label::Class(c) | Label::Choice(c) => format!("{c}"),
                    Label::Tags(t) => format!("{t:?}").replace("None", "-1").replace("Some(", "").replace(')', ""),
                    Label::Spans(s) => format!("{s:?}").replace("..", ","),
                    _ => panic!(),
                };
                out += &format!("{}\t{}\t{}\t{}\n", r.text, r.text_b, r.choices.join("|"), label);
            }
            std::fs::write(dir.join(format!("{}.{name}.tsv", task.name())), out).unwrap();
        }
    }
}
