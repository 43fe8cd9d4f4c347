# SPDX-License-Identifier: Apache-2.0
"""Written by bindings/python/generate.py from the headers of libtfuse; `make generated` writes it."""
from __future__ import annotations

from ctypes import (CFUNCTYPE, POINTER, Structure, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t, c_uint32, c_uint64,
                    c_void_p, sizeof)
from typing import Any


class Sized(Structure):
    """A table whose first field says how long it is."""

    struct_size: int

    def __init__(self, **fields: Any) -> None:
        super().__init__(struct_size=sizeof(type(self)), **fields)

TFUSE_OK = 0
TFUSE_EINVAL = -1
TFUSE_ENOMEM = -2
TFUSE_ERANGE = -3
TFUSE_ESTATE = -4
TFUSE_EUNSUPPORTED = -5
TFUSE_ECANCELLED = -6
TFUSE_ECALLBACK = -7
TFUSE_EKEY = -8
TFUSE_EIO = -20
TFUSE_EFORMAT = -21
TFUSE_ECORRUPT = -22
TFUSE_EVERSION = -23
TFUSE_EEXIST = -24
TFUSE_ENOTFOUND = -30
TFUSE_ESHAPE = -31
TFUSE_EDTYPE = -32
TFUSE_EGRAPH = -33
TFUSE_ENUMERIC = -40
TFUSE_ECONVERGE = -41
TFUSE_EINTERNAL = -99
TFUSE_F32 = 1
TFUSE_F16 = 2
TFUSE_BF16 = 3
TFUSE_F64 = 4
TFUSE_I64 = 5
TFUSE_I32 = 6
TFUSE_U8 = 7
TFUSE_I8 = 8
TFUSE_I16 = 9
TFUSE_U16 = 10
TFUSE_U32 = 11
TFUSE_U64 = 12
TFUSE_BOOL = 13
TFUSE_MAX_RANK = 8
TFUSE_LOG_ERROR = 1
TFUSE_LOG_WARN = 2
TFUSE_LOG_INFO = 3
TFUSE_LOG_DEBUG = 4
TFUSE_OPEN_CONFIG_ONLY = 1
TFUSE_KEY_CHOICE = 1
TFUSE_KEY_INT = 2
TFUSE_KEY_REAL = 3
TFUSE_KEY_FLAG = 4
TFUSE_KEY_NAME = 5
TFUSE_KEY_REALS = 6
TFUSE_KEY_SET = 7
TFUSE_VERSION = 100
TFUSE_VERSION_STRING = "0.1.0"
TFUSE_ABI = 0


class tfuse_array(Structure):
    pass


class tfuse_ctx(Structure):
    pass


class DLManagedTensor(Structure):
    pass


class DLManagedTensorVersioned(Structure):
    pass


class tfuse_graph(Structure):
    pass


class tfuse_model(Structure):
    pass


class tfuse_plan(Structure):
    pass


class tfuse_policy(Structure):
    pass


class tfuse_repair(Structure):
    pass


class tfuse_solution(Structure):
    pass


class tfuse_stats(Structure):
    pass


class tfuse_allocator(Sized):
    user: int | None
    alloc: Any
    free: Any

    _fields_ = [
        ("struct_size", c_size_t),
        ("user", c_void_p),
        ("alloc", CFUNCTYPE(c_void_p, c_void_p, c_size_t, c_size_t)),
        ("free", CFUNCTYPE(None, c_void_p, c_void_p, c_size_t, c_size_t)),
    ]


class tfuse_executor(Sized):
    user: int | None
    concurrency: int
    parallel_for: Any

    _fields_ = [
        ("struct_size", c_size_t),
        ("user", c_void_p),
        ("concurrency", c_uint32),
        ("parallel_for", CFUNCTYPE(None, c_void_p, c_uint32, CFUNCTYPE(None, c_void_p, c_uint32), c_void_p)),
    ]


tfuse_log_fn = CFUNCTYPE(None, c_void_p, c_int32, c_char_p)


class tfuse_progress(Sized):
    stage: bytes | None
    done: int
    total: int

    _fields_ = [
        ("struct_size", c_size_t),
        ("stage", c_char_p),
        ("done", c_uint64),
        ("total", c_uint64),
    ]


tfuse_progress_fn = CFUNCTYPE(c_int32, c_void_p, POINTER(tfuse_progress))
tfuse_release_fn = CFUNCTYPE(None, c_void_p)


