// SPDX-License-Identifier: Apache-2.0
//! Statistics of values that the caller computes.

use crate::array::Array;
use crate::context::Context;
use crate::error::{c_string, text, Result};
use crate::model::Model;
use crate::plan::{raw_models, Plan};
use crate::policy::Policy;
use crate::sys;
use std::marker::PhantomData;
use std::mem::size_of;
use std::ptr;

/// A value that must be fed for each batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Index of the model: 0 is the anchor.
    pub model: usize,
    /// Its name in the model's graph.
    pub value: String,
    /// Rows of one sample; 0: as many as each batch has.
    pub tokens: i64,
    /// Numbers in a row.
    pub units: i64,
}

/// Statistics of two or more models: for each batch every wanted value is fed, then a step adds them.
///
/// ```
/// # fn main() -> tfuse::Result<()> {
/// use tfuse::{Array, Context, ModelBuilder, Policy, Stats};
/// const CONFIG: &str = r#"{"model_type": "mlp", "tfuse_graph": {"tfuse_graph": 1, "arch": "mlp", "output": "y", "nodes": [
///   {"op": "input", "name": "x", "inputs": "", "attrs": "kind=features shape=2"},
///   {"op": "linear", "name": "h", "inputs": "x", "attrs": "out=hidden:3 bias=0"},
///   {"op": "activation", "name": "relu", "inputs": "h", "attrs": "kind=relu"},
///   {"op": "linear", "name": "y", "inputs": "relu", "attrs": "out=!classes:1 bias=0"}], "tensors": {}, "buffers": []}}"#;
/// let ctx = Context::new()?;
/// let (w, v) = (vec![1f32, 0.0, 0.0, 1.0, 1.0, 1.0], vec![1f32, 2.0, 3.0]); // three hidden units
/// let (x, z) = (vec![1f32, 1.0, 1.0, 0.0, 0.0, 1.0], vec![3f32, 1.0, 2.0]); // the same in another order
/// let build = |w, v| -> tfuse::Result<_> {
///     let mut b = ModelBuilder::new(&ctx, Some(CONFIG))?;
///     b.borrow("h.weight", &[3, 2], w)?;
///     b.borrow("y.weight", &[1, 3], v)?;
///     b.seal()
/// };
/// let (first, second) = (build(&w, &v)?, build(&x, &z)?);
/// let mut policy = Policy::new(&ctx)?;
/// policy.set(&ctx, "align.strategy", "otfusion")?;
/// let mut stats = Stats::new(&ctx, &policy, &[&first, &second])?;
/// let inputs = [[1f32, 2.0], [-1.0, 1.0], [0.5, -3.0], [2.0, 0.1]];
/// for want in stats.wants() {
///     let w = if want.model == 0 { &w } else { &x };
///     let rows: Vec<f32> = inputs.iter().flat_map(|i| w.chunks(2).map(move |u| u[0] * i[0] + u[1] * i[1])).collect();
///     let rows = if want.value == "h" { rows } else { rows.iter().map(|r| r.max(0.0)).collect() };
///     let rows = if want.value == "y" { vec![0.0; 4] } else { rows };
///     stats.feed(want.model, &want.value, &Array::own(&ctx, &[4, want.units], rows)?)?;
/// }
/// stats.step()?;
/// let map = stats.align(&policy)?.matrix(&ctx, 0)?;
/// assert_eq!(map.as_slice::<f32>().unwrap(), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
/// # Ok(())
/// # }
/// ```
pub struct Stats<'a> {
    ctx: &'a Context,
    raw: *mut sys::tfuse_stats,
    models: PhantomData<&'a [u8]>,
}

impl<'a> Stats<'a> {
    /// What an alignment by this policy wants to see. The models' weights are looked at in [`Stats::align`].
    pub fn new(ctx: &'a Context, policy: &Policy, models: &[&'a Model<'_>]) -> Result<Stats<'a>> {
        let list = raw_models(models);
        let mut raw = ptr::null_mut();
        ctx.check(unsafe { sys::tfuse_stats_new(ctx.raw(), policy.raw(), list.as_ptr(), list.len(), &mut raw) })?;
        Ok(Stats { ctx, raw, models: PhantomData })
    }

    /// The values that each step needs.
    pub fn wants(&self) -> Vec<Want> {
        (0..unsafe { sys::tfuse_stats_count(self.raw) })
            .filter_map(|i| {
                let mut w =
                    sys::tfuse_stat_want { struct_size: size_of::<sys::tfuse_stat_want>(), model: 0, value: ptr::null(), tokens: 0, units: 0 };
                let status = unsafe { sys::tfuse_stats_want(self.raw, i, &mut w) };
                (status == sys::TFUSE_OK).then(|| Want {
                    model: w.model,
                    value: unsafe { text(w.value) }.to_string(),
                    tokens: w.tokens,
                    units: w.units,
                })
            })
            .collect()
    }

    /// 1, or 2 where all batches must be fed twice.
    pub fn sweeps(&self) -> i32 {
        unsafe { sys::tfuse_stats_sweeps(self.raw) }
    }

    /// One value of one model on the batch that is under way; samples × tokens × units.
    pub fn feed(&mut self, model: usize, value: &str, batch: &Array<'_>) -> Result<()> {
        let value = c_string("the value", value)?;
        self.ctx.check(unsafe { sys::tfuse_stats_feed(self.ctx.raw(), self.raw, model, value.as_ptr(), batch.raw()) })
    }

    /// Adds the batch.
    pub fn step(&mut self) -> Result<()> {
        self.ctx.check(unsafe { sys::tfuse_stats_step(self.ctx.raw(), self.raw) })
    }

    /// Begins the second sweep.
    pub fn rewind(&mut self) -> Result<()> {
        self.ctx.check(unsafe { sys::tfuse_stats_rewind(self.ctx.raw(), self.raw) })
    }

    /// Aligns as [`crate::align`] does, with these statistics in place of calibration inputs.
    pub fn align(&mut self, policy: &Policy) -> Result<Plan> {
        let mut raw = ptr::null_mut();
        self.ctx.check(unsafe { sys::tfuse_align_stats(self.ctx.raw(), policy.raw(), self.raw, &mut raw) })?;
        Ok(unsafe { Plan::from_raw(raw) })
    }
}

impl Drop for Stats<'_> {
    fn drop(&mut self) {
        unsafe { sys::tfuse_stats_free(self.raw) }
    }
}
