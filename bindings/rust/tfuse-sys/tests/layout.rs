// SPDX-License-Identifier: Apache-2.0
//! Written by `bindings/rust/generate.py` from the headers of libtfuse; `make generated` writes them.

use std::mem::{size_of, MaybeUninit};
use tfuse_sys::*;

/// Where a field lies and how long it is.
macro_rules! field {
    ($struct:ty, $field:ident) => {{
        let whole = MaybeUninit::<$struct>::uninit();
        let base = whole.as_ptr();
        // The address of a field, of memory that is never read.
        let at = unsafe { std::ptr::addr_of!((*base).$field) };
        fn size<T>(_: *const T) -> usize {
            size_of::<T>()
        }
        (at as usize - base as usize, size(at))
    }};
}

#[test]
fn structs_lie_as_in_c() {
    assert_eq!(size_of::<tfuse_allocator>(), 32);
    assert_eq!(field!(tfuse_allocator, struct_size), (0, 8));
    assert_eq!(field!(tfuse_allocator, user), (8, 8));
    assert_eq!(field!(tfuse_allocator, alloc), (16, 8));
    assert_eq!(field!(tfuse_allocator, free), (24, 8));
    assert_eq!(size_of::<tfuse_executor>(), 32);
    assert_eq!(field!(tfuse_executor, struct_size), (0, 8));
    assert_eq!(field!(tfuse_executor, user), (8, 8));
    assert_eq!(field!(tfuse_executor, concurrency), (16, 4));
    assert_eq!(field!(tfuse_executor, parallel_for), (24, 8));
    assert_eq!(size_of::<tfuse_progress>(), 32);
    assert_eq!(field!(tfuse_progress, struct_size), (0, 8));
    assert_eq!(field!(tfuse_progress, stage), (8, 8));
    assert_eq!(field!(tfuse_progress, done), (16, 8));
    assert_eq!(field!(tfuse_progress, total), (24, 8));
    assert_eq!(size_of::<tfuse_sink>(), 32);
    assert_eq!(field!(tfuse_sink, struct_size), (0, 8));
    assert_eq!(field!(tfuse_sink, user), (8, 8));
    assert_eq!(field!(tfuse_sink, place), (16, 8));
    assert_eq!(field!(tfuse_sink, done), (24, 8));
    assert_eq!(size_of::<tfuse_run_paths>(), 56);
    assert_eq!(field!(tfuse_run_paths, struct_size), (0, 8));
    assert_eq!(field!(tfuse_run_paths, models), (8, 8));
    assert_eq!(field!(tfuse_run_paths, n_models), (16, 8));
    assert_eq!(field!(tfuse_run_paths, calib), (24, 8));
    assert_eq!(field!(tfuse_run_paths, plan), (32, 8));
    assert_eq!(field!(tfuse_run_paths, save_plan), (40, 8));
    assert_eq!(field!(tfuse_run_paths, out), (48, 8));
    assert_eq!(size_of::<tfuse_tensor_info>(), 104);
    assert_eq!(field!(tfuse_tensor_info, struct_size), (0, 8));
    assert_eq!(field!(tfuse_tensor_info, name), (8, 8));
    assert_eq!(field!(tfuse_tensor_info, dtype), (16, 4));
    assert_eq!(field!(tfuse_tensor_info, rank), (20, 4));
    assert_eq!(field!(tfuse_tensor_info, shape), (24, 64));
    assert_eq!(field!(tfuse_tensor_info, data), (88, 8));
    assert_eq!(field!(tfuse_tensor_info, size), (96, 8));
    assert_eq!(size_of::<tfuse_map_info>(), 144);
    assert_eq!(field!(tfuse_map_info, struct_size), (0, 8));
    assert_eq!(field!(tfuse_map_info, name), (8, 8));
    assert_eq!(field!(tfuse_map_info, axis), (16, 8));
    assert_eq!(field!(tfuse_map_info, kind), (24, 8));
    assert_eq!(field!(tfuse_map_info, model), (32, 8));
    assert_eq!(field!(tfuse_map_info, n), (40, 8));
    assert_eq!(field!(tfuse_map_info, m), (48, 8));
    assert_eq!(field!(tfuse_map_info, cost), (56, 8));
    assert_eq!(field!(tfuse_map_info, gap), (64, 8));
    assert_eq!(field!(tfuse_map_info, error), (72, 8));
    assert_eq!(field!(tfuse_map_info, identity), (80, 8));
    assert_eq!(field!(tfuse_map_info, entropy), (88, 8));
    assert_eq!(field!(tfuse_map_info, iterations), (96, 8));
    assert_eq!(field!(tfuse_map_info, converged), (104, 4));
    assert_eq!(field!(tfuse_map_info, heads_n), (112, 8));
    assert_eq!(field!(tfuse_map_info, heads_m), (120, 8));
    assert_eq!(field!(tfuse_map_info, correlation), (128, 8));
    assert_eq!(field!(tfuse_map_info, kept), (136, 8));
    assert_eq!(size_of::<tfuse_key_info>(), 64);
    assert_eq!(field!(tfuse_key_info, struct_size), (0, 8));
    assert_eq!(field!(tfuse_key_info, name), (8, 8));
    assert_eq!(field!(tfuse_key_info, r#type), (16, 4));
    assert_eq!(field!(tfuse_key_info, values), (24, 8));
    assert_eq!(field!(tfuse_key_info, min), (32, 8));
    assert_eq!(field!(tfuse_key_info, max), (40, 8));
    assert_eq!(field!(tfuse_key_info, default_value), (48, 8));
    assert_eq!(field!(tfuse_key_info, help), (56, 8));
    assert_eq!(size_of::<tfuse_score>(), 40);
    assert_eq!(field!(tfuse_score, struct_size), (0, 8));
    assert_eq!(field!(tfuse_score, n), (8, 8));
    assert_eq!(field!(tfuse_score, scored), (16, 8));
    assert_eq!(field!(tfuse_score, correct), (24, 8));
    assert_eq!(field!(tfuse_score, loss), (32, 8));
    assert_eq!(size_of::<tfuse_problem>(), 88);
    assert_eq!(field!(tfuse_problem, struct_size), (0, 8));
    assert_eq!(field!(tfuse_problem, n), (8, 8));
    assert_eq!(field!(tfuse_problem, m), (16, 8));
    assert_eq!(field!(tfuse_problem, cost), (24, 8));
    assert_eq!(field!(tfuse_problem, mu), (32, 8));
    assert_eq!(field!(tfuse_problem, nu), (40, 8));
    assert_eq!(field!(tfuse_problem, reg), (48, 8));
    assert_eq!(field!(tfuse_problem, tolerance), (56, 8));
    assert_eq!(field!(tfuse_problem, max_iterations), (64, 8));
    assert_eq!(field!(tfuse_problem, u), (72, 8));
    assert_eq!(field!(tfuse_problem, v), (80, 8));
    assert_eq!(size_of::<tfuse_result>(), 56);
    assert_eq!(field!(tfuse_result, struct_size), (0, 8));
    assert_eq!(field!(tfuse_result, coupling), (8, 8));
    assert_eq!(field!(tfuse_result, u), (16, 8));
    assert_eq!(field!(tfuse_result, v), (24, 8));
    assert_eq!(field!(tfuse_result, has_potentials), (32, 4));
    assert_eq!(field!(tfuse_result, converged), (36, 4));
    assert_eq!(field!(tfuse_result, iterations), (40, 8));
    assert_eq!(field!(tfuse_result, optimal), (48, 4));
    assert_eq!(size_of::<tfuse_solver_ops>(), 24);
    assert_eq!(field!(tfuse_solver_ops, struct_size), (0, 8));
    assert_eq!(field!(tfuse_solver_ops, name), (8, 8));
    assert_eq!(field!(tfuse_solver_ops, solve), (16, 8));
    assert_eq!(size_of::<tfuse_solution_info>(), 72);
    assert_eq!(field!(tfuse_solution_info, struct_size), (0, 8));
    assert_eq!(field!(tfuse_solution_info, n), (8, 8));
    assert_eq!(field!(tfuse_solution_info, m), (16, 8));
    assert_eq!(field!(tfuse_solution_info, cost), (24, 8));
    assert_eq!(field!(tfuse_solution_info, gap), (32, 8));
    assert_eq!(field!(tfuse_solution_info, error), (40, 8));
    assert_eq!(field!(tfuse_solution_info, iterations), (48, 8));
    assert_eq!(field!(tfuse_solution_info, seconds), (56, 8));
    assert_eq!(field!(tfuse_solution_info, converged), (64, 4));
    assert_eq!(size_of::<tfuse_task>(), 48);
    assert_eq!(field!(tfuse_task, struct_size), (0, 8));
    assert_eq!(field!(tfuse_task, cost), (8, 8));
    assert_eq!(field!(tfuse_task, mu), (16, 8));
    assert_eq!(field!(tfuse_task, nu), (24, 8));
    assert_eq!(field!(tfuse_task, u), (32, 8));
    assert_eq!(field!(tfuse_task, v), (40, 8));
    assert_eq!(size_of::<tfuse_stat_want>(), 40);
    assert_eq!(field!(tfuse_stat_want, struct_size), (0, 8));
    assert_eq!(field!(tfuse_stat_want, model), (8, 8));
    assert_eq!(field!(tfuse_stat_want, value), (16, 8));
    assert_eq!(field!(tfuse_stat_want, tokens), (24, 8));
    assert_eq!(field!(tfuse_stat_want, units), (32, 8));
}

#[test]
fn constants_are_those_of_c() {
    assert_eq!(TFUSE_OK, 0);
    assert_eq!(TFUSE_EINVAL, -1);
    assert_eq!(TFUSE_ENOMEM, -2);
    assert_eq!(TFUSE_ERANGE, -3);
    assert_eq!(TFUSE_ESTATE, -4);
    assert_eq!(TFUSE_EUNSUPPORTED, -5);
    assert_eq!(TFUSE_ECANCELLED, -6);
    assert_eq!(TFUSE_ECALLBACK, -7);
    assert_eq!(TFUSE_EKEY, -8);
    assert_eq!(TFUSE_EIO, -20);
    assert_eq!(TFUSE_EFORMAT, -21);
    assert_eq!(TFUSE_ECORRUPT, -22);
    assert_eq!(TFUSE_EVERSION, -23);
    assert_eq!(TFUSE_EEXIST, -24);
    assert_eq!(TFUSE_ENOTFOUND, -30);
    assert_eq!(TFUSE_ESHAPE, -31);
    assert_eq!(TFUSE_EDTYPE, -32);
    assert_eq!(TFUSE_EGRAPH, -33);
    assert_eq!(TFUSE_ENUMERIC, -40);
    assert_eq!(TFUSE_ECONVERGE, -41);
    assert_eq!(TFUSE_EINTERNAL, -99);
    assert_eq!(TFUSE_F32, 1);
    assert_eq!(TFUSE_F16, 2);
    assert_eq!(TFUSE_BF16, 3);
    assert_eq!(TFUSE_F64, 4);
    assert_eq!(TFUSE_I64, 5);
    assert_eq!(TFUSE_I32, 6);
    assert_eq!(TFUSE_U8, 7);
    assert_eq!(TFUSE_I8, 8);
    assert_eq!(TFUSE_I16, 9);
    assert_eq!(TFUSE_U16, 10);
    assert_eq!(TFUSE_U32, 11);
    assert_eq!(TFUSE_U64, 12);
    assert_eq!(TFUSE_BOOL, 13);
    assert_eq!(TFUSE_LOG_ERROR, 1);
    assert_eq!(TFUSE_LOG_WARN, 2);
    assert_eq!(TFUSE_LOG_INFO, 3);
    assert_eq!(TFUSE_LOG_DEBUG, 4);
    assert_eq!(TFUSE_OPEN_CONFIG_ONLY, 1);
    assert_eq!(TFUSE_KEY_CHOICE, 1);
    assert_eq!(TFUSE_KEY_INT, 2);
    assert_eq!(TFUSE_KEY_REAL, 3);
    assert_eq!(TFUSE_KEY_FLAG, 4);
    assert_eq!(TFUSE_KEY_NAME, 5);
    assert_eq!(TFUSE_KEY_REALS, 6);
    assert_eq!(TFUSE_KEY_SET, 7);
}

#[test]
fn every_function_is_there() {
    let addresses = [
        tfuse_array_open as *const (),
        tfuse_array_wrap as *const (),
        tfuse_array_attach as *const (),
        tfuse_array_save as *const (),
        tfuse_array_dtype as *const (),
        tfuse_array_rank as *const (),
        tfuse_array_shape as *const (),
        tfuse_array_data as *const (),
        tfuse_array_free as *const (),
        tfuse_ctx_new as *const (),
        tfuse_ctx_free as *const (),
        tfuse_ctx_error as *const (),
        tfuse_status_name as *const (),
        tfuse_dtype_name as *const (),
        tfuse_dtype_size as *const (),
        tfuse_ctx_set_threads as *const (),
        tfuse_ctx_set_executor as *const (),
        tfuse_ctx_set_log as *const (),
        tfuse_ctx_set_progress as *const (),
        tfuse_ctx_cancel as *const (),
        tfuse_ctx_memory as *const (),
        tfuse_file_save as *const (),
        tfuse_output_check as *const (),
        tfuse_string_free as *const (),
        tfuse_model_add_dlpack as *const (),
        tfuse_model_add_dlpack_versioned as *const (),
        tfuse_array_from_dlpack as *const (),
        tfuse_array_from_dlpack_versioned as *const (),
        tfuse_fuse as *const (),
        tfuse_selfcheck as *const (),
        tfuse_selfcheck_on as *const (),
        tfuse_fuse_model as *const (),
        tfuse_dry_run as *const (),
        tfuse_graph_infer as *const (),
        tfuse_graph_new as *const (),
        tfuse_graph_add as *const (),
        tfuse_graph_store as *const (),
        tfuse_graph_buffer as *const (),
        tfuse_graph_output as *const (),
        tfuse_graph_finish as *const (),
        tfuse_graph_check as *const (),
        tfuse_graph_to_json as *const (),
        tfuse_graph_from_json as *const (),
        tfuse_graph_describe as *const (),
        tfuse_graph_free as *const (),
        tfuse_model_open as *const (),
        tfuse_model_new as *const (),
        tfuse_model_add as *const (),
        tfuse_model_add_strided as *const (),
        tfuse_model_seal as *const (),
        tfuse_model_count as *const (),
        tfuse_model_tensor as *const (),
        tfuse_model_read as *const (),
        tfuse_model_find as *const (),
        tfuse_model_path as *const (),
        tfuse_model_config as *const (),
        tfuse_model_free as *const (),
        tfuse_moe as *const (),
        tfuse_moe_model as *const (),
        tfuse_moe_dense as *const (),
        tfuse_moe_dry_run as *const (),
        tfuse_align as *const (),
        tfuse_generate as *const (),
        tfuse_plan_save as *const (),
        tfuse_plan_load as *const (),
        tfuse_plan_count as *const (),
        tfuse_plan_map as *const (),
        tfuse_plan_matrix as *const (),
        tfuse_plan_report as *const (),
        tfuse_gauge as *const (),
        tfuse_plan_free as *const (),
        tfuse_key_count as *const (),
        tfuse_key_get as *const (),
        tfuse_policy_new as *const (),
        tfuse_policy_set as *const (),
        tfuse_policy_get as *const (),
        tfuse_policy_is_set as *const (),
        tfuse_policy_free as *const (),
        tfuse_repair_new as *const (),
        tfuse_repair_report as *const (),
        tfuse_repair_free as *const (),
        tfuse_plan_save_repaired as *const (),
        tfuse_fuse_repaired as *const (),
        tfuse_fuse_model_repaired as *const (),
        tfuse_fuse_into as *const (),
        tfuse_eval as *const (),
        tfuse_run as *const (),
        tfuse_ctx_add_solver as *const (),
        tfuse_solve as *const (),
        tfuse_solve_batch as *const (),
        tfuse_solution_get as *const (),
        tfuse_solution_coupling as *const (),
        tfuse_solution_potentials as *const (),
        tfuse_solution_method as *const (),
        tfuse_solution_free as *const (),
        tfuse_stats_new as *const (),
        tfuse_stats_count as *const (),
        tfuse_stats_want as *const (),
        tfuse_stats_sweeps as *const (),
        tfuse_stats_feed as *const (),
        tfuse_stats_step as *const (),
        tfuse_stats_rewind as *const (),
        tfuse_align_stats as *const (),
        tfuse_stats_free as *const (),
        tfuse_version as *const (),
        tfuse_has as *const (),
    ];
    assert!(addresses.iter().all(|a| !a.is_null()));
}
