//! PMIx for the ranks of one node, by the server side of libpmix.
//!
//! The library has a thread of its own, in which it calls back. What it calls is put into a queue, and an event wakes
//! the daemon's loop, which does the rest. Exchanges go through the starter, as those of PMI do.

mod ffi;

use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

use self::ffi::{Datum, Info, Infos, Library, ModexDone, Module, NOT_FOUND, OpDone, Proc, SUCCESS};
use crate::frames::{Common, Own};
use crate::words::DaemonStart;

/// Something that the library's thread has seen.
pub(in crate::daemon) enum Call {
    /// A rank has begun.
    Connected(u32),
    /// A rank has said its last word.
    Finalized(u32),
    /// A rank asks that the step ends.
    Abort {
        /// The rank.
        rank: u32,
        /// The exit status that it asks for.
        code: i32,
        /// What it says.
        message: String,
    },
    /// All ranks of the node are in the barrier, with these bytes.
    Fence {
        /// What the node brings.
        bytes: Vec<u8>,
        /// To be answered with what all nodes have brought.
        answer: FenceAnswer,
    },
}

/// How the library is told that a barrier is over.
pub(in crate::daemon) struct FenceAnswer {
    done: ModexDone,
    data: *mut c_void,
}

// SAFETY: the library gives the pointer to be given back from any thread.
unsafe impl Send for FenceAnswer {}

/// Where the library's thread leaves what it has seen.
struct Shared {
    calls: Mutex<VecDeque<Call>>,
    wake: EventFd,
}

static SHARED: OnceLock<Shared> = OnceLock::new();

/// A call that is waited for.
struct Wait {
    status: Mutex<Option<c_int>>,
    changed: Condvar,
}

/// The server of one node.
pub(in crate::daemon) struct Server {
    library: Library,
    shared: &'static Shared,
    namespace: CString,
    folder: PathBuf,
    /// The library keeps pointers to these.
    _module: Box<Module>,
}

impl Server {
    /// Starts the library's server and registers the ranks of the step.
    ///
    /// # Errors
    ///
    /// A sentence with what the library says.
    pub fn start(start: &DaemonStart, common: &Common, own: &Own) -> Result<Self, String> {
        let library = Library::load()?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let wake = wake.map_err(|error| format!("no event can be made: {error}"))?;
        let shared = SHARED.get_or_init(|| Shared { calls: Mutex::default(), wake });
        let folder = PathBuf::from(&start.attempt_dir).join(format!("pmix.{}", start.step));
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        let namespace = CString::new(format!("slurm.pmix.{}.{}", start.job, start.step)).unwrap_or_default();
        let mut module = Box::new(Module {
            client_connected: Some(client_connected),
            client_finalized: Some(client_finalized),
            abort: Some(abort),
            fence: Some(fence),
            direct_modex: Some(direct_modex),
            rest: [None; _],
        });
        let path = folder.display().to_string();
        let mut infos = Infos::of(vec![
            ("pmix.srvr.tmpdir", Datum::Text(path.clone())),
            ("pmix.sys.tmpdir", Datum::Text(path)),
        ]);
        // SAFETY: module and infos live through the call, the module for as long as the server does.
        let status =
            unsafe { (library.server_init)(&raw mut *module, infos.all.as_mut_ptr(), infos.all.len()) };
        library.check("PMIx_server_init", status)?;
        let server = Self { library, shared, namespace, folder, _module: module };
        server.register(common, own)?;
        Ok(server)
    }

