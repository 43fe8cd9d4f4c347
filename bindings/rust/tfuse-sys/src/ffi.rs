// SPDX-License-Identifier: Apache-2.0
//! Written by `bindings/rust/generate.py` from the headers of libtfuse; `make generated` writes them.

use std::marker::{PhantomData, PhantomPinned};
use std::os::raw::{c_char, c_void};

#[repr(C)]
pub struct tfuse_array {
    _opaque: [u8; 0],
    _neither: PhantomData<(*mut u8, PhantomPinned)>,
}

/// 0, or one of the negative TFUSE_E codes. Codes are never renumbered; take unknown ones as failure.
pub type tfuse_status = i32;

/// done
pub const TFUSE_OK: i32 = 0;
/// an argument that the caller could have checked
pub const TFUSE_EINVAL: i32 = -1;
/// the allocator returned NULL
pub const TFUSE_ENOMEM: i32 = -2;
/// a number out of its bounds
pub const TFUSE_ERANGE: i32 = -3;
/// not now: a sealed model, an unfinished graph, a call from a callback
pub const TFUSE_ESTATE: i32 = -4;
/// known, but not by this build or not for this input
pub const TFUSE_EUNSUPPORTED: i32 = -5;
/// tfuse_ctx_cancel, or a progress callback, said so
pub const TFUSE_ECANCELLED: i32 = -6;
/// a function of the caller's failed
pub const TFUSE_ECALLBACK: i32 = -7;
/// an unknown policy key, or a value that the key does not take
pub const TFUSE_EKEY: i32 = -8;
/// the operating system refused; the text has its reason
pub const TFUSE_EIO: i32 = -20;
/// a file that is not what it should be
pub const TFUSE_EFORMAT: i32 = -21;
/// a file whose checksum or sizes are wrong
pub const TFUSE_ECORRUPT: i32 = -22;
/// a file or table of a newer version
pub const TFUSE_EVERSION: i32 = -23;
/// the output exists
pub const TFUSE_EEXIST: i32 = -24;
/// no such tensor, node, file or name
pub const TFUSE_ENOTFOUND: i32 = -30;
/// shapes that do not fit
pub const TFUSE_ESHAPE: i32 = -31;
/// a data type that is not taken here
pub const TFUSE_EDTYPE: i32 = -32;
/// a graph that contradicts itself, or graphs that do not pair
pub const TFUSE_EGRAPH: i32 = -33;
/// NaN or infinity, or a factorisation that failed
pub const TFUSE_ENUMERIC: i32 = -40;
/// an iteration that did not reach its tolerance (solver.strict)
pub const TFUSE_ECONVERGE: i32 = -41;
/// a defect of the library: please report it
pub const TFUSE_EINTERNAL: i32 = -99;

/// Element type of a tensor or an array; names as in safetensors.
pub type tfuse_dtype = i32;

pub const TFUSE_F32: i32 = 1;
pub const TFUSE_F16: i32 = 2;
pub const TFUSE_BF16: i32 = 3;
pub const TFUSE_F64: i32 = 4;
pub const TFUSE_I64: i32 = 5;
pub const TFUSE_I32: i32 = 6;
pub const TFUSE_U8: i32 = 7;
pub const TFUSE_I8: i32 = 8;
pub const TFUSE_I16: i32 = 9;
pub const TFUSE_U16: i32 = 10;
pub const TFUSE_U32: i32 = 11;
pub const TFUSE_U64: i32 = 12;
pub const TFUSE_BOOL: i32 = 13;

/// Most dimensions that a tensor or an array may have.
pub const TFUSE_MAX_RANK: u32 = 8;

/// A context: allocator, threads, log, progress, cancellation, text of the last error.
#[repr(C)]
pub struct tfuse_ctx {
    _opaque: [u8; 0],
    _neither: PhantomData<(*mut u8, PhantomPinned)>,
}

/// Allocator of the caller's. `alloc` returns memory aligned to `align` (a power of two, at most
/// 4096) or NULL; `free` gets what `alloc` returned, with the same size and align, never NULL.
/// Both may be called from the library's worker threads at once.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tfuse_allocator {
    /// sizeof(tfuse_allocator)
    pub struct_size: usize,
    /// first argument of both
    pub user: *mut c_void,
    pub alloc: Option<unsafe extern "C" fn(user: *mut c_void, size: usize, align: usize) -> *mut c_void>,
    pub free: Option<unsafe extern "C" fn(user: *mut c_void, ptr: *mut c_void, size: usize, align: usize)>,
}

/// Threads of the caller's: `parallel_for` calls body(arg, i) once for every i < n, on any threads
/// and in any order, and returns when all are done. `concurrency` says how many may run at once.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tfuse_executor {
    pub struct_size: usize,
    pub user: *mut c_void,
    pub concurrency: u32,
    pub parallel_for: Option<unsafe extern "C" fn(user: *mut c_void, n: u32, body: Option<unsafe extern "C" fn(arg: *mut c_void, i: u32)>, arg: *mut c_void)>,
}

pub const TFUSE_LOG_ERROR: i32 = 1;
pub const TFUSE_LOG_WARN: i32 = 2;
pub const TFUSE_LOG_INFO: i32 = 3;
pub const TFUSE_LOG_DEBUG: i32 = 4;

/// Gets one line of log, without a newline. Called on the thread that made the call.
pub type tfuse_log_fn = Option<unsafe extern "C" fn(user: *mut c_void, level: i32, line: *const c_char)>;

/// How far a long call has come.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tfuse_progress {
    pub struct_size: usize,
    /// what is being done, e.g. "statistics"; borrowed for the call
    pub stage: *const c_char,
    /// units done
    pub done: u64,
    /// units in all; 0 when not known
    pub total: u64,
}

/// Returns 0 to go on; anything else cancels the call (TFUSE_ECANCELLED). On the calling thread.
pub type tfuse_progress_fn = Option<unsafe extern "C" fn(user: *mut c_void, progress: *const tfuse_progress) -> i32>;

/// Called once, when the library no longer needs memory that it borrowed.
pub type tfuse_release_fn = Option<unsafe extern "C" fn(owner: *mut c_void)>;

/// DLPack's table, before its version 1.
#[repr(C)]
pub struct DLManagedTensor {
    _opaque: [u8; 0],
    _neither: PhantomData<(*mut u8, PhantomPinned)>,
}

/// DLPack's table since its version 1.
#[repr(C)]
pub struct DLManagedTensorVersioned {
    _opaque: [u8; 0],
    _neither: PhantomData<(*mut u8, PhantomPinned)>,
}

/// Where fused tensors go when they stay in the caller's hands: buffers of a framework, a device, a format of its own. Both functions are called on the
/// calling thread, tensor by tensor in order of names; strings and shapes are borrowed for the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tfuse_sink {
    pub struct_size: usize,
    /// first argument of both
    pub user: *mut c_void,
    /// Memory for a tensor's elements, tensor->size bytes, row-major, of tensor->dtype (io.dtype), any alignment; tensor->data is NULL. It must overlap
    /// no tensor of the models, which are still read, and be free for use until `done`. NULL ends the call with TFUSE_ECALLBACK.
    pub place: Option<unsafe extern "C" fn(user: *mut c_void, tensor: *const tfuse_tensor_info) -> *mut c_void>,
    /// The tensor is complete, at tensor->data; the memory may be used for the next. Anything but 0 ends the call with TFUSE_ECALLBACK. May be NULL.
    pub done: Option<unsafe extern "C" fn(user: *mut c_void, tensor: *const tfuse_tensor_info) -> i32>,
}

/// What a run reads and writes, by path. Zero the struct and set its size.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tfuse_run_paths {
    /// sizeof(tfuse_run_paths)
    pub struct_size: usize,
    /// the anchor first
    pub models: *const *const c_char,
    pub n_models: usize,
    /// calibration inputs; NULL: none
    pub calib: *const c_char,
    /// a plan to apply in place of aligning; NULL: none
    pub plan: *const c_char,
    /// where the plan goes too; NULL: nowhere
    pub save_plan: *const c_char,
    /// where the fused checkpoint goes; NULL: nothing is checked about it
    pub out: *const c_char,
}

#[repr(C)]
pub struct tfuse_graph {
    _opaque: [u8; 0],
    _neither: PhantomData<(*mut u8, PhantomPinned)>,
}

#[repr(C)]
pub struct tfuse_model {
    _opaque: [u8; 0],
    _neither: PhantomData<(*mut u8, PhantomPinned)>,
}

/// One tensor.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tfuse_tensor_info {
    pub struct_size: usize,
    /// borrowed from the model
    pub name: *const c_char,
    pub dtype: tfuse_dtype,
    pub rank: i32,
    pub shape: [i64; TFUSE_MAX_RANK as usize],
    /// row-major, little-endian, any alignment; NULL when only headers were read, and where the caller's strides
    /// are others: tfuse_model_read gives the elements
    pub data: *const c_void,
    /// bytes
    pub size: u64,
}

