//! One stack a clone: whoever runs it holds a file lock, which the system gives back even after a kill.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};

/// Held for as long as a stack runs.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// What was found at the lock.
#[derive(Debug)]
pub(crate) enum Found {
    /// It is ours now.
    Free(Lock),
    /// A runner holds it; its process id, once it has written it.
    Held(Option<i32>),
}

/// Takes the lock of the stack in `directory`, or tells who holds it.
pub(crate) fn take(directory: &Path) -> Result<Found> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("making {}", directory.display()))?;
    let path = directory.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())?;
            Ok(Found::Free(Lock { _file: file }))
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok(Found::Held(text.trim().parse().ok()))
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("locking {}", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_holds_it_and_the_other_learns_who() {
        let directory =
            std::env::temp_dir().join(format!("crochet-dev-lock-{}", std::process::id()));
        let Found::Free(first) = take(&directory).unwrap() else {
            panic!("the first finds it free")
        };
        let Found::Held(Some(holder)) = take(&directory).unwrap() else {
            panic!("the second finds it held")
        };
        assert_eq!(u32::try_from(holder).unwrap(), std::process::id());
        drop(first);
        assert!(
            matches!(take(&directory).unwrap(), Found::Free(_)),
            "given back"
        );
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
