//! Every link and every picture of the book and of the README leads to a file that is there.

use std::fs;
use std::path::{Path, PathBuf};

/// The links of `text` that lead into the repository, without what follows a #.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.filter_map(|target| target.split('#').next());
    files.filter(|file| !file.is_empty() && !file.contains("://")).collect()
}

fn pages(root: &Path) -> Vec<PathBuf> {
    let book = fs::read_dir(root.join("docs/src")).expect("the book's pages");
    let pages =
        book.map(|entry| entry.expect("a page").path()).filter(|path| path.extension().is_some_and(|e| e == "md"));
    pages.chain([root.join("README.md")]).collect()
}

#[test]
fn no_link_leads_nowhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let (pages, mut followed, mut broken) = (pages(root), 0, vec![]);
    assert!(pages.len() > 10, "the book has chapters");
    for page in pages {
        let text = fs::read_to_string(&page).expect("a page is text");
        for link in links(&text) {
            followed += 1;
            if !page.parent().expect("a folder").join(link).exists() {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(followed > 30, "{followed} links are too few to be all");
}

#[test]
fn links_are_found() {
    let text = "[a](b.md) ![c](d/e.svg) [f](g.md#h) [i](#j) [k](https://l/m.md)";
    assert_eq!(links(text), ["b.md", "d/e.svg", "g.md"]);
}