/// a config.json alone will do: the model has no tensors then
pub const TFUSE_OPEN_CONFIG_ONLY: i32 = 1;

#[repr(C)]
pub struct tfuse_plan {
    _opaque: [u8; 0],
    _neither: PhantomData<(*mut u8, PhantomPinned)>,
}

/// One map of a plan. Strings are borrowed from the plan.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tfuse_map_info {
    pub struct_size: usize,
    /// where it arises: "layer.0/fc1", "layer.0/residual1"
    pub name: *const c_char,
    /// axes that it acts on: "layer.0/ffn", "layer.0/heads*layer.0/qk"
    pub axis: *const c_char,
    /// identity, permutation, coupling, block; scaled, orthogonal, linear under matching and of gauge, between unequal extents
    /// selection, rectangular, the latter under matching.coupling=sinkhorn too; raw under otfusion.compat=1
    pub kind: *const c_char,
    /// index of the model that it moves: 1, 2, ...
    pub model: i64,
    /// units of the model, units of the anchor
    pub n: i64,
    /// units of the model, units of the anchor
    pub m: i64,
    /// of the transport problem, mass one; NaN where none was solved (joins)
    pub cost: f64,
    /// certified gap of an exact solve; NaN otherwise
    pub gap: f64,
    /// L1 deviation of the marginals
    pub error: f64,
    /// mass that is off the diagonal, 0 to 1; NaN when n != m
    pub identity: f64,
    /// exp of the mean entropy of a column's shares: 1 for a permutation
    pub entropy: f64,
    pub iterations: i64,
    pub converged: i32,
    /// heads of the model and of the anchor, whose units lie head by head; 0 where units are in no heads
    pub heads_n: i64,
    /// heads of the model and of the anchor, whose units lie head by head; 0 where units are in no heads
    pub heads_m: i64,
    /// matched correlation: of the anchor's units with those that they receive, by what the cost was made of (since 0.2).
    /// otfusion: the mean over the anchor's units of sum_i T_ij r_ij, r_ij being the correlation of two units' features
    /// (centred where they are: z-scored and centred activations), and the T_ij of a unit summing to one. matching:
    /// <A, R B> / (|A| |B|) over all tensors and values that the axis is matched by, weighted as in the objective, which is
    /// 1 less the cost. NaN: nothing was compared
    pub correlation: f64,
    /// variance kept: 1 - |B - B~|^2 / |B|^2 over the model's weights on the axis (in the form of the plan's passes), B~ being
    /// what is left of B when it is carried to the anchor by the one side of the map and back by the other (since 0.2). It
    /// is the part of the units' variance that survives for inputs that are white, as norms leave them nearly. Of wide
    /// tensors 256 columns count, evenly spread. 1 for maps that lose nothing, by their kind; below 0 where a map distorts
    /// more than it keeps. NaN: it moves nothing that counts
    pub kept: f64,
}

#[repr(C)]
pub struct tfuse_policy {
    _opaque: [u8; 0],
    _neither: PhantomData<(*mut u8, PhantomPinned)>,
}

/// one of a list of words
pub const TFUSE_KEY_CHOICE: i32 = 1;
/// an integer within bounds
pub const TFUSE_KEY_INT: i32 = 2;
/// a finite number within bounds
pub const TFUSE_KEY_REAL: i32 = 3;
/// 0 or 1
pub const TFUSE_KEY_FLAG: i32 = 4;
/// a word that is checked where it is used, e.g. a registered solver
pub const TFUSE_KEY_NAME: i32 = 5;
/// finite numbers with commas between
pub const TFUSE_KEY_REALS: i32 = 6;
/// words of a list, with commas between; or a single word such as auto
pub const TFUSE_KEY_SET: i32 = 7;

/// A row of the key table. The strings are static.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tfuse_key_info {
    pub struct_size: usize,
    pub name: *const c_char,
    pub r#type: i32,
    /// words of a CHOICE or SET, with " | " between; otherwise NULL
    pub values: *const c_char,
    /// bounds of an INT or REAL
    pub min: f64,
    /// bounds of an INT or REAL
    pub max: f64,
    /// as text
    pub default_value: *const c_char,
    /// one line
    pub help: *const c_char,
}

/// Fitted weights, for the models and the plan that they were made from. May be read from several threads at once.
#[repr(C)]
pub struct tfuse_repair {
    _opaque: [u8; 0],
    _neither: PhantomData<(*mut u8, PhantomPinned)>,
}

/// Result of tfuse_eval.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tfuse_score {
    pub struct_size: usize,
    /// samples that were run
    pub n: i64,
    /// labels that are not -100
    pub scored: i64,
    /// scored ones whose largest logit (the first on a tie) is the label's
    pub correct: i64,
    /// mean cross-entropy over the scored ones, nats; NaN without labels
    pub loss: f64,
}

/// What a solver is given. Borrowed for the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tfuse_problem {
    pub struct_size: usize,
    /// rows: units of the model that is moved
    pub n: i64,
    /// columns: units of the anchor
    pub m: i64,
    /// n × m, row-major, finite
    pub cost: *const f32,
    /// n row masses, >= 0, sum 1; never NULL
    pub mu: *const f64,
    /// m column masses, >= 0, sum 1; never NULL
    pub nu: *const f64,
    /// solver.reg
    pub reg: f64,
    /// wanted L1 error of the marginals; 0: the solver's own
    pub tolerance: f64,
    /// 0: the solver's own
    pub max_iterations: i64,
    /// n potentials to start from, those of a neighbouring problem, with u_i + v_j <= cost_ij; NULL: none
    pub u: *const f64,
    /// m of them; NULL just where u is
    pub v: *const f64,
}

/// What a solver fills in. The arrays belong to the library and are zeroed before the call. What is said of the result is checked: a
/// coupling that is said to have converged must have its marginals to 1e-3 (L1), and one that is said to be optimal must come with potentials that
/// prove it, sum mu_i u_i + sum nu_j v_j being its cost to 1e-6 of the largest cost; else the solve fails with TFUSE_ENUMERIC.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tfuse_result {
    pub struct_size: usize,
    /// n × m, row-major: the coupling; entries >= 0
    pub coupling: *mut f32,
    /// n potentials; leave at zero with has_potentials = 0
    pub u: *mut f64,
    /// m potentials
    pub v: *mut f64,
    /// 1 when u and v are set
    pub has_potentials: i32,
    /// 1 when the solver reached its tolerance
    pub converged: i32,
    pub iterations: i64,
    /// 1 when u and v prove that the coupling is optimal
    pub optimal: i32,
}

/// A solver of the caller's. `solve` returns TFUSE_OK or a negative status; it is called by one
/// thread at a time per context, the calling one, also for batches. `cancelled(env)` of the library's says whether to give up
/// (then return TFUSE_ECANCELLED).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tfuse_solver_ops {
    pub struct_size: usize,
    /// letters, digits, '-', '_'; copied
    pub name: *const c_char,
    pub solve: Option<unsafe extern "C" fn(user: *mut c_void, problem: *const tfuse_problem, result: *mut tfuse_result, cancelled: Option<unsafe extern "C" fn(env: *const c_void) -> i32>, env: *const c_void) -> tfuse_status>,
}

/// A solved problem.
#[repr(C)]
pub struct tfuse_solution {
    _opaque: [u8; 0],
    _neither: PhantomData<(*mut u8, PhantomPinned)>,
}

/// Numbers of a solution.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tfuse_solution_info {
    pub struct_size: usize,
    pub n: i64,
    pub m: i64,
    /// sum of coupling × cost; masses sum to one
    pub cost: f64,
    /// primal minus a certified dual bound: 0 up to rounding is a proof; NaN where there is no bound
    pub gap: f64,
    /// L1 deviation of the marginals, rows and columns together
    pub error: f64,
    /// bids and augmenting paths, bids and pivots, or scalings, by the method
    pub iterations: i64,
    /// the solve alone
    pub seconds: f64,
    pub converged: i32,
}

/// One of several problems: what tfuse_solve takes, and potentials to start from. Borrowed for the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tfuse_task {
    pub struct_size: usize,
    /// n × m
    pub cost: *const tfuse_array,
    /// n masses; NULL: uniform
    pub mu: *const tfuse_array,
    /// m masses; NULL: uniform
    pub nu: *const tfuse_array,
    /// n potentials of a neighbouring problem; used only without v; NULL: none
    pub u: *const tfuse_array,
    /// m potentials of a neighbouring problem; NULL: none
    pub v: *const tfuse_array,
}

#[repr(C)]
pub struct tfuse_stats {
    _opaque: [u8; 0],
    _neither: PhantomData<(*mut u8, PhantomPinned)>,
}

/// One value that must be fed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tfuse_stat_want {
    pub struct_size: usize,
    /// index of the model: 0 is the anchor
    pub model: usize,
    /// its name in the model's graph; borrowed from the statistics
    pub value: *const c_char,
    /// rows of one sample, class token included; 1 where it has none; 0: as many as each batch has
    pub tokens: i64,
    /// numbers in a row
    pub units: i64,
}

