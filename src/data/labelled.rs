//! Pictures of one's own with the names of their classes: a folder per class, or a table of paths.

use super::LeftOut;
use super::folder::{entries, left_out, name_of};
use super::pictures::is_picture;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// A picture file and what is on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// The file.
    pub path: PathBuf,
    /// The name of the class.
    pub class: String,
    /// True if it is to be judged on, not learned from.
    pub is_test: bool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// In the order of classes and paths.
    pub pictures: Vec<Labelled>,
    /// Files that are no pictures by their names, and folders without a picture.
    pub left_out: Vec<LeftOut>,
}

/// The longest name of a class, in characters.
const MOST_OF_NAME: usize = 200;
/// Folders inside folders.
const MOST_DEEP: usize = 32;
/// Sub-folders that say what their pictures are for, not what is on them.
const TRAIN: [&str; 2] = ["train", "training"];
const TEST: [&str; 5] = ["test", "testing", "val", "valid", "validation"];

/// The name of a class as it is kept: without white space around it.
///
/// # Errors
/// [`Error::Usage`] if nothing is left, it is too long, or it has control characters.
pub fn class_name(name: &str) -> Result<String> {
    let name = name.trim();
    let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
    match () {
        () if name.is_empty() => Err(Error::usage("a class needs a name")),
        () if name.chars().count() > MOST_OF_NAME => {
            Err(Error::usage(format!("'{shown}…': the name of a class has at most {MOST_OF_NAME} characters")))
        }
        () if name.chars().any(char::is_control) => {
            Err(Error::usage(format!("'{shown}': the name of a class has no line breaks and control characters")))
        }
        () => Ok(name.to_string()),
    }
}

/// A folder of pictures per class, with folders inside them or not. Where the folder has nothing but a `train` with folders of its own,
/// and perhaps a `test` or `val`, classes are looked for in the first, and those of the others are for testing. Links to folders are not
/// followed.
///
/// # Errors
/// If a folder cannot be read, there is no class folder, or a `train` with folders of its own stands beside what may be classes.
pub fn in_folder(dir: &Path) -> Result<Found> {
    let folders = sub_folders(dir)?;
    let is = |path: &PathBuf, names: &[&str]| names.contains(&name_of(path).to_lowercase().as_str());
    let mut is_split = false;
    for path in folders.iter().filter(|path| is(path, &TRAIN)) {
        is_split |= !sub_folders(path)?.is_empty();
    }
    let mut found = Found::default();
    if !is_split {
        classes_in(dir, false, &mut found)?;
        return Ok(found);
    }
    if let Some(other) = folders.iter().find(|path| !is(path, &TRAIN) && !is(path, &TEST)) {
        let why = format!(
            "has a folder for training with folders of its own, and beside it {}: if that is a class, give the pictures for training a \
             folder without folders or another name; if it is none, move it away",
            name_of(other)
        );
        return Err(Error::file(dir, why));
    }
    let loose: Vec<PathBuf> = entries(dir)?.into_iter().filter(|path| !path.is_dir()).collect();
    found.left_out.extend(left_out(&loose));
    let (test, train): (Vec<PathBuf>, Vec<PathBuf>) = folders.into_iter().partition(|path| is(path, &TEST));
    train.iter().try_for_each(|folder| classes_in(folder, false, &mut found))?;
    test.iter().try_for_each(|folder| classes_in(folder, true, &mut found))?;
    Ok(found)
}

fn classes_in(dir: &Path, is_test: bool, found: &mut Found) -> Result<()> {
    let folders = sub_folders(dir)?;
    if folders.is_empty() {
        return Err(Error::file(
            dir,
            "has no sub-folders; it needs one folder of pictures for each class, named like it",
        ));
    }
    let loose: Vec<PathBuf> = entries(dir)?.into_iter().filter(|path| !path.is_dir()).collect();
    found.left_out.extend(left_out(&loose));
    for folder in folders {
        let class = class_name(&name_of(&folder)).map_err(|e| Error::file(&folder, e.to_string()))?;
        let (mut others, n) = (Vec::new(), found.pictures.len());
        walk(&folder, &class, is_test, 0, found, &mut others)?;
        found.left_out.extend(left_out(&others));
        if found.pictures.len() == n {
            found.left_out.push(LeftOut { reason: format!("folder without a picture ({class})"), n: 1 });
        }
    }
    Ok(())
}

