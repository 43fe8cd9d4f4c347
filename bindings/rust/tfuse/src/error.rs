// SPDX-License-Identifier: Apache-2.0
//! Statuses and errors.

use crate::sys;
use std::ffi::{CStr, CString};
use std::fmt;
use std::os::raw::c_char;

/// What a call failed with; `text` is one line that names the file, tensor or key and says what to do.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    status: Status,
    text: String,
}

/// `Ok`, or the library's error.
pub type Result<T> = std::result::Result<T, Error>;

/// A status code. A newer library may give codes that have no name here: take them as failure.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(pub i32);

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $code:ident;)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Status = Status(sys::$code);)*
        }
    };
}

statuses! {
    /// An argument that the caller could have checked.
    EINVAL = TFUSE_EINVAL;
    /// The allocator had no more.
    ENOMEM = TFUSE_ENOMEM;
    /// A number out of its bounds.
    ERANGE = TFUSE_ERANGE;
    /// Not now: a sealed model, an unfinished graph, a call from a callback.
    ESTATE = TFUSE_ESTATE;
    /// Known, but not by this build or not for this input.
    EUNSUPPORTED = TFUSE_EUNSUPPORTED;
    /// A canceller or a progress closure said so.
    ECANCELLED = TFUSE_ECANCELLED;
    /// A function of the caller's failed.
    ECALLBACK = TFUSE_ECALLBACK;
    /// An unknown policy key, or a value that the key does not take.
    EKEY = TFUSE_EKEY;
    /// The operating system refused.
    EIO = TFUSE_EIO;
    /// A file that is not what it should be.
    EFORMAT = TFUSE_EFORMAT;
    /// A file whose checksum or sizes are wrong.
    ECORRUPT = TFUSE_ECORRUPT;
    /// A file or table of a newer version.
    EVERSION = TFUSE_EVERSION;
    /// The output exists.
    EEXIST = TFUSE_EEXIST;
    /// No such tensor, node, file or name.
    ENOTFOUND = TFUSE_ENOTFOUND;
    /// Shapes that do not fit.
    ESHAPE = TFUSE_ESHAPE;
    /// A data type that is not taken here.
    EDTYPE = TFUSE_EDTYPE;
    /// A graph that contradicts itself, or graphs that do not pair.
    EGRAPH = TFUSE_EGRAPH;
    /// NaN or infinity, or a factorisation that failed.
    ENUMERIC = TFUSE_ENUMERIC;
    /// An iteration that did not reach its tolerance.
    ECONVERGE = TFUSE_ECONVERGE;
    /// A defect of the library.
    EINTERNAL = TFUSE_EINTERNAL;
}

impl Status {
    /// Its name in C, such as `TFUSE_EFORMAT`.
    pub fn name(self) -> &'static str {
        unsafe { text(sys::tfuse_status_name(self.0)) }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())
    }
}

impl Error {
    /// An error of this crate's or a caller's own.
    pub fn new(status: Status, text: impl Into<String>) -> Error {
        Error { status, text: text.into() }
    }
    /// The status code.
    pub fn status(&self) -> Status {
        self.status
    }
    /// The library's line.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.status, self.text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

/// A string for C; a NUL inside is an error that names the argument.
pub(crate) fn c_string(what: &str, text: impl Into<Vec<u8>>) -> Result<CString> {
    CString::new(text).map_err(|_| Error::new(Status::EINVAL, format!("{what} holds a NUL character")))
}

/// A path for C.
pub(crate) fn c_path(path: impl AsRef<std::path::Path>) -> Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    c_string("the path", path.as_ref().as_os_str().as_bytes())
}

/// A string of the library's: UTF-8, "" for NULL.
///
/// # Safety
/// `p` is NULL or a string that lives as long as 'a.
pub(crate) unsafe fn text<'a>(p: *const c_char) -> &'a str {
    if p.is_null() {
        ""
    } else {
        CStr::from_ptr(p).to_str().unwrap_or("?")
    }
}

/// A string that the library hands over.
///
/// # Safety
/// `p` is NULL or a string for tfuse_string_free.
pub(crate) unsafe fn owned_text(p: *mut c_char) -> String {
    let copy = if p.is_null() { String::new() } else { CStr::from_ptr(p).to_string_lossy().into_owned() };
    sys::tfuse_string_free(p);
    copy
}
