// SPDX-License-Identifier: Apache-2.0
//! Fuses independently trained networks into one: it aligns their neurons by optimal transport, combines the aligned weights, and
//! writes a checkpoint that the usual frameworks load. This crate is the safe interface over the C library libtfuse.
//!
//! ```no_run
//! use tfuse::{Context, Array, Model, Policy};
//!
//! fn main() -> tfuse::Result<()> {
//!     let mut ctx = Context::new()?;
//!     ctx.set_threads(0)?;
//!     let (a, b) = (Model::open(&ctx, "a")?, Model::open(&ctx, "b")?);
//!     let calib = Array::open(&ctx, "images.npy")?;
//!     let policy = Policy::new(&ctx)?;
//!     let plan = tfuse::align(&ctx, &policy, &[&a, &b], Some(&calib))?;
//!     let repair = tfuse::Repair::new(&ctx, &policy, &plan, &[&a, &b], Some(&calib))?;
//!     tfuse::fuse_to(&ctx, &policy, &plan, &[&a, &b], Some(&repair), "fused")
//! }
//! ```
//!
//! A [`Context`] carries threads, log, progress and cancellation, and is used by one thread at a time: it is `Send` and not `Sync`. Models, arrays,
//! graphs, policies and plans are `Send` and `Sync`: any number of threads read them, each with a context of its own. What borrows a caller's memory has
//! that borrow's lifetime. A closure that panics inside a call ends the call, and the panic goes on in the caller.
//!
//! Errors carry the library's own line of text. Keys of a [`Policy`] are those that `tfuse keys` prints.

#![warn(missing_docs)]

mod array;
mod context;
mod error;
mod experts;
mod fuse;
mod graph;
mod model;
mod plan;
mod policy;
mod run;
mod solver;
mod statistics;

pub use array::{Array, Bf16, Dtype, Element, F16};
pub use context::{Canceller, Context, Executor, Level, Memory, Progress};
pub use error::{Error, Result, Status};
pub use experts::{generate, moe, moe_dense, moe_dry_run, moe_model};
pub use fuse::{dry_run, fuse, fuse_into, fuse_to, save_repaired, self_check, self_check_on, Repair, RunPaths};
pub use graph::{Graph, GraphBuilder};
pub use model::{Model, ModelBuilder, Tensor, TensorInfo};
pub use plan::{align, gauge, MapInfo, Plan};
pub use policy::{keys, KeyInfo, KeyKind, Policy};
pub use run::{eval, run, Score};
pub use solver::{solve, solve_batch, Coupling, Problem, Solution, SolutionInfo, Task};
pub use statistics::{Stats, Want};

/// The declarations as they are in C.
pub use tfuse_sys as sys;

/// Version of the library that runs: major × 10000 + minor × 100 + patch.
pub fn version() -> u32 {
    unsafe { sys::tfuse_version() }
}

/// Whether the library has an optional part, such as `"lapack"`.
pub fn has(part: &str) -> bool {
    std::ffi::CString::new(part).map_or(false, |p| unsafe { sys::tfuse_has(p.as_ptr()) } == 1)
}