class tfuse_run_paths(Sized):
    models: Any
    n_models: int
    calib: bytes | None
    plan: bytes | None
    save_plan: bytes | None
    out: bytes | None

    _fields_ = [
        ("struct_size", c_size_t),
        ("models", POINTER(c_char_p)),
        ("n_models", c_size_t),
        ("calib", c_char_p),
        ("plan", c_char_p),
        ("save_plan", c_char_p),
        ("out", c_char_p),
    ]


class tfuse_tensor_info(Sized):
    name: bytes | None
    dtype: int
    rank: int
    shape: Any
    data: int | None
    size: int

    _fields_ = [
        ("struct_size", c_size_t),
        ("name", c_char_p),
        ("dtype", c_int32),
        ("rank", c_int32),
        ("shape", c_int64 * TFUSE_MAX_RANK),
        ("data", c_void_p),
        ("size", c_uint64),
    ]


class tfuse_sink(Sized):
    user: int | None
    place: Any
    done: Any

    _fields_ = [
        ("struct_size", c_size_t),
        ("user", c_void_p),
        ("place", CFUNCTYPE(c_void_p, c_void_p, POINTER(tfuse_tensor_info))),
        ("done", CFUNCTYPE(c_int32, c_void_p, POINTER(tfuse_tensor_info))),
    ]


class tfuse_map_info(Sized):
    name: bytes | None
    axis: bytes | None
    kind: bytes | None
    model: int
    n: int
    m: int
    cost: float
    gap: float
    error: float
    identity: float
    entropy: float
    iterations: int
    converged: int
    heads_n: int
    heads_m: int
    correlation: float
    kept: float

    _fields_ = [
        ("struct_size", c_size_t),
        ("name", c_char_p),
        ("axis", c_char_p),
        ("kind", c_char_p),
        ("model", c_int64),
        ("n", c_int64),
        ("m", c_int64),
        ("cost", c_double),
        ("gap", c_double),
        ("error", c_double),
        ("identity", c_double),
        ("entropy", c_double),
        ("iterations", c_int64),
        ("converged", c_int32),
        ("heads_n", c_int64),
        ("heads_m", c_int64),
        ("correlation", c_double),
        ("kept", c_double),
    ]


class tfuse_key_info(Sized):
    name: bytes | None
    type: int
    values: bytes | None
    min: float
    max: float
    default_value: bytes | None
    help: bytes | None

    _fields_ = [
        ("struct_size", c_size_t),
        ("name", c_char_p),
        ("type", c_int32),
        ("values", c_char_p),
        ("min", c_double),
        ("max", c_double),
        ("default_value", c_char_p),
        ("help", c_char_p),
    ]


class tfuse_score(Sized):
    n: int
    scored: int
    correct: int
    loss: float

    _fields_ = [
        ("struct_size", c_size_t),
        ("n", c_int64),
        ("scored", c_int64),
        ("correct", c_int64),
        ("loss", c_double),
    ]


class tfuse_problem(Sized):
    n: int
    m: int
    cost: Any
    mu: Any
    nu: Any
    reg: float
    tolerance: float
    max_iterations: int
    u: Any
    v: Any

    _fields_ = [
        ("struct_size", c_size_t),
        ("n", c_int64),
        ("m", c_int64),
        ("cost", POINTER(c_float)),
        ("mu", POINTER(c_double)),
        ("nu", POINTER(c_double)),
        ("reg", c_double),
        ("tolerance", c_double),
        ("max_iterations", c_int64),
        ("u", POINTER(c_double)),
        ("v", POINTER(c_double)),
    ]


class tfuse_result(Sized):
    coupling: Any
    u: Any
    v: Any
    has_potentials: int
    converged: int
    iterations: int
    optimal: int

    _fields_ = [
        ("struct_size", c_size_t),
        ("coupling", POINTER(c_float)),
        ("u", POINTER(c_double)),
        ("v", POINTER(c_double)),
        ("has_potentials", c_int32),
        ("converged", c_int32),
        ("iterations", c_int64),
        ("optimal", c_int32),
    ]


class tfuse_solver_ops(Sized):
    name: bytes | None
    solve: Any

    _fields_ = [
        ("struct_size", c_size_t),
        ("name", c_char_p),
        ("solve", CFUNCTYPE(c_int32, c_void_p, POINTER(tfuse_problem), POINTER(tfuse_result), CFUNCTYPE(c_int32, c_void_p), c_void_p)),
    ]