/// Version of these headers: major * 10000 + minor * 100 + patch.
pub const TFUSE_VERSION: u32 = 100;

/// The same as text.
pub const TFUSE_VERSION_STRING: &str = "0.1.0";

/// The ABI number, which is the SONAME's: libtfuse.so.TFUSE_ABI.
pub const TFUSE_ABI: u32 = 0;

extern "C" {
    /// Reads an array from a file: .npy, "file.npz:key" (the key may be left out when the file holds one array), or IDX, gzipped or not
    /// (recognised by content). Without a key, of a file that holds `input_ids` and other arrays these ids are read, and the others but `labels` are
    /// attached to them. Fortran order and big-endian files are converted.
    /// @param path  in.   @param out  out: release with tfuse_array_free.
    /// Errors: TFUSE_EIO, TFUSE_EFORMAT, TFUSE_ECORRUPT (sizes or checksums), TFUSE_EDTYPE, TFUSE_EVERSION, TFUSE_EUNSUPPORTED (a ZIP
    /// method), TFUSE_ENOTFOUND (no such file or key), TFUSE_ENOMEM.
    pub fn tfuse_array_open(ctx: *mut tfuse_ctx, path: *const c_char, out: *mut *mut tfuse_array) -> tfuse_status;
    /// Borrows memory of the caller's, or copies it.
    /// @param shape    in: rank extents, each >= 0.
    /// @param data     in: row-major; must stay as it is until `release` is called.
    /// @param release  in: called once with `owner`, on tfuse_array_free or on failure; NULL: the data are copied.
    /// Errors: TFUSE_EINVAL, TFUSE_EDTYPE, TFUSE_ESHAPE, TFUSE_ENOMEM.
    pub fn tfuse_array_wrap(ctx: *mut tfuse_ctx, dtype: tfuse_dtype, rank: usize, shape: *const i64, data: *const c_void, release: tfuse_release_fn, owner: *mut c_void, out: *mut *mut tfuse_array) -> tfuse_status;
    /// Lets a named array go along with another one as inputs of a model: "attention_mask" (1: seen, 0: padding) and "token_type_ids" beside token ids.
    /// Each has the shape of the ids. Of calibration inputs padding counts in no statistic, fit or comparison. What a model takes beside its ids,
    /// tfuse_graph_describe lists as its inputs.
    /// @param array  in, out.   @param name  in: copied.
    /// @param other  in: the array takes it over and releases it, also when this fails (not when it belongs to an array already).
    /// Errors: TFUSE_EINVAL (a name that is taken, an array that goes with another), TFUSE_ENOMEM.
    pub fn tfuse_array_attach(ctx: *mut tfuse_ctx, array: *mut tfuse_array, name: *const c_char, other: *mut tfuse_array) -> tfuse_status;
    /// Writes an array as .npy, replacing `path` in one step. Errors: TFUSE_EIO, TFUSE_EDTYPE (BF16 has no .npy form).
    pub fn tfuse_array_save(ctx: *mut tfuse_ctx, array: *const tfuse_array, path: *const c_char) -> tfuse_status;
    pub fn tfuse_array_dtype(array: *const tfuse_array) -> tfuse_dtype;
    pub fn tfuse_array_rank(array: *const tfuse_array) -> usize;
    /// tfuse_array_rank extents. Borrowed from the array.
    pub fn tfuse_array_shape(array: *const tfuse_array) -> *const i64;
    /// The elements, row-major. Borrowed from the array.
    pub fn tfuse_array_data(array: *const tfuse_array) -> *const c_void;
    pub fn tfuse_array_free(array: *mut tfuse_array);
    /// Makes a context: one thread, no log, no progress.
    /// @param alloc  in: allocator, copied; NULL for malloc and free. Handles made through the
    ///               context keep a copy of the table and may outlive the context.
    /// @param out    out: the context; release with tfuse_ctx_free.
    /// Errors: TFUSE_EINVAL, TFUSE_ENOMEM.  Threads: any.
    pub fn tfuse_ctx_new(alloc: *const tfuse_allocator, out: *mut *mut tfuse_ctx) -> tfuse_status;
    /// Releases a context and joins its threads. NULL is allowed.
    pub fn tfuse_ctx_free(ctx: *mut tfuse_ctx);
    /// Text of the last failed call on this context: one line; "" when the last call succeeded.
    /// Borrowed until the next call on the context.
    pub fn tfuse_ctx_error(ctx: *const tfuse_ctx) -> *const c_char;
    /// Name of a status, such as "TFUSE_EFORMAT". Static; never NULL.  Threads: any.
    pub fn tfuse_status_name(status: tfuse_status) -> *const c_char;
    /// Name of a data type as in safetensors, such as "BF16"; "?" if unknown. Static.  Threads: any.
    pub fn tfuse_dtype_name(dtype: tfuse_dtype) -> *const c_char;
    /// Bytes of one element; 0 if unknown.  Threads: any.
    pub fn tfuse_dtype_size(dtype: tfuse_dtype) -> usize;
    /// Number of threads that calls on this context may use, the calling one included.
    /// Results do not depend on it, to the bit.
    /// @param n  in: 1 to 1024; 0 for one per available core.
    /// Errors: TFUSE_ERANGE, TFUSE_ENOMEM.
    pub fn tfuse_ctx_set_threads(ctx: *mut tfuse_ctx, n: u32) -> tfuse_status;
    /// Uses the caller's threads in place of the library's own. @param ex in: copied; NULL for the calling thread alone.
    pub fn tfuse_ctx_set_executor(ctx: *mut tfuse_ctx, ex: *const tfuse_executor) -> tfuse_status;
    /// Log lines of `level` or more urgent go to fn; NULL for silence, which is the default.
    pub fn tfuse_ctx_set_log(ctx: *mut tfuse_ctx, r#fn: tfuse_log_fn, user: *mut c_void, level: i32) -> tfuse_status;
    /// Progress of long calls goes to fn, at most about 20 times a second; NULL for none.
    pub fn tfuse_ctx_set_progress(ctx: *mut tfuse_ctx, r#fn: tfuse_progress_fn, user: *mut c_void) -> tfuse_status;
    /// Makes the call that runs on this context, or the next one if none runs, end with TFUSE_ECANCELLED.
    /// Threads: any, signal handlers included: it is one atomic store.
    pub fn tfuse_ctx_cancel(ctx: *mut tfuse_ctx);
    /// Bytes that came from the context's allocator. Mapped files, and what BLIS, LAPACK, zlib and jansson take themselves, are not in it.
    /// @param live  out: in use now, by handles that have outlived a call too; may be NULL.
    /// @param peak  out: the most that ever was in use at once; may be NULL.
    /// Threads: any, also while a call runs on the context.
    pub fn tfuse_ctx_memory(ctx: *const tfuse_ctx, live: *mut u64, peak: *mut u64) -> tfuse_status;
    /// Writes `size` bytes to a file that appears whole, by one rename, or not at all: for reports and pictures beside a checkpoint.
    /// @param data   in: not NULL; copied before the call returns.
    /// @param force  in: 1 replaces an existing file, 0 refuses it.
    /// Errors: TFUSE_EEXIST (it exists, or another writer is at it), TFUSE_EIO, TFUSE_ENOMEM.
    pub fn tfuse_file_save(ctx: *mut tfuse_ctx, path: *const c_char, data: *const c_void, size: usize, force: i32) -> tfuse_status;
    /// Whether an output could be put at `path`, asked before long work: nothing is made there. What happens to the file system meanwhile is found out when it is.
    /// @param directory  in: 1 a checkpoint's directory, 0 a file.
    /// @param force      in: as the call that will write it: 1 replaces what is there.
    /// Errors: those of writing: TFUSE_EEXIST (it exists and is not to be, or may not be, replaced), TFUSE_EIO (there is no directory to put it in, or it may not
    /// be written to), TFUSE_EINVAL, TFUSE_ENOMEM.
    pub fn tfuse_output_check(ctx: *mut tfuse_ctx, path: *const c_char, directory: i32, force: i32) -> tfuse_status;
    /// Releases a string that the library handed over (reports, JSON). NULL is allowed.  Threads: any.
    pub fn tfuse_string_free(text: *mut c_char);
    /// Adds a tensor to a model that is being built, with any strides: as tfuse_model_add_strided.
    /// @param tensor  in: taken over, also on failure.
    /// Errors: as tfuse_model_add_strided; TFUSE_EUNSUPPORTED (memory of a device), TFUSE_EDTYPE (a type that tfuse_dtype has not, more than one
    /// lane), TFUSE_EVERSION (tables of another major version), TFUSE_EINVAL.
    pub fn tfuse_model_add_dlpack(ctx: *mut tfuse_ctx, model: *mut tfuse_model, name: *const c_char, tensor: *mut DLManagedTensor) -> tfuse_status;
    pub fn tfuse_model_add_dlpack_versioned(ctx: *mut tfuse_ctx, model: *mut tfuse_model, name: *const c_char, tensor: *mut DLManagedTensorVersioned) -> tfuse_status;
    /// An array of a tensor: borrowed where it is row-major, otherwise copied and given back at once.
    /// @param tensor  in: taken over, also on failure.
    /// @param out     out: release with tfuse_array_free.
    /// Errors: as tfuse_model_add_dlpack.
    pub fn tfuse_array_from_dlpack(ctx: *mut tfuse_ctx, tensor: *mut DLManagedTensor, out: *mut *mut tfuse_array) -> tfuse_status;
    pub fn tfuse_array_from_dlpack_versioned(ctx: *mut tfuse_ctx, tensor: *mut DLManagedTensorVersioned, out: *mut *mut tfuse_array) -> tfuse_status;
    /// Fuses models by a plan and writes a checkpoint, tensor by tensor: W = sum_k w_k (W_k carried to the anchor), with the weights of
    /// combine.weights. OUT is a directory with the anchor's config.json, its preprocessor and tokenizer files, and
    /// safetensors with provenance in the metadata; it appears whole, by one rename, or not at all.
    /// @param plan    in: of these models, or of models with the same graphs; other weights are reported in the log.
    /// @param models  in: as in tfuse_align.
    /// @param out     in: path of the directory; an existing one is refused unless io.force is 1; one in which a model of the call
    ///                lies, or that is no checkpoint (directories in it, or files and no .safetensors), always.
    /// Errors: TFUSE_EEXIST, TFUSE_EIO, TFUSE_EGRAPH (another graph than the plan's), TFUSE_EINVAL (combine.weights that do not fit),
    /// TFUSE_ENUMERIC, TFUSE_ECANCELLED, TFUSE_ENOMEM, TFUSE_ERANGE (run.memory is too little), TFUSE_ENOTFOUND (a pass of
    /// the plan that this library has not), and those of tfuse_graph_infer.
    pub fn tfuse_fuse(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, plan: *const tfuse_plan, models: *const *const tfuse_model, n_models: usize, out: *const c_char) -> tfuse_status;
    /// Holds a plan to what it says, on a few random inputs: each model's canonical form (the passes that the plan names), and where all its maps are
    /// invertible its aligned form (its own weights carried by the maps), run beside the model as it is; and then the fused network, whose outputs
    /// must be finite. tfuse_fuse does this before it writes unless fuse.selfcheck is 0; tfuse_fuse_model does not.
    /// @param policy  in: NULL: defaults.
    /// @param report  out: JSON, release with tfuse_string_free: {"result": "passed" or "nothing to compare" (no passes, and soft maps or none, or maps
    ///                of a plan that does not claim to be exact), "exact": whether the plan claims that each model carried alone computes
    ///                what it did, "tolerance", "samples", "probe": "random" or "calibration", "fused": "finite" (both null for a graph without
    ///                an output), "models": [{"name", "canonical", "aligned"}]}. The last two are deviations: the largest difference of
    ///                outputs over the largest output; null where there was nothing to run. Under a plan that is not exact the aligned
    ///                one is told and judges nothing.
    /// Errors: TFUSE_ENUMERIC when a form that must compute the same deviates by more than the tolerance (1e-3: float32 over rotated weights stays
    /// below 1e-4), naming the model and the deviation, when the plan claims to be exact and has a map without an inverse, naming it, when outputs
    /// of a model or of the fused network become NaN or infinite, and those of tfuse_fuse_model. Holds the values of a few samples and one node's
    /// weights beside the models given.
    pub fn tfuse_selfcheck(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, plan: *const tfuse_plan, models: *const *const tfuse_model, n_models: usize, report: *mut *mut c_char) -> tfuse_status;
    /// The same on real inputs.
    /// @param calib  in: inputs as in tfuse_align, of which the first four samples are taken, of sequences their first 16 tokens; each model normalises
    ///               images as its own preprocessor says. NULL: random ones.
    /// Errors: those of tfuse_selfcheck; TFUSE_ESHAPE, TFUSE_EDTYPE, TFUSE_ERANGE when the inputs do not fit.
    pub fn tfuse_selfcheck_on(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, plan: *const tfuse_plan, models: *const *const tfuse_model, n_models: usize, calib: *const tfuse_array, report: *mut *mut c_char) -> tfuse_status;
    /// The same into memory.
    /// @param fused  out: a sealed model with tensors of its own, the anchor's config, and the anchor's preprocessor_config.json where that lies; release with
    ///               tfuse_model_free.
    pub fn tfuse_fuse_model(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, plan: *const tfuse_plan, models: *const *const tfuse_model, n_models: usize, fused: *mut *mut tfuse_model) -> tfuse_status;
    /// Looks at a run without doing it: opens the models, builds and pairs their graphs, and adds up arrays. No weight is looked at and nothing
    /// is written. A model may be a config.json alone: sizes are then of the weights that it describes, in its dtype, and the log has a warning.
    /// @param policy  in: as for the run; NULL: defaults.
    /// @param paths   in: borrowed for the call.
    /// @param report  out: JSON, release with tfuse_string_free: {"problems": [every problem that headers show, one line each],
    ///                "peak_bytes", "read_bytes", "write_bytes"}. peak_bytes is the most anonymous memory that the run holds, on this context's
    ///                threads: arrays of the library's, models open, 3 MiB for libraries' own pages and what malloc keeps, 1 MiB a thread for
    ///                buffers of BLIS; mapped files do not count. read_bytes counts every file once, write_bytes a saved plan as if it could
    ///                not be compressed. A number that problems hide is null.
    /// Problems are no error: the status is TFUSE_OK. Errors: TFUSE_EINVAL, TFUSE_EVERSION (paths), TFUSE_ENOMEM.
    pub fn tfuse_dry_run(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, paths: *const tfuse_run_paths, report: *mut *mut c_char) -> tfuse_status;
    /// Builds the graph of a model from its config's model_type and checks the model's tensors against it.
    /// @param out  out: a finished graph; release with tfuse_graph_free. It does not keep the model.
    /// Errors: TFUSE_EUNSUPPORTED (unknown model_type; the text lists the known ones), TFUSE_EFORMAT (config, an extra tensor), TFUSE_ENOTFOUND (missing tensor),
    /// TFUSE_ESHAPE (a tensor that disagrees with the config), TFUSE_EDTYPE, TFUSE_ENOMEM.
    pub fn tfuse_graph_infer(ctx: *mut tfuse_ctx, model: *const tfuse_model, out: *mut *mut tfuse_graph) -> tfuse_status;
    /// An empty graph. Add nodes in order of evaluation, then finish. Errors: TFUSE_ENOMEM.
    pub fn tfuse_graph_new(ctx: *mut tfuse_ctx, out: *mut *mut tfuse_graph) -> tfuse_status;
    /// Adds a node. Its first output is a value of the node's name.
    /// @param op      in: operation, e.g. "linear".
    /// @param name    in: unique, e.g. "layer.0/query"; what stands before the last '/' is its scope.
    /// @param inputs  in: names of values with spaces between; "" for none.
    /// @param attrs   in: "key=value" with spaces between. `out` declares a produced dimension: segments "a|b", a segment
    ///                "[label=]factor*factor", a factor "[!][/]name:extent", an extent, or a concatenation in
    ///                parentheses; '!' pins an axis, '/' puts its name outside the scope.
    ///                Example: "out=heads:4*qk:16 bias=1".
    /// Errors: TFUSE_EINVAL (an attribute that is unknown, malformed or given twice; a bad name), TFUSE_ERANGE (an attribute out of bounds),
    /// TFUSE_EGRAPH (contradictions; the text names the node), TFUSE_ENOTFOUND (unknown operation or value), TFUSE_ESTATE (finished), TFUSE_ENOMEM.
    pub fn tfuse_graph_add(ctx: *mut tfuse_ctx, graph: *mut tfuse_graph, op: *const c_char, name: *const c_char, inputs: *const c_char, attrs: *const c_char) -> tfuse_status;
    /// Says where a logical tensor ("layer.0/query.weight") is stored: NAME, shape(NAME,1,1,64), part(NAME,dim,i,n),
    /// slice(NAME,dim,first,count,extent), transpose(E), stack(E,E,...), sum(E,E,...), alias(LOGICAL).
    /// A tensor without a rule is stored under its own name.
    /// The expression itself is checked by tfuse_graph_finish.
    /// Errors: TFUSE_EGRAPH (a second rule for one tensor), TFUSE_ESTATE, TFUSE_ENOMEM.
    pub fn tfuse_graph_store(ctx: *mut tfuse_ctx, graph: *mut tfuse_graph, logical: *const c_char, expression: *const c_char) -> tfuse_status;
    /// Names a stored tensor (one '*' allowed) that is copied from the anchor as it is. Errors: TFUSE_EINVAL (a second '*'), TFUSE_ESTATE, TFUSE_ENOMEM.
    pub fn tfuse_graph_buffer(ctx: *mut tfuse_ctx, graph: *mut tfuse_graph, pattern: *const c_char) -> tfuse_status;
    /// Names the value that is the model's output. Errors: TFUSE_ENOTFOUND, TFUSE_ESTATE.
    pub fn tfuse_graph_output(ctx: *mut tfuse_ctx, graph: *mut tfuse_graph, value: *const c_char) -> tfuse_status;
    /// Ties ports into axes, checks the naming rules, and ends building.
    /// Errors: TFUSE_EGRAPH, TFUSE_ENOTFOUND (a rule for a tensor that the graph has not), TFUSE_ESHAPE (an alias of another shape), TFUSE_ESTATE,
    /// TFUSE_ENOMEM.
    pub fn tfuse_graph_finish(ctx: *mut tfuse_ctx, graph: *mut tfuse_graph) -> tfuse_status;
    /// Checks a model's tensors against a graph. Errors as tfuse_graph_infer.
    pub fn tfuse_graph_check(ctx: *mut tfuse_ctx, graph: *const tfuse_graph, model: *const tfuse_model) -> tfuse_status;
    /// The graph as JSON text; release with tfuse_string_free. Format: docs/graph-format.md.
    pub fn tfuse_graph_to_json(ctx: *mut tfuse_ctx, graph: *const tfuse_graph, out: *mut *mut c_char) -> tfuse_status;
    /// A finished graph from JSON text. Errors: TFUSE_EFORMAT, TFUSE_EVERSION (another version of the format), TFUSE_ERANGE (too many nodes), and
    /// those of the builder.
    pub fn tfuse_graph_from_json(ctx: *mut tfuse_ctx, text: *const c_char, out: *mut *mut tfuse_graph) -> tfuse_status;
    /// What the graph is, for a person or a program: one JSON object {"architecture", "parameters", "signature",
    /// "axes": [{"name", "extent", "parent", "group", "pinned", "tensors": [{"name", "dim", "use"}]}],
    /// "tensors": [{"name", "stored", "shape", "dims": [binding as text]}], "nodes": [{"op", "name", "inputs"}]}.
    /// @param model  in: groups depend on weights (a LayerNorm of gain one allows rotations); NULL or a model without tensors: the
    ///               smaller group is given.
    /// @param out    out: release with tfuse_string_free.
    /// Errors: TFUSE_ENUMERIC, TFUSE_ENOMEM.
    pub fn tfuse_graph_describe(ctx: *mut tfuse_ctx, graph: *const tfuse_graph, model: *const tfuse_model, out: *mut *mut c_char) -> tfuse_status;
    pub fn tfuse_graph_free(graph: *mut tfuse_graph);
    /// Opens a checkpoint: a directory with config.json and model.safetensors, or with model.safetensors.index.json and its
    /// shards; a .safetensors file with config.json beside it; with TFUSE_OPEN_CONFIG_ONLY also a config.json or a directory that has only that.
    /// Files are mapped read-only and headers are checked in full: tensors must tile the file exactly, names be unique.
    /// @param flags  in: 0 or TFUSE_OPEN_CONFIG_ONLY.
    /// @param out    out: a sealed model; release with tfuse_model_free. Files must not be truncated while it lives.
    /// Errors: TFUSE_EIO, TFUSE_ENOTFOUND, TFUSE_EFORMAT, TFUSE_EDTYPE, TFUSE_ENOMEM.
    pub fn tfuse_model_open(ctx: *mut tfuse_ctx, path: *const c_char, flags: u32, out: *mut *mut tfuse_model) -> tfuse_status;
    /// An empty model to which tensors are added.
    /// @param config   in: the text of a config.json, copied; NULL when a graph will be built by hand.
    /// @param release  in: called once with owner: when the model is freed, or before this returns on failure; may be NULL.
    /// Errors: TFUSE_EFORMAT (not a JSON object), TFUSE_ENOMEM.
    pub fn tfuse_model_new(ctx: *mut tfuse_ctx, config: *const c_char, release: tfuse_release_fn, owner: *mut c_void, out: *mut *mut tfuse_model) -> tfuse_status;
    /// Adds a tensor: borrows `data` (row-major) until the model is freed.
    /// Errors: TFUSE_ESTATE (sealed), TFUSE_EINVAL (the name is taken), TFUSE_ESHAPE, TFUSE_EDTYPE, TFUSE_ENOMEM.
    pub fn tfuse_model_add(ctx: *mut tfuse_ctx, model: *mut tfuse_model, name: *const c_char, dtype: tfuse_dtype, rank: usize, shape: *const i64, data: *const c_void) -> tfuse_status;
    /// Adds a tensor that lies in memory in its own way, and is given back by itself: a transposed or sliced one, one of a framework's. It is read where it
    /// lies, whenever it is read: its elements may change between calls (weights in training), its memory may not move.
    /// @param strides  in: rank distances between neighbours along each dimension, in elements, of any sign, 0 to broadcast; NULL: row-major.
    /// @param data     in: the element whose indices are all zero; any alignment.
    /// @param release  in: called once with `owner`: when the model is freed, or before this returns on failure; NULL: nothing is called.
    /// Errors: as tfuse_model_add; TFUSE_ESHAPE also where strides reach beyond any memory.
    pub fn tfuse_model_add_strided(ctx: *mut tfuse_ctx, model: *mut tfuse_model, name: *const c_char, dtype: tfuse_dtype, rank: usize, shape: *const i64, strides: *const i64, data: *const c_void, release: tfuse_release_fn, owner: *mut c_void) -> tfuse_status;
    /// Ends building. A sealed model never changes and may be read by any number of threads.
    pub fn tfuse_model_seal(ctx: *mut tfuse_ctx, model: *mut tfuse_model) -> tfuse_status;
    pub fn tfuse_model_count(model: *const tfuse_model) -> usize;
    /// Fills min(info->struct_size, ours) bytes with tensor `index`, in order of names. Errors: TFUSE_ERANGE.
    pub fn tfuse_model_tensor(model: *const tfuse_model, index: usize, info: *mut tfuse_tensor_info) -> tfuse_status;
    /// Copies a tensor into memory of the caller's, row-major.
    /// @param index  in: 0..count-1.
    /// @param dtype  in: element type to copy as: the tensor's own for its bytes as they are, or a floating-point type, rounded to nearest even.
    /// @param dst    out: `size` bytes, any alignment.
    /// @param size   in: bytes there; must be just those of the tensor in that type.
    /// Errors: TFUSE_ERANGE, TFUSE_ESHAPE (size), TFUSE_EDTYPE, TFUSE_ENUMERIC (NaN or infinity, when converted), TFUSE_EIO, TFUSE_ENOMEM.
    pub fn tfuse_model_read(ctx: *mut tfuse_ctx, model: *const tfuse_model, index: usize, dtype: tfuse_dtype, dst: *mut c_void, size: usize) -> tfuse_status;
    /// Index of a name, or -1.
    pub fn tfuse_model_find(model: *const tfuse_model, name: *const c_char) -> i64;
    /// The path that it was opened from, or "".
    pub fn tfuse_model_path(model: *const tfuse_model) -> *const c_char;
    /// The config as JSON text, or "".
    pub fn tfuse_model_config(model: *const tfuse_model) -> *const c_char;
    pub fn tfuse_model_free(model: *mut tfuse_model);
    /// Splits every feed-forward network of a dense model into moe.experts experts of equal size, of which each token goes to moe.top_k (emergent
    /// mixtures of experts: Qiu et al., NAACL 2024), and writes a checkpoint. FFNs are found in the graph: two linears with a function between, one
    /// axis in and out, gated or not.
    ///
    /// Hidden units are clustered by their keys, the rows of the first linear (of the gate) scaled to length one: a k-means whose assignment is the
    /// exact optimal transport from n units of mass 1/n to E centres of mass 1/E (moe.starts starts by run.seed), improved by exchanges of two units
    /// where n is at most 4096. An expert's row of the router is the mean of its keys as they are. With D_e, h_e an expert's columns and hidden units
    ///     y = sum over the moe.top_k experts e with the largest mean(K_e) x of D_e h_e(x) + b,
    /// which is the dense output when moe.top_k is moe.experts.
    ///
    /// moe.layout says what is written. emoe, for any model: the authors' layouts, with n_expert and topk in config.json. A gated FFN keeps its tensors,
    /// units in the experts' order, so the dense model's framework loads the checkpoint as the dense model; a plain one is stored as Tutel's experts.
    /// mixtral, qwen2_moe, qwen3_moe: checkpoints that transformers loads as such, for models whose graph is theirs but for the FFNs (Llama, Mistral and
    /// Phi-3 as mixtral; Qwen2 and Llama as qwen2_moe; Qwen3 as qwen3_moe). These weigh experts by a softmax of the logits: the second linears are
    /// multiplied by what undoes equal weights (moe.top_k, or moe.experts where the softmax is over all), and the router by a power of two that makes the
    /// weights equal to about one part in 2^8 and keeps the choice to one part in 2^16 of the logits' spread; with moe.top_k = moe.experts they are equal,
    /// and with moe.top_k = 1 under mixtral one.
    ///
    /// moe.split=contiguous and random write those splits in place of the clusters, as controls. Beside config.json lies tfuse_moe.json with the units'
    /// order and the dense model's config, for tfuse_moe_dense.
    /// @param policy  in: moe.*, run.seed, calib.samples, io.*, run.memory, fuse.selfcheck (every expert chosen, the split model runs beside the dense
    ///                one on a few random inputs before anything is written). moe.experts and moe.top_k have no default.
    /// @param model   in: dense, with weights; borrowed for the call.
    /// @param calib   in: inputs as in tfuse_align for the report's errors; NULL: none.
    /// @param out     in: path of the directory, which appears whole or not at all; an existing one is refused unless io.force is 1.
    /// @param report  out: JSON, release with tfuse_string_free: {"layout", "split", "experts", "top_k", "weights": "one", "equal" or "nearly equal",
    ///                "selfcheck": largest difference over the largest output, or null, "spread", "error", "output_error", "ffns": [{"name", "units",
    ///                "iterations", "swaps", "spread", "error"}]}. spread, error and output_error are {"clustered", "contiguous", "random"}: the clusters
    ///                beside runs of units as they lie and in a random order. spread: mean squared distance of a key of length one to its expert's centre
    ///                (of the whole: the mean over FFNs). error: squared error of the routed output on the dense model's own values over the square of
    ///                the dense output, output_error that of the whole model's output; null without calib.
    /// Errors: TFUSE_EINVAL (moe.experts or moe.top_k not given, top_k above experts), TFUSE_ESHAPE (hidden units that cannot be cut so),
    /// TFUSE_EUNSUPPORTED (no FFN, a mixture of experts already, or a layout that cannot say what the model computes, naming the node), TFUSE_EKEY
    /// (moe.layout), TFUSE_ENUMERIC (the self-check), TFUSE_ERANGE (run.memory), TFUSE_EEXIST, TFUSE_EIO, TFUSE_ECANCELLED, TFUSE_ENOMEM, and those of
    /// tfuse_graph_infer and tfuse_run.
    /// Thread-safety: as of every call on ctx; the model may be shared. Equal seeds give equal bytes for any number of threads.
    pub fn tfuse_moe(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, model: *const tfuse_model, calib: *const tfuse_array, out: *const c_char, report: *mut *mut c_char) -> tfuse_status;
    /// The same into memory.
    /// @param made    out: a sealed model with tensors of its own; release with tfuse_model_free.
    pub fn tfuse_moe_model(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, model: *const tfuse_model, calib: *const tfuse_array, made: *mut *mut tfuse_model, report: *mut *mut c_char) -> tfuse_status;
    /// Joins the experts of a split model into dense FFNs again, and writes a checkpoint with the dense model's config. With the tfuse_moe.json that
    /// lies beside a split model's config hidden units go back to their places, and tensors are the dense model's own to the bit but for a second linear
    /// or bias that was multiplied by what is no power of two (one rounding); without it (a checkpoint of the authors, or one that was fused since) they
    /// stay in the experts' order, and the function is that of all experts together.
    /// @param model   in: of the emoe layout, or of another with tfuse_moe.json beside it: the experts of other mixtures are no parts of one network.
    /// @param report  out: JSON, release with tfuse_string_free: {"layout", "experts", "top_k", "ffns": how many, "ordered": whether units went back}.
    /// Errors: TFUSE_EUNSUPPORTED (a dense model; a mixture that is not known to be a split one), TFUSE_EFORMAT (tfuse_moe.json does not fit the model), and
    /// those of tfuse_moe.
    pub fn tfuse_moe_dense(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, model: *const tfuse_model, out: *const c_char, report: *mut *mut c_char) -> tfuse_status;
    /// Every problem that tfuse_moe (or with `dense` 1 tfuse_moe_dense) would meet, from headers alone, and what it takes.
    /// @param paths   in: one model; calib and out or NULL.
    /// @param report  out: as of tfuse_dry_run.
    /// Errors: TFUSE_EINVAL, TFUSE_EVERSION, TFUSE_ENOMEM.
    pub fn tfuse_moe_dry_run(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, paths: *const tfuse_run_paths, dense: i32, report: *mut *mut c_char) -> tfuse_status;
    /// Aligns models to the first one, the anchor.
    /// @param policy  in: align.*, matching.*, otfusion.*, solver.*, calib.*, run.*.
    /// @param models  in: n_models sealed models, the anchor first; at least two. Borrowed for the call.
    /// @param calib   in: calibration inputs (tfuse/run.h); NULL: none, or what causal language models generate (tfuse_generate). The first calib.samples
    ///                are used, of generated ones all unless that is set.
    /// @param out     out: release with tfuse_plan_free. It keeps nothing of the models.
    /// Errors: TFUSE_EGRAPH (models that do not pair; the text names the axis or node), TFUSE_EINVAL (a method that needs calibration
    /// and has none), TFUSE_ESHAPE, TFUSE_ENUMERIC, TFUSE_EKEY, TFUSE_ECONVERGE, TFUSE_ECANCELLED, TFUSE_ENOMEM, and those of tfuse_graph_infer.
    pub fn tfuse_align(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, models: *const *const tfuse_model, n_models: usize, calib: *const tfuse_array, out: *mut *mut tfuse_plan) -> tfuse_status;
    /// Calibration inputs that causal language models draw from themselves, by their own probabilities, in turn: what tfuse_align and tfuse_repair_new make
    /// when calib is NULL. To make them once for both calls, give them the array, with calib.samples at least their number.
    /// @param policy  in: calib.generate sequences of calib.length tokens, run.seed; unless calib.generate is set, whether any (that key's help).
    /// @param plan    in: that they will be used with; NULL: the models will be aligned.
    /// @param models  in: as in tfuse_align, borrowed for the call.
    /// @param out     out: sequences × tokens, int32, release with tfuse_array_free; NULL when by the policy nothing is generated. Equal seeds give equal
    ///                ones, for any number of threads. Each starts with the config's bos_token_id, without one with a token drawn from all alike.
    /// Cost: about one pass of one model over all tokens; its weights in float32 are held.
    /// Errors: TFUSE_EUNSUPPORTED (calib.generate is set, but a model is no causal language model), TFUSE_ENUMERIC (outputs that are not finite),
    /// TFUSE_ERANGE (run.memory), TFUSE_ECANCELLED, TFUSE_ENOMEM, and those of tfuse_graph_infer and of pairing in tfuse_align.
    pub fn tfuse_generate(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, plan: *const tfuse_plan, models: *const *const tfuse_model, n_models: usize, out: *mut *mut tfuse_array) -> tfuse_status;
    /// Writes a plan (docs/plan-format.md), in one step. `force` replaces an existing file. Errors: TFUSE_EEXIST, TFUSE_EIO, TFUSE_ENOMEM.
    pub fn tfuse_plan_save(ctx: *mut tfuse_ctx, plan: *const tfuse_plan, path: *const c_char, force: i32) -> tfuse_status;
    /// Reads a plan. Errors: TFUSE_EIO, TFUSE_EFORMAT, TFUSE_ECORRUPT (checksum), TFUSE_EVERSION, TFUSE_ENOMEM.
    pub fn tfuse_plan_load(ctx: *mut tfuse_ctx, path: *const c_char, out: *mut *mut tfuse_plan) -> tfuse_status;
    pub fn tfuse_plan_count(plan: *const tfuse_plan) -> usize;
    /// Fills min(info->struct_size, ours) bytes; set info->struct_size before. Errors: TFUSE_ERANGE.
    pub fn tfuse_plan_map(plan: *const tfuse_plan, index: usize, info: *mut tfuse_map_info) -> tfuse_status;
    /// A map as an n × m float32 array T whose columns say what each unit of the anchor receives; they sum to one, but for a raw map's, which
    /// acts as it is. Release with tfuse_array_free. Errors: TFUSE_ERANGE, TFUSE_ENOMEM.
    pub fn tfuse_plan_matrix(ctx: *mut tfuse_ctx, plan: *const tfuse_plan, index: usize, out: *mut *mut tfuse_array) -> tfuse_status;
    /// The plan as one JSON object: {"strategy", "exact" (each model carried alone computes what it did), "carries" (every axis has one map), "policy",
    /// "objective": for each model the strategy's objective after each round (matching: the mean correlation of what is matched),
    /// "models": [{"name", "graph", "header", "weights"}], "passes", "maps": [...], "table": [...], "owners" and "repair": what tfuse_repair_report told
    /// where the plan was saved by tfuse_plan_save_repaired, else [] and null}; tfuse_string_free. A map of heads
    /// has "heads": for each head of the anchor the shares that each head of the model has in it.
    pub fn tfuse_plan_report(ctx: *mut tfuse_ctx, plan: *const tfuse_plan, out: *mut *mut c_char) -> tfuse_status;
    /// Draws a random member of a model's symmetry group (gauge.stream, run.seed) as a plan of two models, the model twice, that carries the second onto
    /// other coordinates: tfuse_fuse with {model, model} and combine.weights=0,1 gives the same function with moved weights. What may
    /// move comes from what the graph's operations permit: orthogonal maps of the stream (fixing the ones vector under LayerNorm), heads, inner
    /// maps of condition number at most 10, hidden units. Equal seeds give equal maps. Needs LAPACK (TFUSE_EUNSUPPORTED without).
    /// @param policy  in: NULL for defaults.
    /// @param out     out: release with tfuse_plan_free.
    /// Thread-safety: as of every call on ctx; the model may be shared.
    /// Errors: TFUSE_EGRAPH, TFUSE_EINVAL, TFUSE_ENUMERIC, TFUSE_ENOMEM, and those of tfuse_graph_infer.
    pub fn tfuse_gauge(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, model: *const tfuse_model, out: *mut *mut tfuse_plan) -> tfuse_status;
    pub fn tfuse_plan_free(plan: *mut tfuse_plan);
    /// Number of keys.  Threads: any.
    pub fn tfuse_key_count() -> usize;
    /// Fills min(info->struct_size, ours) bytes with row `index`; set info->struct_size before. Errors: TFUSE_ERANGE.  Threads: any.
    pub fn tfuse_key_get(index: usize, info: *mut tfuse_key_info) -> tfuse_status;
    /// A policy of defaults. Release with tfuse_policy_free. Errors: TFUSE_ENOMEM.
    pub fn tfuse_policy_new(ctx: *mut tfuse_ctx, out: *mut *mut tfuse_policy) -> tfuse_status;
    /// Sets a key; the last setting wins. Never clamps.
    /// Errors: TFUSE_EKEY (an unknown key, with the nearest known one; a value of the wrong type or out of bounds), TFUSE_ENOMEM.
    pub fn tfuse_policy_set(ctx: *mut tfuse_ctx, policy: *mut tfuse_policy, key: *const c_char, value: *const c_char) -> tfuse_status;
    /// The value of a key as text: as set, or its default; NULL for an unknown key. Borrowed until the key is set again.
    pub fn tfuse_policy_get(policy: *const tfuse_policy, key: *const c_char) -> *const c_char;
    /// 1 when the key was set, 0 when it has its default or is unknown.
    pub fn tfuse_policy_is_set(policy: *const tfuse_policy, key: *const c_char) -> i32;
    pub fn tfuse_policy_free(policy: *mut tfuse_policy);
    /// Walks the fused network from its input to its output, and fits each linear on the network's own inputs X to what the parents give there, carried to
    /// the anchor's coordinates: W = (Y'X + rho W0)(X'X + rho)^-1 with W0 the combined weights and Y the parents' mean outputs; of a linear that
    /// writes to the residual stream Y is the parents' mean stream after it less the network's own before it, so that errors are carried along and made
    /// good. rho is chosen on every fifth sample, left out for that. Stages, of the key `repair`, always in this order:
    /// mix (the parents' mean, or one parent that leads with the share repair.lead, or half of the way from there to all, or, unless repair.alone is 0, any
    /// parent alone: whichever brings held-out samples nearest to the ensemble; for one alone select, regmean and refit have nothing to do where its maps lose
    /// nothing, and the report's stages are without them),
    /// circuits (the products Q'K and O V of aligned heads averaged, and cut back to the width of a head by their singular values, weighted by the second
    /// moments of their inputs where there are samples; needs no calibration),
    /// select (heads, unless circuits took them, and hidden units chosen from all parents by the energy that a ridge on them explains, in place of averages),
    /// regmean (Jin et al. 2023), refit (every linear but the last), statistics (Jordan et al. 2023), head (the last linear, to the mean of the logits).
    /// @param policy  in: repair, repair.*, calib.samples, combine.weights; NULL: defaults (repair=auto: where the plan's maps keep the models' functions,
    ///                mix, select, refit and head with calibration, and without it circuits, but for rotary positions; otherwise nothing).
    /// @param plan    in: must be exact (maps that keep the functions, such as those of align.strategy=matching) for any stage.
    /// @param models  in: as in tfuse_align, borrowed for the call.
    /// @param calib   in: unlabelled inputs as in tfuse_align; NULL: none, or what the models generate, as there.
    /// @param out     out: release with tfuse_repair_free. It holds the fused network's fitted tensors in float32.
    /// Memory while it runs: the live activations of calib.samples samples for each parent and the fused network, which go to files without a name under
    /// /var/tmp when run.memory bounds it, and three Grams of the widest linear.
    /// Errors: TFUSE_EINVAL (stages without calibration, or with a plan that is not exact), TFUSE_EKEY (an unknown stage), TFUSE_EUNSUPPORTED (a graph without
    /// output), TFUSE_ENUMERIC (values that become NaN or infinite), TFUSE_ECANCELLED, TFUSE_ENOMEM, and those of tfuse_align and tfuse_fuse.
    pub fn tfuse_repair_new(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, plan: *const tfuse_plan, models: *const *const tfuse_model, n_models: usize, calib: *const tfuse_array, out: *mut *mut tfuse_repair) -> tfuse_status;
    /// What was done: JSON, owned by the handle: {"stages": [names], "samples", "mix": the share of each
    /// parent, "mixes": [{"lead": parent, "share": its (both null: all by their weights), "kl": how far the network of that mix is from the ensemble on
    /// held-out samples, in nats}] of all that were tried, "kl_refit": as kl_fused, but before the last linear is fitted (null where it is not),
    /// "kl_fused", "kl_anchor": mean Kullback-Leibler divergence (nats) of the fused network and of the anchor alone from the ensemble, whose logits are
    /// the parents' mean (null without samples); "worse": whether the fused network is the farther one, by more than 1e-4; "circuits": [{"name", "circuit",
    /// "kept": share of the squared singular values, "dropped": singular values left out over the largest, mean over heads}]; "linears": [{"name",
    /// "ridge" (null: nothing was better than what was there by 1e-5 of the target's square, to which errors are known), "before", "after": squared error
    /// on held-out samples over the target's square}],
    /// "selected": [{"axis", "units": how many of each parent}], "owners": [{"axis", "model": [...], "unit": [...]}]: of each unit of a selected axis the model
    /// that it came from, the anchor being 0, and which unit it was there (-1: a mix of several, as between unequal widths)}. {"stages": []} when nothing was
    /// asked for. NULL: NULL.
    pub fn tfuse_repair_report(repair: *const tfuse_repair) -> *const c_char;
    pub fn tfuse_repair_free(repair: *mut tfuse_repair);
    /// tfuse_plan_save, and with it what the repair told: whose the units are that it selected ("owners"), and the rest of its report ("repair"), both of
    /// which tfuse_plan_report then shows. Applying a plan does not look at them. repair NULL, or one that did nothing: what the plan holds is kept. Since
    /// 0.2. Errors: as tfuse_plan_save.
    pub fn tfuse_plan_save_repaired(ctx: *mut tfuse_ctx, plan: *const tfuse_plan, repair: *const tfuse_repair, path: *const c_char, force: i32) -> tfuse_status;
    /// tfuse_fuse and tfuse_fuse_model with the fitted weights in place of the combined ones. The policy's combine.weights hold for tensors that
    /// were not fitted. Errors: also TFUSE_EGRAPH when the fitted weights are of another graph. repair NULL: none.
    pub fn tfuse_fuse_repaired(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, plan: *const tfuse_plan, models: *const *const tfuse_model, n_models: usize, repair: *const tfuse_repair, out: *const c_char) -> tfuse_status;
    pub fn tfuse_fuse_model_repaired(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, plan: *const tfuse_plan, models: *const *const tfuse_model, n_models: usize, repair: *const tfuse_repair, fused: *mut *mut tfuse_model) -> tfuse_status;
    /// Fuses into memory of the caller's, one tensor at a time: at no time more than one is held besides. Before the first one each model is held to the plan
    /// as by tfuse_fuse (fuse.selfcheck). The names, shapes and config are the anchor's.
    /// @param repair  in: NULL: none.
    /// @param sink    in: where each tensor goes; copied.
    /// Errors: as tfuse_fuse_repaired without those of files; TFUSE_EINVAL (a table without `place`, a buffer that overlaps a model's tensor, which is
    /// named), TFUSE_EVERSION, TFUSE_ECALLBACK. After an error what `done` has not seen may be half written.
    pub fn tfuse_fuse_into(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, plan: *const tfuse_plan, models: *const *const tfuse_model, n_models: usize, repair: *const tfuse_repair, sink: *const tfuse_sink) -> tfuse_status;
    /// Accuracy and mean loss.
    /// @param graph   in: NULL: inferred from the model.
    /// @param inputs  in.
    /// @param labels  in: integers, one for each prediction (sample, or token of one); -100 is ignored. NULL: a causal language model is scored on its
    ///                 next tokens, another model's samples are only run; scored is 0 and loss NaN.
    /// @param limit   in: the first so many samples; 0 for all.
    /// @param score   in, out: set struct_size before.
    /// Errors: TFUSE_ESHAPE (inputs that do not fit), TFUSE_ERANGE (a label that is no class, a negative limit), TFUSE_ENUMERIC, TFUSE_ECANCELLED, TFUSE_ENOMEM, and
    /// those of tfuse_graph_infer.
    pub fn tfuse_eval(ctx: *mut tfuse_ctx, model: *const tfuse_model, graph: *const tfuse_graph, inputs: *const tfuse_array, labels: *const tfuse_array, limit: i64, score: *mut tfuse_score) -> tfuse_status;
    /// Outputs (logits), float32, samples first.
    /// @param out  out: release with tfuse_array_free.
    /// Errors: as tfuse_eval.
    pub fn tfuse_run(ctx: *mut tfuse_ctx, model: *const tfuse_model, graph: *const tfuse_graph, inputs: *const tfuse_array, limit: i64, out: *mut *mut tfuse_array) -> tfuse_status;
    /// Adds a solver to the context's table; policies then take its name in solver.name.
    /// @param ops   in: copied with its name.
    /// @param user  in: first argument of solve; must live as long as the context.
    /// Errors: TFUSE_EINVAL (no name, no function, or the name is taken), TFUSE_EVERSION, TFUSE_ENOMEM.
    pub fn tfuse_ctx_add_solver(ctx: *mut tfuse_ctx, ops: *const tfuse_solver_ops, user: *mut c_void) -> tfuse_status;
    /// Solves one problem with the policy's solver (solver.name, solver.reg, solver.strict).
    /// @param cost   in: n × m, any float type; read as float32; must be finite.
    /// @param mu,nu  in: n and m masses, >= 0, equal totals (1e-6 relative), scaled to sum to one; NULL for uniform.
    /// @param out    out: release with tfuse_solution_free.
    /// Errors: TFUSE_ESHAPE, TFUSE_EDTYPE (not floating point), TFUSE_ENUMERIC (NaN, infinite or negative mass, unequal totals), TFUSE_EKEY (unknown solver),
    /// TFUSE_ECONVERGE (only with solver.strict), TFUSE_ECANCELLED, TFUSE_ENOMEM.
    pub fn tfuse_solve(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, cost: *const tfuse_array, mu: *const tfuse_array, nu: *const tfuse_array, out: *mut *mut tfuse_solution) -> tfuse_status;
    /// Solves problems that do not depend on each other, side by side on the context's threads: heads, layers, a schedule of changing costs. One
    /// task is tfuse_solve with potentials to start from.
    ///
    /// Potentials are a hint: whatever finite numbers they are, the result is as right and as certified as without; near those of
    /// the solution they save most of the work. tfuse_solution_potentials gives them in the same layout.
    ///
    /// @param tasks  in: count of them, each with the same struct_size, which is also their distance in memory.
    /// @param out    out: count solutions in the order of the tasks, the same bits for any number of threads; all NULL on failure.
    /// Errors: those of tfuse_solve, of the first task in order that fails ("problem K: ..."); TFUSE_ENUMERIC (a potential that is NaN or infinite;
    /// -inf is taken where the mass is 0), TFUSE_EINVAL, TFUSE_EVERSION (tasks), TFUSE_ERANGE (more than 2^32 - 1).
    /// A solver of the caller's gets the tasks one after the other.
    pub fn tfuse_solve_batch(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, tasks: *const tfuse_task, count: usize, out: *mut *mut tfuse_solution) -> tfuse_status;
    /// Fills min(info->struct_size, ours) bytes; set info->struct_size before.
    pub fn tfuse_solution_get(solution: *const tfuse_solution, info: *mut tfuse_solution_info) -> tfuse_status;
    /// The coupling as an n × m float32 array of its own; release with tfuse_array_free. Errors: TFUSE_ENOMEM.
    pub fn tfuse_solution_coupling(ctx: *mut tfuse_ctx, solution: *const tfuse_solution, out: *mut *mut tfuse_array) -> tfuse_status;
    /// The potentials as float64 arrays of their own; release with tfuse_array_free. An exact solver's are feasible, u_i + v_j <= cost_ij up to
    /// rounding, with equality where the coupling has mass; Sinkhorn's are those of coupling_ij = exp((u_i + v_j - cost_ij) / reg), -inf where a mass is 0.
    /// @param u,v  out: n and m numbers; either may be NULL.
    /// Errors: TFUSE_ENOTFOUND (the solver gave none), TFUSE_ENOMEM.
    pub fn tfuse_solution_potentials(ctx: *mut tfuse_ctx, solution: *const tfuse_solution, u: *mut *mut tfuse_array, v: *mut *mut tfuse_array) -> tfuse_status;
    /// How it was solved and why so, e.g. "assignment: square, uniform masses". Borrowed; "" for NULL.
    pub fn tfuse_solution_method(solution: *const tfuse_solution) -> *const c_char;
    pub fn tfuse_solution_free(solution: *mut tfuse_solution);
    /// What an alignment wants to see. Only tensors' names and shapes are looked at: weights may go on changing until tfuse_align_stats.
    /// @param policy    in: as for tfuse_align; NULL: defaults. Borrowed for the call.
    /// @param models    in: n_models sealed models, the anchor first; at least two. They must live until tfuse_stats_free.
    /// @param out       out: release with tfuse_stats_free.
    /// Errors: TFUSE_EGRAPH (models that do not pair), TFUSE_EKEY, TFUSE_EINVAL, TFUSE_ESTATE, TFUSE_ENOMEM, and those of tfuse_graph_infer.
    pub fn tfuse_stats_new(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, models: *const *const tfuse_model, n_models: usize, out: *mut *mut tfuse_stats) -> tfuse_status;
    /// Number of values that each step needs; 0 where the policy looks at weights alone.
    pub fn tfuse_stats_count(stats: *const tfuse_stats) -> usize;
    /// The index-th of them, index in 0..count-1; set want->struct_size before. Errors: TFUSE_ERANGE, TFUSE_EINVAL.
    pub fn tfuse_stats_want(stats: *const tfuse_stats, index: usize, want: *mut tfuse_stat_want) -> tfuse_status;
    /// 1, or 2 where deviations from the final means are wanted (otfusion.compat=1 with residual=scalar or matrix): all batches must then be fed twice.
    pub fn tfuse_stats_sweeps(stats: *const tfuse_stats) -> i32;
    /// One value of one model on the batch that is under way.
    /// @param model  in: index of the model.
    /// @param value  in: name.
    /// @param batch  in: samples × tokens × units (any shape whose first extent is the samples and whose product fits), F32, F16, BF16 or
    ///               F64; copied as float32, row-major.
    /// Errors: TFUSE_ENOTFOUND (a value that is not wanted), TFUSE_ESHAPE, TFUSE_EDTYPE, TFUSE_ERANGE (no such model), TFUSE_ESTATE (fed already, or no more
    /// is taken), TFUSE_ENOMEM. After an error the value is not fed, and may be.
    pub fn tfuse_stats_feed(ctx: *mut tfuse_ctx, stats: *mut tfuse_stats, model: usize, value: *const c_char, batch: *const tfuse_array) -> tfuse_status;
    /// Adds the batch: every wanted value of every model has been fed, on the same number of samples.
    /// Errors: TFUSE_ESTATE (names a value that is missing) and TFUSE_ESHAPE (another number of samples) lose nothing;
    /// TFUSE_ENUMERIC (NaN or infinity; names the value), TFUSE_ECANCELLED and TFUSE_ENOMEM end the statistics: begin anew.
    pub fn tfuse_stats_step(ctx: *mut tfuse_ctx, stats: *mut tfuse_stats) -> tfuse_status;
    /// Begins the second sweep. Errors: TFUSE_ESTATE (there is none, or values are fed that no step has added).
    pub fn tfuse_stats_rewind(ctx: *mut tfuse_ctx, stats: *mut tfuse_stats) -> tfuse_status;
    /// tfuse_align with these statistics in place of calibration inputs. May be called again, with another solver or metric; the statistics take no
    /// more values after the first call.
    /// The models are those that the statistics were made for, with the weights that they have now.
    /// @param policy  in: one that wants nothing that the statistics lack; NULL: defaults.
    /// @param out     out: release with tfuse_plan_free.
    /// Errors: as tfuse_align, and TFUSE_ESTATE (sweeps that are not complete, or a policy that wants more).
    pub fn tfuse_align_stats(ctx: *mut tfuse_ctx, policy: *const tfuse_policy, stats: *mut tfuse_stats, out: *mut *mut tfuse_plan) -> tfuse_status;
    /// Before the context's own release. NULL is allowed.
    pub fn tfuse_stats_free(stats: *mut tfuse_stats);
    /// Version of the library that runs, in the form of TFUSE_VERSION.
    /// It may be newer than the headers that a program was compiled with.
    /// Threads: any.
    pub fn tfuse_version() -> u32;
    /// Whether this build has an optional part. What a build lacks is refused with TFUSE_EUNSUPPORTED; the functions are there all the same.
    /// @param part  in: "lapack": factorisations, and so the maps of align.strategy=matching that rotate, repair, and tfuse_gauge.
    /// Returns 1 or 0; 0 for a part that this version does not know.  Threads: any.
    pub fn tfuse_has(part: *const c_char) -> i32;
}
