//! One error type for the whole library. Every message says what is wrong, where, and what to do about it.

use std::path::{Path, PathBuf};

/// What can go wrong, grouped by who can mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An op was called with shapes, types or devices that do not fit together.
    #[error("{op}: {message}")]
    Op {
        /// The op's name.
        op: &'static str,
        /// What does not fit.
        message: String,
    },

    /// Wrong use: an unknown name, an impossible combination of options. The program exits with 2.
    #[error("{0}")]
    Usage(String),

    /// A data or configuration file whose content is not what it should be.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },

    /// The operating system refused a file or folder.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as in "cannot read".
        action: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },

    /// No mirror gives a file.
    #[error("{0}")]
    Network(String),

    /// No adapter, a lost device, not enough device memory.
    #[error("{0}")]
    Device(String),

    /// Training cannot go on, for example because the loss is no longer a number.
    #[error("{0}")]
    Training(String),

    /// The user pressed Ctrl-C; what was finished is on disk. The program exits with 130.
    #[error("interrupted")]
    Interrupted,
}

/// The library's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An op's complaint about its arguments.
    pub fn op(op: &'static str, message: impl Into<String>) -> Error {
        Error::Op { op, message: message.into() }
    }

    /// Wrong use of a command or of an API.
    pub fn usage(message: impl Into<String>) -> Error {
        Error::Usage(message.into())
    }

    /// A file whose content is wrong.
    pub fn file(path: impl AsRef<Path>, message: impl Into<String>) -> Error {
        Error::File { path: path.as_ref().to_path_buf(), message: message.into() }
    }

    /// Wraps an I/O error with the path and what was tried, as in `.map_err(Error::io(path, "read"))`.
    pub fn io(path: impl AsRef<Path>, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { path, action, source }
    }

    /// The exit code of a program that ends with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Interrupted => 130,
            _ => 1,
        }
    }
}

/// What to add to the message about an unknown name: ` Did you mean 'icarl'?`, if one of those there are is near it; capitals and
/// hyphens do not count. Empty if none is.
///
/// ```
/// use engram::error::did_you_mean;
/// assert_eq!(did_you_mean("iCaRL", &["icarl", "er"]), ". Did you mean 'icarl'?");
/// assert_eq!(did_you_mean("cifar100", &["mnist", "cifar-10", "cifar-100"]), ". Did you mean 'cifar-100'?");
/// assert_eq!(did_you_mean("imagenet", &["mnist"]), "");
/// ```
pub fn did_you_mean(name: &str, known: &[&str]) -> String {
    nearest(name, known).map_or(String::new(), |nearest| format!(". Did you mean '{nearest}'?"))
}

/// The row of this name.
///
/// # Errors
/// [`Error::Usage`] if there is none; the message lists those there are.
pub(crate) fn by_name<'a, T>(
    what: &str,
    name: &str,
    rows: impl IntoIterator<Item = &'a T>,
    name_of: fn(&T) -> &'static str,
) -> Result<&'a T> {
    let rows: Vec<&T> = rows.into_iter().collect();
    rows.iter().find(|row| name_of(row) == name).copied().ok_or_else(|| {
        let known: Vec<&str> = rows.iter().map(|row| name_of(row)).collect();
        Error::usage(format!("unknown {what} '{name}': there are {}{}", known.join(", "), did_you_mean(name, &known)))
    })
}

/// The name that somebody will have meant.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| -> Vec<char> { text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect() };
    let own = plain(name);
    let distance = |other: &&&str| {
        let other = plain(other);
        let begins = own.len() >= 3 && other.starts_with(&own);
        if begins { usize::from(other != own) } else { edits(&own, &other) }
    };
    known.iter().min_by_key(distance).filter(|other| distance(other) <= own.len() / 4).copied()
}

/// Characters to be inserted, removed or replaced to make one text of another.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut before = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = before + usize::from(x != y);
            before = row[j + 1];
            row[j + 1] = replaced.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
