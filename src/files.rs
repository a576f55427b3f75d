//! Reading files that somebody else wrote: regular files only, whole under a size cap or by range;
//! and writing files whole or not at all.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The largest JSON file that is read; the largest tokenizers in use are near 40 MB.
const MAX_JSON_BYTES: u64 = 512 << 20;

/// Opens a regular file (links are followed) and returns its length. The kind is looked at
/// before opening, because opening a FIFO blocks until somebody writes to it.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64)> {
    let kind = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.file_type();
    if !kind.is_file() {
        let found = if kind.is_dir() { "a folder" } else { "a device, pipe or socket" };
        return Err(Error::file(path, format!("is {found}; a regular file is expected")));
    }
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
    Ok((file, length))
}

/// Reads a whole JSON file as text.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let (mut file, length) = open_regular(path)?;
    if length > MAX_JSON_BYTES {
        return Err(Error::file(
            path,
            format!("is {length} bytes long; at most {MAX_JSON_BYTES} are accepted"),
        ));
    }
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.is_empty() {
        return Err(Error::file(path, "is empty"));
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::file(path, format!("is not UTF-8 text: invalid byte at offset {at}"))
    })
}

/// Writes a file that appears whole or not at all: the bytes go to a file beside it that is
/// renamed when complete. A target that is not a regular file (`/dev/full`, a pipe) is written
/// to directly.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            Err(Error::file(path, "is a folder; the name of a file to write is expected"))
        }
        Ok(found) if !found.is_file() => {
            std::fs::write(path, bytes).map_err(|e| Error::io(path, e))
        }
        // Through a link the file it names is replaced, not the link.
        Ok(_) => replace(&path.canonicalize().map_err(|e| Error::io(path, e))?, bytes),
        Err(_) => replace(path, bytes),
    }
}

fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = beside(path)?;
    let done = std::fs::write(&temporary, bytes)
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|e| Error::io(path, e));
    if done.is_err() {
        // The first error is the one to report; the file may not even exist.
        let _ = std::fs::remove_file(&temporary);
    }
    done
}

fn beside(path: &Path) -> Result<PathBuf> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| Error::file(path, "is not the name of a file"))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    let serial = NEXT.fetch_add(1, Ordering::Relaxed);
    temporary.push(format!(".{}-{serial}.tmp", std::process::id()));
    Ok(path.with_file_name(temporary))
}

/// Parses JSON text that was read from `path`.
pub(crate) fn parse_json(path: &Path, text: &str) -> Result<serde_json::Value> {
    if text.starts_with('\u{feff}') {
        return Err(Error::file(path, "begins with a byte-order mark; plain UTF-8 is expected"));
    }
    serde_json::from_str(text).map_err(|e| json_error(path, &e))
}

/// Reads and parses a whole JSON file.
pub(crate) fn read_json(path: &Path) -> Result<serde_json::Value> {
    parse_json(path, &read_text(path)?)
}

/// serde_json's complaint as the file's error, on one line.
pub(crate) fn json_error(path: &Path, error: &serde_json::Error) -> Error {
    Error::file(path, format!("is not the JSON expected: {}", one_line(&error.to_string())))
}

/// Text from a file made safe for a one-line message: control characters escaped, cut at about
/// 200 characters.
pub(crate) fn one_line(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        if c.is_control() || c == '\u{2028}' || c == '\u{2029}' {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// A JSON value as it appears in a message.
pub(crate) fn show(value: &serde_json::Value) -> String {
    // A large array or object is named, not printed: formatting it whole to cut it is waste.
    match value {
        serde_json::Value::Array(items) => format!("a list of {}", items.len()),
        serde_json::Value::Object(map) => format!("an object of {} keys", map.len()),
        other => one_line(&other.to_string()),
    }
}

/// Fills `buffer` from `offset` without moving a shared cursor, so that threads can read at once.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
    }
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            match std::os::windows::fs::FileExt::seek_read(file, &mut buffer[done..], at) {
                Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
