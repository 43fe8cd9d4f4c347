// SPDX-License-Identifier: Apache-2.0
//! The context that every call gets, and what a caller hangs on it: log, progress, threads, cancelling.

use crate::error::{c_path, text, Error, Result, Status};
use crate::sys;
use std::any::Any;
use std::marker::PhantomData;
use std::mem::size_of;
use std::ops::ControlFlow;
use std::os::raw::{c_char, c_void};
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

enum Failure {
    Panic(Box<dyn Any + Send>),
    Error(Error),
}

/// A closure's panic or error, on its way through the library.
#[derive(Clone, Default)]
pub(crate) struct Caught(Arc<Mutex<Option<Failure>>>);

impl Caught {
    /// Runs a closure; a panic is kept, and None returned.
    pub(crate) fn guard<T>(&self, body: impl FnOnce() -> T) -> Option<T> {
        catch_unwind(AssertUnwindSafe(body)).map_err(|panic| self.keep(Failure::Panic(panic))).ok()
    }
    pub(crate) fn keep_error(&self, error: Error) {
        self.keep(Failure::Error(error));
    }
    fn keep(&self, failure: Failure) {
        if let Ok(mut slot) = self.0.lock() {
            slot.get_or_insert(failure);
        }
    }
    fn go_on(&self) -> Option<Error> {
        let failure = self.0.lock().ok().and_then(|mut slot| slot.take());
        match failure {
            Some(Failure::Panic(panic)) => resume_unwind(panic),
            Some(Failure::Error(error)) => Some(error),
            None => None,
        }
    }
}

struct Inner(*mut sys::tfuse_ctx);

// Another thread than the context's own only cancels, which any may, or frees when it is the last.
unsafe impl Send for Inner {}
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        unsafe { sys::tfuse_ctx_free(self.0) }
    }
}

/// A context: threads, log, progress, cancellation, text of the last error. One thread uses it at a time.
///
/// ```compile_fail
/// fn shared<T: Sync>(_: T) {}
/// shared(tfuse::Context::new().unwrap()); // each thread has a context of its own
/// ```
pub struct Context {
    inner: Arc<Inner>,
    pub(crate) caught: Caught,
    hooks: Vec<Box<dyn Any + Send>>,
    not_sync: PhantomData<*const ()>,
}

// It may move between threads from call to call; its closures are Send.
unsafe impl Send for Context {}

/// Makes a running call end with [`Status::ECANCELLED`], from any thread; or the next one when none runs.
#[derive(Clone)]
pub struct Canceller(Arc<Inner>);

impl Canceller {
    /// One atomic store.
    pub fn cancel(&self) {
        unsafe { sys::tfuse_ctx_cancel(self.0 .0) }
    }
}

/// How far a long call has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// What is being done, e.g. "statistics".
    pub stage: &'a str,
    /// Units done.
    pub done: u64,
    /// Units in all; 0 when not known.
    pub total: u64,
}

/// How urgent a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Level {
    /// What made a call fail.
    Error = sys::TFUSE_LOG_ERROR,
    /// What the caller may want to know.
    Warn = sys::TFUSE_LOG_WARN,
    /// What is being done.
    Info = sys::TFUSE_LOG_INFO,
    /// Details.
    Debug = sys::TFUSE_LOG_DEBUG,
}

/// Bytes that came from the context's allocator.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// In use now.
    pub live: u64,
    /// The most that ever was in use at once.
    pub peak: u64,
}

/// Threads of the caller's.
pub trait Executor: Send + Sync {
    /// How many bodies may run at once; at least 1.
    fn concurrency(&self) -> u32;
    /// Calls `body(i)` for every `i < n`, on any threads and in any order, and returns when all are done. What it leaves out, or leaves by a
    /// panic, is made up for on the calling thread.
    fn parallel_for(&self, n: u32, body: &(dyn Fn(u32) + Sync));
}

