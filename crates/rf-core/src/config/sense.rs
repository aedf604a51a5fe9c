//! Values of the right type that cannot work all the same.

use std::path::Path;

use super::document::{HIDDEN, Node};
use super::problem::Problems;

/// Reports a folder that cannot be one, since a file has its name, or that of a folder above it.
pub fn check_folder(at: &Node<'_>, folder: &Path, problems: &mut Problems) {
    let nearest = folder.ancestors().find_map(|path| Some((path, path.metadata().ok()?)));
    if let Some((path, metadata)) = nearest
        && !metadata.is_dir()
    {
        let shown = path.display().to_string();
        let shown = if at.is_expanded() { HIDDEN } else { &shown };
        problems.error(at, format!("expected a folder, {shown} is a file"));
    }
}

/// The number, or the largest that is of use, and then a warning.
pub fn at_most(at: &Node<'_>, asked: usize, most: usize, problems: &mut Problems) -> usize {
    if asked > most {
        problems.warn(at, format!("more than {most} are of no use: {most} is used"));
    }
    asked.min(most)
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    /// What is said about a file of one key.
    fn told(check: impl FnOnce(&Node<'_>, &mut Problems)) -> String {
        let mut problems = Problems::new();
        let document = parse("a.json", "{key: 1}", &|_| None, &mut problems).expect("JSON5");
        check(&document.root().get("key").expect("it is there"), &mut problems);
        problems.to_string()
    }

    #[test]
    fn a_file_is_no_folder_and_has_none_below_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let expected =
            format!("a.json:1:7: error: key: expected a folder, {} is a file", file.display());
        for path in [&file, &file.join("below/it")] {
            assert_eq!(told(|at, problems| check_folder(at, path, problems)), expected);
        }
        for path in [folder.path(), &folder.path().join("new/one"), Path::new("."), Path::new("")] {
            assert_eq!(told(|at, problems| check_folder(at, path, problems)), "");
        }
    }

    #[test]
    fn more_than_is_of_use_is_less() {
        let told_of = |asked: usize, used: usize| {
            told(|at, problems| assert_eq!(at_most(at, asked, 10, problems), used))
        };
        assert_eq!(told_of(10, 10), "");
        let warning = "a.json:1:7: warning: key: more than 10 are of no use: 10 is used";
        assert_eq!(told_of(11, 10), warning);
    }
}
