/* SPDX-License-Identifier: Apache-2.0
 *
 * tfuse/base.h: status codes, data types, and the context that every call gets.
 *
 * Rules that hold for every function of this library and are not repeated:
 *  - the context comes first, outputs come last;
 *  - a function that can fail returns a tfuse_status: 0, or a negative code, and then
 *    tfuse_ctx_error(ctx) is one line that names the file, tensor or key and says what to do;
 *  - on failure every output handle is NULL and nothing needs to be released;
 *  - a _free function takes NULL;
 *  - an argument that may not be NULL and is, and a handle of another kind than the parameter's, are TFUSE_EINVAL,
 *    and the text names the argument; functions that return no status take such a handle as NULL;
 *  - strings are UTF-8 and end in NUL; a string that is handed out is borrowed from the handle
 *    that the comment names;
 *  - a context is used by one thread at a time (tfuse_ctx_cancel excepted); a handle passed as
 *    pointer to const may be shared by any number of threads, each with a context of its own;
 *  - the library keeps no global state, prints nothing and reads no environment variables of
 *    its own. BLIS and LAPACK do allocate outside the context's allocator and read theirs;
 *    jansson, and strings that are handed over to tfuse_string_free, are allocated with malloc.
 *    Where malloc returns NULL the call is TFUSE_ENOMEM, with one exception: BLIS, and the OpenMP
 *    that one build of it is linked to, end the process when they get no memory for a matrix
 *    product's buffers. BLIS keeps them (some 2 MiB a thread) after the first products of their size.
 */
#ifndef TFUSE_BASE_H
#define TFUSE_BASE_H

#include <stddef.h>
#include <stdint.h>
#include <tfuse/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/** 0, or one of the negative TFUSE_E codes. Codes are never renumbered; take unknown ones as failure. */
typedef int32_t tfuse_status;

enum {
    TFUSE_OK = 0,            /**< done */
    TFUSE_EINVAL = -1,       /**< an argument that the caller could have checked */
    TFUSE_ENOMEM = -2,       /**< the allocator returned NULL */
    TFUSE_ERANGE = -3,       /**< a number out of its bounds */
    TFUSE_ESTATE = -4,       /**< not now: a sealed model, an unfinished graph, a call from a callback */
    TFUSE_EUNSUPPORTED = -5, /**< known, but not by this build or not for this input */
    TFUSE_ECANCELLED = -6,   /**< tfuse_ctx_cancel, or a progress callback, said so */
    TFUSE_ECALLBACK = -7,    /**< a function of the caller's failed */
    TFUSE_EKEY = -8,         /**< an unknown policy key, or a value that the key does not take */
    TFUSE_EIO = -20,         /**< the operating system refused; the text has its reason */
    TFUSE_EFORMAT = -21,     /**< a file that is not what it should be */
    TFUSE_ECORRUPT = -22,    /**< a file whose checksum or sizes are wrong */
    TFUSE_EVERSION = -23,    /**< a file or table of a newer version */
    TFUSE_EEXIST = -24,      /**< the output exists */
    TFUSE_ENOTFOUND = -30,   /**< no such tensor, node, file or name */
    TFUSE_ESHAPE = -31,      /**< shapes that do not fit */
    TFUSE_EDTYPE = -32,      /**< a data type that is not taken here */
    TFUSE_EGRAPH = -33,      /**< a graph that contradicts itself, or graphs that do not pair */
    TFUSE_ENUMERIC = -40,    /**< NaN or infinity, or a factorisation that failed */
    TFUSE_ECONVERGE = -41,   /**< an iteration that did not reach its tolerance (solver.strict) */
    TFUSE_EINTERNAL = -99    /**< a defect of the library: please report it */
};

/** Element type of a tensor or an array; names as in safetensors. */
typedef int32_t tfuse_dtype;

enum {
    TFUSE_F32 = 1,
    TFUSE_F16 = 2,
    TFUSE_BF16 = 3,
    TFUSE_F64 = 4,
    TFUSE_I64 = 5,
    TFUSE_I32 = 6,
    TFUSE_U8 = 7,
    TFUSE_I8 = 8,
    TFUSE_I16 = 9,
    TFUSE_U16 = 10,
    TFUSE_U32 = 11,
    TFUSE_U64 = 12,
    TFUSE_BOOL = 13
};

/** Most dimensions that a tensor or an array may have. */
#define TFUSE_MAX_RANK 8

/** A context: allocator, threads, log, progress, cancellation, text of the last error. */
typedef struct tfuse_ctx tfuse_ctx;

/**
 * Allocator of the caller's. `alloc` returns memory aligned to `align` (a power of two, at most
 * 4096) or NULL; `free` gets what `alloc` returned, with the same size and align, never NULL.
 * Both may be called from the library's worker threads at once.
 */
typedef struct tfuse_allocator {
    size_t struct_size; /**< sizeof(tfuse_allocator) */
    void *user;         /**< first argument of both */
    void *(*alloc)(void *user, size_t size, size_t align);
    void (*free)(void *user, void *ptr, size_t size, size_t align);
} tfuse_allocator;

/**
 * Threads of the caller's: `parallel_for` calls body(arg, i) once for every i < n, on any threads
 * and in any order, and returns when all are done. `concurrency` says how many may run at once.
 */
typedef struct tfuse_executor {
    size_t struct_size;
    void *user;
    uint32_t concurrency;
    void (*parallel_for)(void *user, uint32_t n, void (*body)(void *arg, uint32_t i), void *arg);
} tfuse_executor;

