//! Whether the files of a known data set are those that were published, told from their content: several data sets share their
//! file names and lengths. Only a file of a published length is looked at, so data of one's own in the same format stay free.

use super::files::{FileSpec, md5_of, recorded_sum};
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::path::Path;

/// Refuses a file of `own` that is published as one of another data set, or that has the published length and other content.
/// `others` are the names and files of the other data sets. It costs an MD5 of each file, some 2 ms for a MB.
pub(super) fn check<'a>(
    name: &str,
    own: &[FileSpec],
    others: impl Iterator<Item = (&'a str, &'a [FileSpec])>,
    dir: &Path,
) -> Result<()> {
    let others: Vec<(&str, &[FileSpec])> = others.collect();
    own.par_iter().map(|file| check_file(name, file, &others, dir)).collect()
}

fn check_file(name: &str, file: &FileSpec, others: &[(&str, &[FileSpec])], dir: &Path) -> Result<()> {
    let Some(path) = file.find(dir) else { return Ok(()) };
    let is_gz = path.extension().is_some_and(|extension| extension == "gz");
    let length = path.metadata().map_err(Error::io(&path, "read"))?.len();
    let published = |file: &FileSpec| match (file.gz, is_gz) {
        (Some(gz), true) => (gz.bytes, Some(gz.md5.to_string())),
        _ => (file.bytes, file.md5.map(String::from)),
    };
    let (own_length, own_sum) = published(file);
    let own_sum = own_sum.or(if is_gz { None } else { recorded_sum(dir, file.name)? });
    let of_others = others.iter().flat_map(|(other, files)| files.iter().map(move |file| (*other, file)));
    let candidates: Vec<(&str, String)> = of_others
        .filter(|(_, other)| other.name == file.name)
        .filter_map(|(other, file)| Some((other, published(file))).filter(|(_, (bytes, _))| *bytes == length))
        .filter_map(|(other, (_, sum))| Some((other, sum?)))
        .collect();
    let own_sum = own_sum.filter(|_| own_length == length);
    if candidates.is_empty() && own_sum.is_none() {
        return Ok(());
    }
    let found = md5_of(&path)?;
    if own_sum.as_ref() == Some(&found) {
        return Ok(());
    }
    if let Some((other, _)) = candidates.iter().find(|(_, sum)| *sum == found) {
        return Err(Error::file(
            &path,
            format!("this is the file of \"{other}\", not of \"{name}\"; keep them in folders apart"),
        ));
    }
    match own_sum {
        None => Ok(()),
        Some(sum) => Err(Error::file(
            &path,
            format!(
                "as long as the published file of \"{name}\", but with other content (MD5 {found}, not {sum}): it is damaged, or \
                 another data set's. `engram datasets fetch {name}` gets the right one"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::files::{Published, md5_of_bytes};

    #[test]
    fn files_are_told_apart_by_content() {
        let dir = tempfile::tempdir().unwrap();
        let sum = |text: &str| -> &'static str { md5_of_bytes(text.as_bytes()).leak() };
        let file = |plain: &str, packed: &str| FileSpec {
            name: "images",
            bytes: plain.len() as u64,
            md5: Some(sum(plain)),
            gz: Some(Published { bytes: packed.len() as u64, md5: sum(packed) }),
        };
        let (digits, clothes) = ([file("digits", "DIGITS.")], [file("shirts", "SHIRTS!")]);
        let (plain, packed) = (dir.path().join("images"), dir.path().join("images.gz"));
        let check = || check("clothes", &clothes, [("digits", &digits[..])].into_iter(), dir.path());
        let refused = |words: &str| {
            let message = check().unwrap_err().to_string();
            assert!(message.contains(words) && message.contains("images"), "{message}");
        };
        std::fs::write(&packed, "SHIRTS!").unwrap();
        check().unwrap();
        std::fs::write(&packed, "DIGITS.").unwrap();
        refused("the file of \"digits\"");
        std::fs::write(&packed, "SHI\0\0\0\0").unwrap();
        refused("other content");
        std::fs::write(&plain, "shirts").unwrap();
        check().unwrap();
        std::fs::write(&plain, "digits").unwrap();
        refused("the file of \"digits\"");
        std::fs::write(&plain, "data of one's own").unwrap();
        check().unwrap();
    }
}