fn walk(
    dir: &Path,
    class: &str,
    is_test: bool,
    depth: usize,
    found: &mut Found,
    others: &mut Vec<PathBuf>,
) -> Result<()> {
    for path in entries(dir)? {
        if path.is_dir() && !path.is_symlink() && depth < MOST_DEEP {
            walk(&path, class, is_test, depth + 1, found, others)?;
        } else if is_picture(&path) {
            found.pictures.push(Labelled { path, class: class.to_string(), is_test });
        } else {
            others.push(path);
        }
    }
    Ok(())
}

fn sub_folders(dir: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(dir)?.into_iter().filter(|path| path.is_dir()).collect())
}

/// A table with a picture per line: its path, a comma, its class. Paths start at the table's folder; a field may stand in double
/// quotes, and a first line `path,label` is a heading.
///
/// # Errors
/// If the file cannot be read, or a line is not of this form.
pub fn in_table(file: &Path) -> Result<Found> {
    let text = std::fs::read_to_string(file).map_err(Error::io(file, "read"))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut found = Found::default();
    for (i, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let refuse = |why: &str| Error::file(file, format!("line {}: {why}", i + 1));
        if line.trim().is_empty() {
            continue;
        }
        let fields = fields(line).ok_or_else(|| refuse("a double quote is not closed"))?;
        let [path, class] = fields.as_slice() else {
            return Err(refuse("two fields are needed, path and class, with a comma between them"));
        };
        if i == 0 && ["path", "file", "filename", "image"].contains(&path.to_lowercase().as_str()) {
            continue;
        }
        let class = class_name(class).map_err(|e| refuse(&e.to_string()))?;
        found.pictures.push(Labelled { path: folder.join(path), class, is_test: false });
    }
    match found.pictures.is_empty() {
        true => Err(Error::file(file, "names no picture; it needs a line `path,class` for each")),
        false => Ok(found),
    }
}

/// The fields of a line of comma-separated values; `None` if a quote is not closed.
fn fields(line: &str) -> Option<Vec<String>> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                field.push('"');
                rest.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field).trim().to_string()),
            c => field.push(c),
        }
    }
    fields.push(field.trim().to_string());
    (!quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_line() {
        let of = |line| fields(line).unwrap();
        assert_eq!(of("a.png, cat"), ["a.png", "cat"]);
        assert_eq!(of(r#""a, ""b"".png",cat"#), [r#"a, "b".png"#, "cat"]);
        assert_eq!(of("one"), ["one"]);
        assert!(fields("\"open,cat").is_none());
    }

    #[test]
    fn names_of_classes() {
        assert_eq!(class_name("  red fox ").unwrap(), "red fox");
        for bad in ["", "  ", "a\nb", "\u{1b}[2J"] {
            assert!(class_name(bad).is_err(), "{bad:?}");
        }
        assert!(class_name(&"x".repeat(201)).is_err());
    }

    #[test]
    fn a_folder_for_training_and_one_for_testing() {
        let dir = tempfile::tempdir().unwrap();
        let picture = |path: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        ["train/cat/a.png", "train/cat/deep/b.JPG", "train/dog/c.png", "train/dog/notes.txt", "test/cat/d.png"]
            .into_iter()
            .for_each(picture);
        std::fs::create_dir_all(dir.path().join("train/owl")).unwrap();
        let found = in_folder(dir.path()).unwrap();
        let seen: Vec<(String, &str, bool)> = found
            .pictures
            .iter()
            .map(|one| (one.path.file_name().unwrap().to_string_lossy().into(), one.class.as_str(), one.is_test))
            .collect();
        let expected =
            [("a.png", "cat", false), ("b.JPG", "cat", false), ("c.png", "dog", false), ("d.png", "cat", true)];
        assert_eq!(seen, expected.map(|(file, class, is_test)| (file.to_string(), class, is_test)));
        let reasons: Vec<&str> = found.left_out.iter().map(|one| &*one.reason).collect();
        assert_eq!(reasons, [".txt files", "folder without a picture (owl)"]);
        // Without a `train` beside it, a folder called `test` is a class.
        std::fs::remove_dir_all(dir.path().join("train")).unwrap();
        assert_eq!(in_folder(dir.path()).unwrap().pictures[0].class, "test");
    }
}