    fn register(&self, common: &Common, own: &Own) -> Result<(), String> {
        let ranks_of = |node: u32| {
            let of_node = common.node_of_rank.iter().enumerate().filter(|(_, of_rank)| **of_rank == node);
            of_node.map(|(rank, _)| rank.to_string()).collect::<Vec<_>>().join(",")
        };
        let per_node: Vec<String> = (0..common.hosts.len() as u32).map(ranks_of).collect();
        let node_map = self.generate(self.library.generate_regex, &common.hosts.join(","))?;
        let proc_map = self.generate(self.library.generate_ppn, &per_node.join(";"))?;
        let (size, local) = (common.ntasks, own.tasks.len() as u32);
        let folder = self.folder.display().to_string();
        let mut pairs = vec![
            ("pmix.univ.size", Datum::U32(size)),
            ("pmix.job.size", Datum::U32(size)),
            ("pmix.max.size", Datum::U32(size)),
            ("pmix.local.size", Datum::U32(local)),
            ("pmix.node.size", Datum::U32(local)),
            ("pmix.num.nodes", Datum::U32(common.hosts.len() as u32)),
            ("pmix.lpeers", Datum::Text(per_node[own.position as usize].clone())),
            ("pmix.lldr", Datum::Rank(own.tasks.first().map_or(0, |task| task.rank))),
            ("pmix.appnum", Datum::U32(0)),
            ("pmix.jobid", Datum::Text(self.namespace.to_string_lossy().into_owned())),
            ("pmix.tmpdir", Datum::Text(folder.clone())),
            ("pmix.nsdir", Datum::Text(folder)),
            ("pmix.nmap", Datum::Text(node_map)),
            ("pmix.pmap", Datum::Text(proc_map)),
        ];
        let mut local_ranks = vec![0u16; common.hosts.len()];
        for (rank, node) in common.node_of_rank.iter().enumerate() {
            let (rank, local_rank) = (rank as u32, &mut local_ranks[*node as usize]);
            pairs.push((
                "pmix.pdata",
                Datum::Array(vec![
                    ("pmix.rank", Datum::Rank(rank)),
                    ("pmix.grank", Datum::Rank(rank)),
                    ("pmix.lrank", Datum::U16(*local_rank)),
                    ("pmix.nrank", Datum::U16(*local_rank)),
                    ("pmix.hname", Datum::Text(common.hosts[*node as usize].clone())),
                    ("pmix.nodeid", Datum::U32(*node)),
                ]),
            ));
            *local_rank += 1;
        }
        let mut infos = Infos::of(pairs);
        let status = wait_for(|done, data| {
            // SAFETY: all memory lives until the library has called back.
            unsafe {
                (self.library.register_nspace)(
                    self.namespace.as_ptr(),
                    own.tasks.len() as c_int,
                    infos.all.as_mut_ptr(),
                    infos.all.len(),
                    done,
                    data,
                )
            }
        });
        self.library.check("PMIx_server_register_nspace", status)
    }

    fn generate(
        &self,
        function: unsafe extern "C" fn(*const c_char, *mut *mut c_char) -> c_int,
        list: &str,
    ) -> Result<String, String> {
        let list = CString::new(list).map_err(|_| "a host's name holds a zero byte".to_owned())?;
        let mut text: *mut c_char = std::ptr::null_mut();
        // SAFETY: both pointers are valid; the answer is a text that the caller frees.
        unsafe {
            let status = function(list.as_ptr(), &raw mut text);
            self.library.check("the map of ranks", status)?;
            let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
            libc::free(text.cast());
            Ok(copy)
        }
    }