class tfuse_solution_info(Sized):
    n: int
    m: int
    cost: float
    gap: float
    error: float
    iterations: int
    seconds: float
    converged: int

    _fields_ = [
        ("struct_size", c_size_t),
        ("n", c_int64),
        ("m", c_int64),
        ("cost", c_double),
        ("gap", c_double),
        ("error", c_double),
        ("iterations", c_int64),
        ("seconds", c_double),
        ("converged", c_int32),
    ]


class tfuse_task(Sized):
    cost: Any
    mu: Any
    nu: Any
    u: Any
    v: Any

    _fields_ = [
        ("struct_size", c_size_t),
        ("cost", POINTER(tfuse_array)),
        ("mu", POINTER(tfuse_array)),
        ("nu", POINTER(tfuse_array)),
        ("u", POINTER(tfuse_array)),
        ("v", POINTER(tfuse_array)),
    ]


class tfuse_stat_want(Sized):
    model: int
    value: bytes | None
    tokens: int
    units: int

    _fields_ = [
        ("struct_size", c_size_t),
        ("model", c_size_t),
        ("value", c_char_p),
        ("tokens", c_int64),
        ("units", c_int64),
    ]


# name: (result, parameters)
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "tfuse_array_open": (c_int32, [POINTER(tfuse_ctx), c_char_p, POINTER(POINTER(tfuse_array))]),
    "tfuse_array_wrap": (c_int32, [POINTER(tfuse_ctx), c_int32, c_size_t, POINTER(c_int64), c_void_p, tfuse_release_fn, c_void_p,
        POINTER(POINTER(tfuse_array))]),
    "tfuse_array_attach": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_array), c_char_p, POINTER(tfuse_array)]),
    "tfuse_array_save": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_array), c_char_p]),
    "tfuse_array_dtype": (c_int32, [POINTER(tfuse_array)]),
    "tfuse_array_rank": (c_size_t, [POINTER(tfuse_array)]),
    "tfuse_array_shape": (POINTER(c_int64), [POINTER(tfuse_array)]),
    "tfuse_array_data": (c_void_p, [POINTER(tfuse_array)]),
    "tfuse_array_free": (None, [POINTER(tfuse_array)]),
    "tfuse_ctx_new": (c_int32, [POINTER(tfuse_allocator), POINTER(POINTER(tfuse_ctx))]),
    "tfuse_ctx_free": (None, [POINTER(tfuse_ctx)]),
    "tfuse_ctx_error": (c_char_p, [POINTER(tfuse_ctx)]),
    "tfuse_status_name": (c_char_p, [c_int32]),
    "tfuse_dtype_name": (c_char_p, [c_int32]),
    "tfuse_dtype_size": (c_size_t, [c_int32]),
    "tfuse_ctx_set_threads": (c_int32, [POINTER(tfuse_ctx), c_uint32]),
    "tfuse_ctx_set_executor": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_executor)]),
    "tfuse_ctx_set_log": (c_int32, [POINTER(tfuse_ctx), tfuse_log_fn, c_void_p, c_int32]),
    "tfuse_ctx_set_progress": (c_int32, [POINTER(tfuse_ctx), tfuse_progress_fn, c_void_p]),
    "tfuse_ctx_cancel": (None, [POINTER(tfuse_ctx)]),
    "tfuse_ctx_memory": (c_int32, [POINTER(tfuse_ctx), POINTER(c_uint64), POINTER(c_uint64)]),
    "tfuse_file_save": (c_int32, [POINTER(tfuse_ctx), c_char_p, c_void_p, c_size_t, c_int32]),
    "tfuse_output_check": (c_int32, [POINTER(tfuse_ctx), c_char_p, c_int32, c_int32]),
    "tfuse_string_free": (None, [c_void_p]),
    "tfuse_model_add_dlpack": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_model), c_char_p, POINTER(DLManagedTensor)]),
    "tfuse_model_add_dlpack_versioned": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_model), c_char_p, POINTER(DLManagedTensorVersioned)]),
    "tfuse_array_from_dlpack": (c_int32, [POINTER(tfuse_ctx), POINTER(DLManagedTensor), POINTER(POINTER(tfuse_array))]),
    "tfuse_array_from_dlpack_versioned": (c_int32, [POINTER(tfuse_ctx), POINTER(DLManagedTensorVersioned), POINTER(POINTER(tfuse_array))]),
    "tfuse_fuse": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(tfuse_plan), POINTER(POINTER(tfuse_model)), c_size_t, c_char_p]),
    "tfuse_selfcheck": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(tfuse_plan), POINTER(POINTER(tfuse_model)), c_size_t,
        POINTER(c_void_p)]),
    "tfuse_selfcheck_on": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(tfuse_plan), POINTER(POINTER(tfuse_model)), c_size_t,
        POINTER(tfuse_array), POINTER(c_void_p)]),
    "tfuse_fuse_model": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(tfuse_plan), POINTER(POINTER(tfuse_model)), c_size_t,
        POINTER(POINTER(tfuse_model))]),
    "tfuse_dry_run": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(tfuse_run_paths), POINTER(c_void_p)]),
    "tfuse_graph_infer": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_model), POINTER(POINTER(tfuse_graph))]),
    "tfuse_graph_new": (c_int32, [POINTER(tfuse_ctx), POINTER(POINTER(tfuse_graph))]),
    "tfuse_graph_add": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_graph), c_char_p, c_char_p, c_char_p, c_char_p]),
    "tfuse_graph_store": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_graph), c_char_p, c_char_p]),
    "tfuse_graph_buffer": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_graph), c_char_p]),
    "tfuse_graph_output": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_graph), c_char_p]),
    "tfuse_graph_finish": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_graph)]),
    "tfuse_graph_check": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_graph), POINTER(tfuse_model)]),
    "tfuse_graph_to_json": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_graph), POINTER(c_void_p)]),
    "tfuse_graph_from_json": (c_int32, [POINTER(tfuse_ctx), c_char_p, POINTER(POINTER(tfuse_graph))]),
    "tfuse_graph_describe": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_graph), POINTER(tfuse_model), POINTER(c_void_p)]),
    "tfuse_graph_free": (None, [POINTER(tfuse_graph)]),
    "tfuse_model_open": (c_int32, [POINTER(tfuse_ctx), c_char_p, c_uint32, POINTER(POINTER(tfuse_model))]),
    "tfuse_model_new": (c_int32, [POINTER(tfuse_ctx), c_char_p, tfuse_release_fn, c_void_p, POINTER(POINTER(tfuse_model))]),
    "tfuse_model_add": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_model), c_char_p, c_int32, c_size_t, POINTER(c_int64), c_void_p]),
    "tfuse_model_add_strided": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_model), c_char_p, c_int32, c_size_t, POINTER(c_int64), POINTER(c_int64),
        c_void_p, tfuse_release_fn, c_void_p]),
    "tfuse_model_seal": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_model)]),
    "tfuse_model_count": (c_size_t, [POINTER(tfuse_model)]),
    "tfuse_model_tensor": (c_int32, [POINTER(tfuse_model), c_size_t, POINTER(tfuse_tensor_info)]),
    "tfuse_model_read": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_model), c_size_t, c_int32, c_void_p, c_size_t]),
    "tfuse_model_find": (c_int64, [POINTER(tfuse_model), c_char_p]),
    "tfuse_model_path": (c_char_p, [POINTER(tfuse_model)]),
    "tfuse_model_config": (c_char_p, [POINTER(tfuse_model)]),
    "tfuse_model_free": (None, [POINTER(tfuse_model)]),
    "tfuse_moe": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(tfuse_model), POINTER(tfuse_array), c_char_p, POINTER(c_void_p)]),
    "tfuse_moe_model": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(tfuse_model), POINTER(tfuse_array),
        POINTER(POINTER(tfuse_model)), POINTER(c_void_p)]),
    "tfuse_moe_dense": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(tfuse_model), c_char_p, POINTER(c_void_p)]),
    "tfuse_moe_dry_run": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(tfuse_run_paths), c_int32, POINTER(c_void_p)]),
    "tfuse_align": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(POINTER(tfuse_model)), c_size_t, POINTER(tfuse_array),
        POINTER(POINTER(tfuse_plan))]),
    "tfuse_generate": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(tfuse_plan), POINTER(POINTER(tfuse_model)), c_size_t,
        POINTER(POINTER(tfuse_array))]),
    "tfuse_plan_save": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_plan), c_char_p, c_int32]),
    "tfuse_plan_load": (c_int32, [POINTER(tfuse_ctx), c_char_p, POINTER(POINTER(tfuse_plan))]),
    "tfuse_plan_count": (c_size_t, [POINTER(tfuse_plan)]),
    "tfuse_plan_map": (c_int32, [POINTER(tfuse_plan), c_size_t, POINTER(tfuse_map_info)]),
    "tfuse_plan_matrix": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_plan), c_size_t, POINTER(POINTER(tfuse_array))]),
    "tfuse_plan_report": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_plan), POINTER(c_void_p)]),
    "tfuse_gauge": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(tfuse_model), POINTER(POINTER(tfuse_plan))]),
    "tfuse_plan_free": (None, [POINTER(tfuse_plan)]),
    "tfuse_key_count": (c_size_t, []),
    "tfuse_key_get": (c_int32, [c_size_t, POINTER(tfuse_key_info)]),
    "tfuse_policy_new": (c_int32, [POINTER(tfuse_ctx), POINTER(POINTER(tfuse_policy))]),
    "tfuse_policy_set": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), c_char_p, c_char_p]),
    "tfuse_policy_get": (c_char_p, [POINTER(tfuse_policy), c_char_p]),
    "tfuse_policy_is_set": (c_int32, [POINTER(tfuse_policy), c_char_p]),
    "tfuse_policy_free": (None, [POINTER(tfuse_policy)]),
    "tfuse_repair_new": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(tfuse_plan), POINTER(POINTER(tfuse_model)), c_size_t,
        POINTER(tfuse_array), POINTER(POINTER(tfuse_repair))]),
    "tfuse_repair_report": (c_char_p, [POINTER(tfuse_repair)]),
    "tfuse_repair_free": (None, [POINTER(tfuse_repair)]),
    "tfuse_plan_save_repaired": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_plan), POINTER(tfuse_repair), c_char_p, c_int32]),
    "tfuse_fuse_repaired": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(tfuse_plan), POINTER(POINTER(tfuse_model)), c_size_t,
        POINTER(tfuse_repair), c_char_p]),
    "tfuse_fuse_model_repaired": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(tfuse_plan), POINTER(POINTER(tfuse_model)), c_size_t,
        POINTER(tfuse_repair), POINTER(POINTER(tfuse_model))]),
    "tfuse_fuse_into": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(tfuse_plan), POINTER(POINTER(tfuse_model)), c_size_t,
        POINTER(tfuse_repair), POINTER(tfuse_sink)]),
    "tfuse_eval": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_model), POINTER(tfuse_graph), POINTER(tfuse_array), POINTER(tfuse_array), c_int64,
        POINTER(tfuse_score)]),
    "tfuse_run": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_model), POINTER(tfuse_graph), POINTER(tfuse_array), c_int64,
        POINTER(POINTER(tfuse_array))]),
    "tfuse_ctx_add_solver": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_solver_ops), c_void_p]),
    "tfuse_solve": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(tfuse_array), POINTER(tfuse_array), POINTER(tfuse_array),
        POINTER(POINTER(tfuse_solution))]),
    "tfuse_solve_batch": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(tfuse_task), c_size_t, POINTER(POINTER(tfuse_solution))]),
    "tfuse_solution_get": (c_int32, [POINTER(tfuse_solution), POINTER(tfuse_solution_info)]),
    "tfuse_solution_coupling": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_solution), POINTER(POINTER(tfuse_array))]),
    "tfuse_solution_potentials": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_solution), POINTER(POINTER(tfuse_array)),
        POINTER(POINTER(tfuse_array))]),
    "tfuse_solution_method": (c_char_p, [POINTER(tfuse_solution)]),
    "tfuse_solution_free": (None, [POINTER(tfuse_solution)]),
    "tfuse_stats_new": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(POINTER(tfuse_model)), c_size_t, POINTER(POINTER(tfuse_stats))]),
    "tfuse_stats_count": (c_size_t, [POINTER(tfuse_stats)]),
    "tfuse_stats_want": (c_int32, [POINTER(tfuse_stats), c_size_t, POINTER(tfuse_stat_want)]),
    "tfuse_stats_sweeps": (c_int32, [POINTER(tfuse_stats)]),
    "tfuse_stats_feed": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_stats), c_size_t, c_char_p, POINTER(tfuse_array)]),
    "tfuse_stats_step": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_stats)]),
    "tfuse_stats_rewind": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_stats)]),
    "tfuse_align_stats": (c_int32, [POINTER(tfuse_ctx), POINTER(tfuse_policy), POINTER(tfuse_stats), POINTER(POINTER(tfuse_plan))]),
    "tfuse_stats_free": (None, [POINTER(tfuse_stats)]),
    "tfuse_version": (c_uint32, []),
    "tfuse_has": (c_int32, [c_char_p]),
}
