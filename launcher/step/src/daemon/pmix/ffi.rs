//! The part of libpmix's C interface that a server needs, by the PMIx Standard 4.2 (pmix_common.h, pmix_server.h of
//! OpenPMIx 4 and 5, whose binary interface is the same). The library is loaded when a step needs it, so that nothing
//! else depends on it.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

/// `PMIX_SUCCESS`.
pub(super) const SUCCESS: c_int = 0;
/// `PMIX_ERR_NOT_FOUND`.
pub(super) const NOT_FOUND: c_int = -46;

/// `PMIX_STRING`.
const STRING: u16 = 3;
/// `PMIX_UINT16`.
const UINT16: u16 = 13;
/// `PMIX_UINT32`.
const UINT32: u16 = 14;
/// `PMIX_INFO`.
const INFO: u16 = 24;
/// `PMIX_DATA_ARRAY`.
const DATA_ARRAY: u16 = 39;
/// `PMIX_PROC_RANK`.
const PROC_RANK: u16 = 40;

/// `PMIX_MAX_NSLEN` and its zero byte.
const NAMESPACE_BYTES: usize = 256;
/// `PMIX_MAX_KEYLEN` and its zero byte.
const KEY_BYTES: usize = 512;

/// More than any `pmix_server_module_t` has; what is not served is null.
const MODULE_FUNCTIONS: usize = 64;

/// `pmix_proc_t`.
#[repr(C)]
pub(super) struct Proc {
    pub namespace: [c_char; NAMESPACE_BYTES],
    pub rank: u32,
}

impl Proc {
    pub fn new(namespace: &CStr, rank: u32) -> Self {
        let mut proc = Self { namespace: [0; NAMESPACE_BYTES], rank };
        copy_text(namespace.to_bytes(), &mut proc.namespace);
        proc
    }
}

/// `pmix_value_t`: a type, and a union whose largest members have three words.
#[repr(C)]
struct Value {
    kind: u16,
    data: [u64; 3],
}

/// `pmix_info_t`.
#[repr(C)]
pub(super) struct Info {
    key: [c_char; KEY_BYTES],
    flags: u32,
    value: Value,
}

/// `pmix_data_array_t`.
#[repr(C)]
struct DataArray {
    kind: u16,
    size: usize,
    array: *mut c_void,
}