    /// Registers a rank that is about to start, and gives the variables that it needs.
    ///
    /// # Errors
    ///
    /// A sentence with what the library says.
    pub fn variables_of(&self, rank: u32) -> Result<Vec<(String, String)>, String> {
        let proc = Proc::new(&self.namespace, rank);
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        let status = wait_for(|done, data| {
            // SAFETY: all memory lives until the library has called back.
            unsafe {
                (self.library.register_client)(&raw const proc, uid, gid, std::ptr::null_mut(), done, data)
            }
        });
        self.library.check("PMIx_server_register_client", status)?;
        let mut list: *mut *mut c_char = std::ptr::null_mut();
        // SAFETY: the library makes the list, of texts `NAME=value` up to a null pointer.
        let status = unsafe { (self.library.setup_fork)(&raw const proc, &raw mut list) };
        self.library.check("PMIx_server_setup_fork", status)?;
        let mut variables = Vec::new();
        let mut next = list;
        // SAFETY: as above; texts and list are the caller's to free.
        unsafe {
            while !next.is_null() && !(*next).is_null() {
                let text = CStr::from_ptr(*next).to_string_lossy();
                variables
                    .extend(text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
                libc::free((*next).cast());
                next = next.add(1);
            }
            libc::free(list.cast());
        }
        Ok(variables)
    }

    /// What the library's thread has seen since the last time.
    pub fn take(&self) -> VecDeque<Call> {
        let _nothing_yet = self.shared.wake.read();
        std::mem::take(&mut *self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ready to read when there is something to take.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The library is not told to end: where clients were killed, `PMIx_server_finalize` of 4.2 can wait for ever for
        // a lock of its own. The process ends next.
        let _nothing_of_it_is_left = std::fs::remove_dir_all(&self.folder);
    }
}

impl FenceAnswer {
    /// Tells the library what all nodes have brought.
    pub fn give(self, bytes: Vec<u8>) {
        let Some(done) = self.done else { return };
        let held = Box::new(bytes);
        let (pointer, length) = (held.as_ptr(), held.len());
        // SAFETY: the bytes live until the library releases them.
        unsafe {
            done(SUCCESS, pointer.cast(), length, self.data, Some(release), Box::into_raw(held).cast())
        };
    }
}

unsafe extern "C" fn release(held: *mut c_void) {
    // SAFETY: it is the box that was given with the bytes.
    drop(unsafe { Box::from_raw(held.cast::<Vec<u8>>()) });
}

/// Calls the library and waits until it has called back.
fn wait_for(call: impl FnOnce(OpDone, *mut c_void) -> c_int) -> c_int {
    let wait = Wait { status: Mutex::new(None), changed: Condvar::new() };
    let status = call(Some(waited), (&raw const wait).cast_mut().cast());
    if status != SUCCESS {
        return status;
    }
    let mut answered = wait.status.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(status) = *answered {
            return status;
        }
        answered = wait.changed.wait(answered).unwrap_or_else(PoisonError::into_inner);
    }
}

unsafe extern "C" fn waited(status: c_int, data: *mut c_void) {
    // SAFETY: it is the one that waits, which lives until it has been told.
    let wait = unsafe { &*data.cast::<Wait>() };
    let mut answered = wait.status.lock().unwrap_or_else(PoisonError::into_inner);
    *answered = Some(status);
    wait.changed.notify_one();
}

/// Leaves a call for the daemon's loop.
fn leave(call: Call) {
    if let Some(shared) = SHARED.get() {
        shared.calls.lock().unwrap_or_else(PoisonError::into_inner).push_back(call);
        let _it_is_awake = shared.wake.write(1);
    }
}

fn answer_now(done: OpDone, data: *mut c_void) -> c_int {
    if let Some(done) = done {
        // SAFETY: the library gives the pointer to be given back.
        unsafe { done(SUCCESS, data) };
    }
    SUCCESS
}

unsafe extern "C" fn client_connected(
    proc: *const Proc,
    _: *mut c_void,
    done: OpDone,
    data: *mut c_void,
) -> c_int {
    // SAFETY: the library gives a valid process.
    leave(Call::Connected(unsafe { (*proc).rank }));
    answer_now(done, data)
}

unsafe extern "C" fn client_finalized(
    proc: *const Proc,
    _: *mut c_void,
    done: OpDone,
    data: *mut c_void,
) -> c_int {
    // SAFETY: the library gives a valid process.
    leave(Call::Finalized(unsafe { (*proc).rank }));
    answer_now(done, data)
}

unsafe extern "C" fn abort(
    proc: *const Proc,
    _: *mut c_void,
    status: c_int,
    message: *const c_char,
    _: *mut Proc,
    _: usize,
    done: OpDone,
    data: *mut c_void,
) -> c_int {
    let message = if message.is_null() {
        String::new()
    } else {
        // SAFETY: it is not null and ends with a zero byte.
        unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned()
    };
    // SAFETY: the library gives a valid process.
    leave(Call::Abort { rank: unsafe { (*proc).rank }, code: status, message });
    answer_now(done, data)
}

unsafe extern "C" fn fence(
    _: *const Proc,
    _: usize,
    _: *const Info,
    _: usize,
    bytes: *mut c_char,
    length: usize,
    done: ModexDone,
    data: *mut c_void,
) -> c_int {
    let copy = if bytes.is_null() {
        Vec::new()
    } else {
        // SAFETY: the library gives so many bytes.
        unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), length) }.to_vec()
    };
    leave(Call::Fence { bytes: copy, answer: FenceAnswer { done, data } });
    SUCCESS
}

/// Ranks bring all that others need to the barrier, so nothing is asked for later.
unsafe extern "C" fn direct_modex(
    _: *const Proc,
    _: *const Info,
    _: usize,
    _: ModexDone,
    _: *mut c_void,
) -> c_int {
    NOT_FOUND
}
