// SPDX-License-Identifier: Apache-2.0
//! Running a model on inputs.

use crate::array::Array;
use crate::context::Context;
use crate::error::Result;
use crate::graph::Graph;
use crate::model::Model;
use crate::plan::raw_array;
use crate::sys;
use std::mem::size_of;
use std::ptr;

/// How well a model does.
#[derive(Clone, Copy, Debug)]
pub struct Score {
    /// Samples that were run.
    pub n: i64,
    /// Labels that are not -100.
    pub scored: i64,
    /// Scored ones whose largest logit is the label's.
    pub correct: i64,
    /// Mean cross-entropy over the scored ones, nats; NaN without labels.
    pub loss: f64,
}

/// Accuracy and mean loss over the first `limit` samples (0: all). Without a graph the model's own is inferred.
pub fn eval(ctx: &Context, model: &Model<'_>, graph: Option<&Graph>, inputs: &Array<'_>, labels: Option<&Array<'_>>, limit: i64) -> Result<Score> {
    let mut s = sys::tfuse_score { struct_size: size_of::<sys::tfuse_score>(), n: 0, scored: 0, correct: 0, loss: f64::NAN };
    let graph = graph.map_or(ptr::null(), |g| g.raw());
    ctx.check(unsafe { sys::tfuse_eval(ctx.raw(), model.raw(), graph, inputs.raw(), raw_array(labels), limit, &mut s) })?;
    Ok(Score { n: s.n, scored: s.scored, correct: s.correct, loss: s.loss })
}

/// Outputs (logits), float32, of the first `limit` samples (0: all).
pub fn run(ctx: &Context, model: &Model<'_>, graph: Option<&Graph>, inputs: &Array<'_>, limit: i64) -> Result<Array<'static>> {
    let mut raw = ptr::null_mut();
    let graph = graph.map_or(ptr::null(), |g| g.raw());
    ctx.check(unsafe { sys::tfuse_run(ctx.raw(), model.raw(), graph, inputs.raw(), limit, &mut raw) })?;
    Ok(unsafe { Array::from_raw(raw) })
}