impl<E: Executor + ?Sized> Executor for Arc<E> {
    fn concurrency(&self) -> u32 {
        (**self).concurrency()
    }
    fn parallel_for(&self, n: u32, body: &(dyn Fn(u32) + Sync)) {
        (**self).parallel_for(n, body)
    }
}

type LogFn = Box<dyn FnMut(Level, &str) + Send>;
type ProgressFn = Box<dyn FnMut(&Progress<'_>) -> ControlFlow<()> + Send>;

/// A closure behind a `user` pointer: the library alone looks at it while it is set.
struct Hook<T> {
    caught: Caught,
    body: T,
}

/// Memory that the library has a pointer to.
struct Held<T>(*mut T);
unsafe impl<T: Send> Send for Held<T> {}
impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        drop(unsafe { Box::from_raw(self.0) })
    }
}

unsafe extern "C" fn log_line(user: *mut c_void, level: i32, line: *const c_char) {
    let hook = &mut *(user as *mut Hook<LogFn>);
    let level = match level {
        sys::TFUSE_LOG_ERROR => Level::Error,
        sys::TFUSE_LOG_WARN => Level::Warn,
        sys::TFUSE_LOG_INFO => Level::Info,
        _ => Level::Debug,
    };
    let body = &mut hook.body;
    hook.caught.guard(|| body(level, text(line)));
}

unsafe extern "C" fn step(user: *mut c_void, progress: *const sys::tfuse_progress) -> i32 {
    let hook = &mut *(user as *mut Hook<ProgressFn>);
    let p = Progress { stage: text((*progress).stage), done: (*progress).done, total: (*progress).total };
    let body = &mut hook.body;
    match hook.caught.guard(|| body(&p)) {
        Some(ControlFlow::Continue(())) => 0,
        _ => 1,
    }
}

struct Threads {
    caught: Caught,
    executor: Box<dyn Executor>,
}

/// The library's body is called once for each index whatever the executor does.
unsafe extern "C" fn parallel_for(user: *mut c_void, n: u32, body: Option<unsafe extern "C" fn(*mut c_void, u32)>, arg: *mut c_void) {
    struct Arg(*mut c_void);
    unsafe impl Sync for Arg {}
    impl Arg {
        fn get(&self) -> *mut c_void {
            self.0
        }
    }
    let threads = &*(user as *const Threads);
    let body = match body {
        Some(body) => body,
        None => return,
    };
    let arg = Arg(arg);
    let done: Vec<AtomicBool> = (0..n).map(|_| AtomicBool::new(false)).collect();
    let once = |i: u32| {
        if let Some(flag) = done.get(i as usize) {
            if !flag.swap(true, Ordering::AcqRel) {
                body(arg.get(), i);
            }
        }
    };
    threads.caught.guard(|| threads.executor.parallel_for(n, &once));
    (0..n).for_each(once);
}

impl Context {
    /// A context of one thread, without log and progress.
    pub fn new() -> Result<Context> {
        let mut raw = ptr::null_mut();
        let status = unsafe { sys::tfuse_ctx_new(ptr::null(), &mut raw) };
        if status != sys::TFUSE_OK {
            return Err(Error::new(Status(status), "no context could be made"));
        }
        Ok(Context { inner: Arc::new(Inner(raw)), caught: Caught::default(), hooks: Vec::new(), not_sync: PhantomData })
    }

    pub(crate) fn raw(&self) -> *mut sys::tfuse_ctx {
        self.inner.0
    }

    /// What a call returned: a panic of a closure goes on, an error gets the library's text.
    pub(crate) fn check(&self, status: sys::tfuse_status) -> Result<()> {
        let own = self.caught.go_on();
        if status == sys::TFUSE_OK {
            return Ok(());
        }
        if let Some(error) = own {
            return Err(error);
        }
        let line = unsafe { text(sys::tfuse_ctx_error(self.raw())) };
        let status = Status(status);
        Err(Error::new(status, if line.is_empty() { status.name() } else { line }))
    }