/// What an [`Info`] is made of.
pub(super) enum Datum {
    Text(String),
    U16(u16),
    U32(u32),
    Rank(u32),
    Array(Vec<(&'static str, Datum)>),
}

/// Infos, and the memory that they point to.
#[derive(Default)]
pub(super) struct Infos {
    pub all: Vec<Info>,
    texts: Vec<CString>,
    arrays: Vec<(Box<DataArray>, Infos)>,
}

impl Infos {
    pub fn of(pairs: Vec<(&'static str, Datum)>) -> Self {
        let mut infos = Self::default();
        for (key, datum) in pairs {
            let mut info = Info { key: [0; KEY_BYTES], flags: 0, value: Value { kind: 0, data: [0; 3] } };
            copy_text(key.as_bytes(), &mut info.key);
            (info.value.kind, info.value.data[0]) = match datum {
                Datum::Text(text) => {
                    // Names of hosts and folders hold no zero byte.
                    let text = CString::new(text).unwrap_or_default();
                    let pointer = text.as_ptr() as u64;
                    infos.texts.push(text);
                    (STRING, pointer)
                }
                Datum::U16(number) => (UINT16, word(&number.to_ne_bytes())),
                Datum::U32(number) => (UINT32, word(&number.to_ne_bytes())),
                Datum::Rank(number) => (PROC_RANK, word(&number.to_ne_bytes())),
                Datum::Array(pairs) => {
                    let mut inner = Self::of(pairs);
                    let mut array = Box::new(DataArray {
                        kind: INFO,
                        size: inner.all.len(),
                        array: inner.all.as_mut_ptr().cast(),
                    });
                    let pointer = &raw mut *array as u64;
                    infos.arrays.push((array, inner));
                    (DATA_ARRAY, pointer)
                }
            };
            infos.all.push(info);
        }
        infos
    }
}

/// A word that begins with these bytes, as the small members of a union do.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}

fn copy_text(text: &[u8], into: &mut [c_char]) {
    let end = into.len() - 1;
    for (to, from) in into[..end].iter_mut().zip(text) {
        *to = from.cast_signed();
    }
}

/// `pmix_op_cbfunc_t`.
pub(super) type OpDone = Option<unsafe extern "C" fn(c_int, *mut c_void)>;
/// `pmix_release_cbfunc_t`.
pub(super) type Release = Option<unsafe extern "C" fn(*mut c_void)>;
/// `pmix_modex_cbfunc_t`.
pub(super) type ModexDone =
    Option<unsafe extern "C" fn(c_int, *const c_char, usize, *mut c_void, Release, *mut c_void)>;
/// `pmix_server_client_connected_fn_t`, and that of `client_finalized`.
pub(super) type ClientFn = unsafe extern "C" fn(*const Proc, *mut c_void, OpDone, *mut c_void) -> c_int;
/// `pmix_server_abort_fn_t`.
pub(super) type AbortFn = unsafe extern "C" fn(
    *const Proc,
    *mut c_void,
    c_int,
    *const c_char,
    *mut Proc,
    usize,
    OpDone,
    *mut c_void,
) -> c_int;
/// `pmix_server_fencenb_fn_t`.
pub(super) type FenceFn = unsafe extern "C" fn(
    *const Proc,
    usize,
    *const Info,
    usize,
    *mut c_char,
    usize,
    ModexDone,
    *mut c_void,
) -> c_int;
/// `pmix_server_dmodex_req_fn_t`.
pub(super) type DirectModexFn =
    unsafe extern "C" fn(*const Proc, *const Info, usize, ModexDone, *mut c_void) -> c_int;

/// `pmix_server_module_t`, whose members all are pointers to functions.
#[repr(C)]
pub(super) struct Module {
    pub client_connected: Option<ClientFn>,
    pub client_finalized: Option<ClientFn>,
    pub abort: Option<AbortFn>,
    pub fence: Option<FenceFn>,
    pub direct_modex: Option<DirectModexFn>,
    pub rest: [Option<unsafe extern "C" fn()>; MODULE_FUNCTIONS],
}

/// The functions of the library.
pub(super) struct Library {
    pub server_init: unsafe extern "C" fn(*mut Module, *mut Info, usize) -> c_int,
    pub generate_regex: unsafe extern "C" fn(*const c_char, *mut *mut c_char) -> c_int,
    pub generate_ppn: unsafe extern "C" fn(*const c_char, *mut *mut c_char) -> c_int,
    pub register_nspace:
        unsafe extern "C" fn(*const c_char, c_int, *mut Info, usize, OpDone, *mut c_void) -> c_int,
    pub register_client: unsafe extern "C" fn(
        *const Proc,
        libc::uid_t,
        libc::gid_t,
        *mut c_void,
        OpDone,
        *mut c_void,
    ) -> c_int,
    pub setup_fork: unsafe extern "C" fn(*const Proc, *mut *mut *mut c_char) -> c_int,
    error_string: unsafe extern "C" fn(c_int) -> *const c_char,
}

/// The library's names: the one that programs are linked with, and that of development packages.
const NAMES: [&CStr; 2] = [c"libpmix.so.2", c"libpmix.so"];

impl Library {
    /// Loads the library.
    ///
    /// # Errors
    ///
    /// What the loader says.
    #[expect(clippy::missing_transmute_annotations, reason = "the fields have the types")]
    pub fn load() -> Result<Self, String> {
        let handle = NAMES.iter().find_map(|name| {
            // SAFETY: the name ends with a zero byte. The library's initialisers are those of any program linked with it.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
            (!handle.is_null()).then_some(handle)
        });
        let handle = handle.ok_or_else(loader_error)?;
        let symbol = |name: &CStr| {
            // SAFETY: the handle is open, and the name ends with a zero byte.
            let found = unsafe { libc::dlsym(handle, name.as_ptr()) };
            if found.is_null() { Err(loader_error()) } else { Ok(found) }
        };
        // SAFETY: the types are those of pmix_server.h and pmix.h.
        unsafe {
            Ok(Self {
                server_init: std::mem::transmute(symbol(c"PMIx_server_init")?),
                generate_regex: std::mem::transmute(symbol(c"PMIx_generate_regex")?),
                generate_ppn: std::mem::transmute(symbol(c"PMIx_generate_ppn")?),
                register_nspace: std::mem::transmute(symbol(c"PMIx_server_register_nspace")?),
                register_client: std::mem::transmute(symbol(c"PMIx_server_register_client")?),
                setup_fork: std::mem::transmute(symbol(c"PMIx_server_setup_fork")?),
                error_string: std::mem::transmute(symbol(c"PMIx_Error_string")?),
            })
        }
    }

    /// An error of the library, as a sentence.
    pub fn check(&self, what: &str, status: c_int) -> Result<(), String> {
        if status == SUCCESS {
            return Ok(());
        }
        // SAFETY: the answer is a constant text of the library.
        let text = unsafe { CStr::from_ptr((self.error_string)(status)) }.to_string_lossy();
        Err(format!("{what} failed: {text}"))
    }
}

fn loader_error() -> String {
    // SAFETY: the answer lasts until the next call of the loader in this thread, or is null.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "the loader does not say why".to_owned();
    }
    // SAFETY: it is not null and ends with a zero byte.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    #[test]
    fn structures_lie_as_the_c_compiler_lays_them() {
        assert_eq!((size_of::<Proc>(), offset_of!(Proc, rank)), (260, 256));
        assert_eq!((size_of::<Value>(), size_of::<Info>()), (32, 552));
        assert_eq!((offset_of!(Info, flags), offset_of!(Info, value)), (512, 520));
        assert_eq!(size_of::<DataArray>(), 24);
    }
}
