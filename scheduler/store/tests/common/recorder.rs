//! Records what SQLite writes and syncs, by standing between it and its own file layer.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, Once};

use rusqlite::ffi;

/// A file of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum File {
    Database,
    Log,
}

/// Something that was done, in order.
#[derive(Debug, Clone)]
pub enum Step {
    Write {
        file: File,
        offset: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        file: File,
        len: usize,
    },
    Sync {
        file: File,
    },
    /// So many batches have been acknowledged.
    Acknowledged(usize),
}

struct Open {
    file: File,
    methods: &'static ffi::sqlite3_io_methods,
}

#[derive(Default)]
struct Recorder {
    /// Open files by the address of SQLite's record of them.
    open: HashMap<usize, Open>,
    /// The name below which files are recorded while there is one.
    database: Option<String>,
    steps: Vec<Step>,
}

static RECORDER: Mutex<Option<Recorder>> = Mutex::new(None);

fn recorder() -> MutexGuard<'static, Option<Recorder>> {
    RECORDER.lock().unwrap()
}

/// Begins to record what happens to the files of `database`; connections must be opened after this.
pub fn begin(database: &Path) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(install);
    let database = Some(database.to_str().unwrap().to_owned());
    *recorder() = Some(Recorder { database, ..Recorder::default() });
}

/// Forgets what was recorded so far.
pub fn forget() {
    recorder().as_mut().unwrap().steps.clear();
}

/// Notes that everything before has been acknowledged.
pub fn acknowledged(batches: usize) {
    recorder().as_mut().unwrap().steps.push(Step::Acknowledged(batches));
}

/// Ends the recording and gives it.
pub fn end() -> Vec<Step> {
    let mut recorder = recorder();
    let recorder = recorder.as_mut().unwrap();
    recorder.database = None;
    std::mem::take(&mut recorder.steps)
}

/// Makes a copy of SQLite's own file layer the default one, in which only the opening of files differs.
fn install() {
    // SAFETY: SQLite's own layer lives as long as the process, and so does the copy.
    unsafe {
        let own = ffi::sqlite3_vfs_find(std::ptr::null());
        let mut layer = *own;
        layer.zName = c"recording".as_ptr();
        layer.xOpen = Some(open);
        assert_eq!(ffi::sqlite3_vfs_register(Box::leak(Box::new(layer)), 1), ffi::SQLITE_OK);
    }
}

unsafe extern "C" fn open(
    _layer: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: the arguments are passed on as they come, to the layer whose copy this is; `file` is open afterwards if
    // it says so, and its methods are static tables. A name that is not null ends with a zero.
    unsafe {
        let own = ffi::sqlite3_vfs_find(c"unix".as_ptr());
        let opened = (*own).xOpen.unwrap()(own, name, file, flags, out);
        if opened != ffi::SQLITE_OK || name.is_null() {
            return opened;
        }
        let name = std::ffi::CStr::from_ptr(name).to_str().unwrap();
        let mut recorder = recorder();
        let Some(recorder) = recorder.as_mut() else { return opened };
        let Some(rest) = recorder.database.as_deref().and_then(|database| name.strip_prefix(database)) else {
            return opened;
        };
        let kind = match rest {
            "" => File::Database,
            "-wal" => File::Log,
            _ => return opened,
        };
        let methods = &*(*file).pMethods;
        recorder.open.insert(file as usize, Open { file: kind, methods });
        let mut recording = *methods;
        recording.xWrite = Some(write);
        recording.xTruncate = Some(truncate);
        recording.xSync = Some(sync);
        recording.xClose = Some(close);
        (*file).pMethods = Box::leak(Box::new(recording));
        opened
    }
}

/// The file's own methods; what was done with it is recorded, unless that has ended.
fn with(file: *mut ffi::sqlite3_file, step: impl FnOnce(File) -> Step) -> &'static ffi::sqlite3_io_methods {
    let mut recorder = recorder();
    let recorder = recorder.as_mut().unwrap();
    let open = &recorder.open[&(file as usize)];
    if recorder.database.is_some() {
        recorder.steps.push(step(open.file));
    }
    open.methods
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    count: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite gives `count` bytes at `bytes`; the rest is passed on as it comes.
    unsafe {
        let copy = std::slice::from_raw_parts(bytes.cast::<u8>(), count as usize).to_vec();
        let own = with(file, |file| Step::Write { file, offset: offset as usize, bytes: copy });
        own.xWrite.unwrap()(file, bytes, count, offset)
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // SAFETY: the arguments are passed on as they come.
    unsafe {
        let own = with(file, |file| Step::Truncate { file, len: size as usize });
        own.xTruncate.unwrap()(file, size)
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: the arguments are passed on as they come. What others write meanwhile counts as not synced, because it
    // comes later.
    unsafe {
        let own = with(file, |file| Step::Sync { file });
        own.xSync.unwrap()(file, flags)
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let open = recorder().as_mut().unwrap().open.remove(&(file as usize)).unwrap();
    // SAFETY: the file is open, and closed here.
    unsafe { open.methods.xClose.unwrap()(file) }
}