    /// A handle that other threads cancel by.
    pub fn canceller(&self) -> Canceller {
        Canceller(self.inner.clone())
    }

    /// Threads that calls may use, the calling one included; 0: one for each core. Results do not depend on it, to the bit.
    pub fn set_threads(&mut self, n: u32) -> Result<()> {
        self.check(unsafe { sys::tfuse_ctx_set_threads(self.raw(), n) })
    }

    /// Uses the caller's threads in place of the library's own.
    pub fn set_executor(&mut self, executor: impl Executor + 'static) -> Result<()> {
        let concurrency = executor.concurrency();
        let threads = Threads { caught: self.caught.clone(), executor: Box::new(executor) };
        self.keep(threads, |ctx, at| {
            let table = sys::tfuse_executor {
                struct_size: size_of::<sys::tfuse_executor>(),
                user: at as *mut c_void,
                concurrency,
                parallel_for: Some(parallel_for),
            };
            ctx.check(unsafe { sys::tfuse_ctx_set_executor(ctx.raw(), &table) })
        })
    }

    /// Lines of `level` or more urgent go to the closure.
    pub fn set_log(&mut self, level: Level, log: impl FnMut(Level, &str) + Send + 'static) -> Result<()> {
        let hook = Hook { caught: self.caught.clone(), body: Box::new(log) as LogFn };
        self.keep(hook, |ctx, at| ctx.check(unsafe { sys::tfuse_ctx_set_log(ctx.raw(), Some(log_line), at as *mut c_void, level as i32) }))
    }

    /// Progress of long calls goes to the closure, at most about 20 times a second; `ControlFlow::Break(())` cancels the call.
    pub fn set_progress(&mut self, progress: impl FnMut(&Progress<'_>) -> ControlFlow<()> + Send + 'static) -> Result<()> {
        let hook = Hook { caught: self.caught.clone(), body: Box::new(progress) as ProgressFn };
        self.keep(hook, |ctx, at| ctx.check(unsafe { sys::tfuse_ctx_set_progress(ctx.raw(), Some(step), at as *mut c_void) }))
    }

    /// Bytes in use, and the most so far. Mapped files are not in it.
    pub fn memory(&self) -> Result<Memory> {
        let mut m = Memory { live: 0, peak: 0 };
        self.check(unsafe { sys::tfuse_ctx_memory(self.raw(), &mut m.live, &mut m.peak) })?;
        Ok(m)
    }

    /// Writes a file that appears whole or not at all; an existing one is refused without `force`.
    pub fn save_file(&self, path: impl AsRef<Path>, data: &[u8], force: bool) -> Result<()> {
        let path = c_path(path)?;
        self.check(unsafe { sys::tfuse_file_save(self.raw(), path.as_ptr(), data.as_ptr() as *const c_void, data.len(), force as i32) })
    }

    /// Fails with what would keep a checkpoint (`directory`) or a file from being written there, before long work; nothing is made.
    pub fn check_output(&self, path: impl AsRef<Path>, directory: bool, force: bool) -> Result<()> {
        let path = c_path(path)?;
        self.check(unsafe { sys::tfuse_output_check(self.raw(), path.as_ptr(), directory as i32, force as i32) })
    }

    /// Keeps a closure as long as the context.
    pub(crate) fn keep<T: Send + 'static>(&mut self, hook: T, set: impl FnOnce(&Context, *mut T) -> Result<()>) -> Result<()> {
        let held = Held(Box::into_raw(Box::new(hook)));
        set(self, held.0)?;
        self.hooks.push(Box::new(held));
        Ok(())
    }
}

impl Drop for Context {
    /// A canceller may keep the C context for longer than its closures live.
    fn drop(&mut self) {
        unsafe {
            sys::tfuse_ctx_set_log(self.raw(), None, ptr::null_mut(), 0);
            sys::tfuse_ctx_set_progress(self.raw(), None, ptr::null_mut());
            sys::tfuse_ctx_set_executor(self.raw(), ptr::null());
        }
    }
}