enum { TFUSE_LOG_ERROR = 1, TFUSE_LOG_WARN = 2, TFUSE_LOG_INFO = 3, TFUSE_LOG_DEBUG = 4 };

/** Gets one line of log, without a newline. Called on the thread that made the call. */
typedef void (*tfuse_log_fn)(void *user, int32_t level, const char *line);

/** How far a long call has come. */
typedef struct tfuse_progress {
    size_t struct_size;
    const char *stage; /**< what is being done, e.g. "statistics"; borrowed for the call */
    uint64_t done;     /**< units done */
    uint64_t total;    /**< units in all; 0 when not known */
} tfuse_progress;

/** Returns 0 to go on; anything else cancels the call (TFUSE_ECANCELLED). On the calling thread. */
typedef int32_t (*tfuse_progress_fn)(void *user, const tfuse_progress *progress);

/** Called once, when the library no longer needs memory that it borrowed. */
typedef void (*tfuse_release_fn)(void *owner);

/**
 * Makes a context: one thread, no log, no progress.
 * @param alloc  in: allocator, copied; NULL for malloc and free. Handles made through the
 *               context keep a copy of the table and may outlive the context.
 * @param out    out: the context; release with tfuse_ctx_free.
 * Errors: TFUSE_EINVAL, TFUSE_ENOMEM.  Threads: any.
 */
TFUSE_API tfuse_status tfuse_ctx_new(const tfuse_allocator *alloc, tfuse_ctx **out);

/** Releases a context and joins its threads. NULL is allowed. */
TFUSE_API void tfuse_ctx_free(tfuse_ctx *ctx);

/**
 * Text of the last failed call on this context: one line; "" when the last call succeeded.
 * Borrowed until the next call on the context.
 */
TFUSE_API const char *tfuse_ctx_error(const tfuse_ctx *ctx);

/** Name of a status, such as "TFUSE_EFORMAT". Static; never NULL.  Threads: any. */
TFUSE_API const char *tfuse_status_name(tfuse_status status);

/** Name of a data type as in safetensors, such as "BF16"; "?" if unknown. Static.  Threads: any. */
TFUSE_API const char *tfuse_dtype_name(tfuse_dtype dtype);

/** Bytes of one element; 0 if unknown.  Threads: any. */
TFUSE_API size_t tfuse_dtype_size(tfuse_dtype dtype);

/**
 * Number of threads that calls on this context may use, the calling one included.
 * Results do not depend on it, to the bit.
 * @param n  in: 1 to 1024; 0 for one per available core.
 * Errors: TFUSE_ERANGE, TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_ctx_set_threads(tfuse_ctx *ctx, uint32_t n);

/** Uses the caller's threads in place of the library's own. @param ex in: copied; NULL for the calling thread alone. */
TFUSE_API tfuse_status tfuse_ctx_set_executor(tfuse_ctx *ctx, const tfuse_executor *ex);

/** Log lines of `level` or more urgent go to fn; NULL for silence, which is the default. */
TFUSE_API tfuse_status tfuse_ctx_set_log(tfuse_ctx *ctx, tfuse_log_fn fn, void *user, int32_t level);

/** Progress of long calls goes to fn, at most about 20 times a second; NULL for none. */
TFUSE_API tfuse_status tfuse_ctx_set_progress(tfuse_ctx *ctx, tfuse_progress_fn fn, void *user);

/**
 * Makes the call that runs on this context, or the next one if none runs, end with TFUSE_ECANCELLED.
 * Threads: any, signal handlers included: it is one atomic store.
 */
TFUSE_API void tfuse_ctx_cancel(tfuse_ctx *ctx);

/**
 * Bytes that came from the context's allocator. Mapped files, and what BLIS, LAPACK, zlib and jansson take themselves, are not in it.
 * @param live  out: in use now, by handles that have outlived a call too; may be NULL.
 * @param peak  out: the most that ever was in use at once; may be NULL.
 * Threads: any, also while a call runs on the context.
 */
TFUSE_API tfuse_status tfuse_ctx_memory(const tfuse_ctx *ctx, uint64_t *live, uint64_t *peak);

/**
 * Writes `size` bytes to a file that appears whole, by one rename, or not at all: for reports and pictures beside a checkpoint.
 * @param data   in: not NULL; copied before the call returns.
 * @param force  in: 1 replaces an existing file, 0 refuses it.
 * Errors: TFUSE_EEXIST (it exists, or another writer is at it), TFUSE_EIO, TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_file_save(tfuse_ctx *ctx, const char *path, const void *data, size_t size, int32_t force);

/**
 * Whether an output could be put at `path`, asked before long work: nothing is made there. What happens to the file system meanwhile is found out when it is.
 * @param directory  in: 1 a checkpoint's directory, 0 a file.
 * @param force      in: as the call that will write it: 1 replaces what is there.
 * Errors: those of writing: TFUSE_EEXIST (it exists and is not to be, or may not be, replaced), TFUSE_EIO (there is no directory to put it in, or it may not
 * be written to), TFUSE_EINVAL, TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_output_check(tfuse_ctx *ctx, const char *path, int32_t directory, int32_t force);

/** Releases a string that the library handed over (reports, JSON). NULL is allowed.  Threads: any. */
TFUSE_API void tfuse_string_free(char *text);

#ifdef __cplusplus
}
#endif
#endif
