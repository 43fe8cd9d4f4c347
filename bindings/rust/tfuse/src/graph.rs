// SPDX-License-Identifier: Apache-2.0
//! Graphs: the architecture of a model, its axes, and the builder.

use crate::context::Context;
use crate::error::{c_string, owned_text, Result};
use crate::model::Model;
use crate::sys;
use std::fmt;
use std::ptr;

/// A finished graph.
pub struct Graph {
    raw: *mut sys::tfuse_graph,
}

// Finished, it never changes.
unsafe impl Send for Graph {}
unsafe impl Sync for Graph {}

impl Graph {
    pub(crate) fn raw(&self) -> *const sys::tfuse_graph {
        self.raw
    }

    /// The graph of a model, from its config's model_type, checked against its tensors.
    pub fn infer(ctx: &Context, model: &Model<'_>) -> Result<Graph> {
        let mut raw = ptr::null_mut();
        ctx.check(unsafe { sys::tfuse_graph_infer(ctx.raw(), model.raw(), &mut raw) })?;
        Ok(Graph { raw })
    }

    /// A graph from its JSON form (docs/graph-format.md).
    pub fn from_json(ctx: &Context, json: &str) -> Result<Graph> {
        let json = c_string("the graph", json)?;
        let mut raw = ptr::null_mut();
        ctx.check(unsafe { sys::tfuse_graph_from_json(ctx.raw(), json.as_ptr(), &mut raw) })?;
        Ok(Graph { raw })
    }

    /// Its JSON form.
    pub fn to_json(&self, ctx: &Context) -> Result<String> {
        let mut out = ptr::null_mut();
        ctx.check(unsafe { sys::tfuse_graph_to_json(ctx.raw(), self.raw, &mut out) })?;
        Ok(unsafe { owned_text(out) })
    }

    /// Axes, groups, tensors and nodes as one JSON object. Groups depend on weights, where a model is given.
    pub fn describe(&self, ctx: &Context, model: Option<&Model<'_>>) -> Result<String> {
        let mut out = ptr::null_mut();
        let model = model.map_or(ptr::null(), |m| m.raw());
        ctx.check(unsafe { sys::tfuse_graph_describe(ctx.raw(), self.raw, model, &mut out) })?;
        Ok(unsafe { owned_text(out) })
    }

    /// Checks a model's tensors against the graph.
    pub fn check(&self, ctx: &Context, model: &Model<'_>) -> Result<()> {
        ctx.check(unsafe { sys::tfuse_graph_check(ctx.raw(), self.raw, model.raw()) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        unsafe { sys::tfuse_graph_free(self.raw) }
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Graph")
    }
}

/// A graph that is being built, node by node in order of evaluation.
///
/// ```
/// # fn main() -> tfuse::Result<()> {
/// let ctx = tfuse::Context::new()?;
/// let mut builder = tfuse::GraphBuilder::new(&ctx)?;
/// builder.add("input", "x", "", "kind=features shape=12")?;
/// builder.add("linear", "h", "x", "out=hidden:16 bias=0")?;
/// builder.add("activation", "relu", "h", "kind=relu")?;
/// builder.add("linear", "y", "relu", "out=!classes:5 bias=0")?;
/// builder.store("h.weight", "transpose(layers.0)")?;
/// builder.output("y")?;
/// let graph = builder.finish()?;
/// assert!(graph.describe(&ctx, None)?.contains("hidden"));
/// # Ok(())
/// # }
/// ```
pub struct GraphBuilder<'c> {
    ctx: &'c Context,
    graph: Graph,
}

impl<'c> GraphBuilder<'c> {
    /// An empty graph.
    pub fn new(ctx: &'c Context) -> Result<GraphBuilder<'c>> {
        let mut raw = ptr::null_mut();
        ctx.check(unsafe { sys::tfuse_graph_new(ctx.raw(), &mut raw) })?;
        Ok(GraphBuilder { ctx, graph: Graph { raw } })
    }

    /// Adds a node; its first output is a value of its name. `inputs` are names of values and `attrs` are `key=value`, with spaces between.
    pub fn add(&mut self, op: &str, name: &str, inputs: &str, attrs: &str) -> Result<()> {
        let op = c_string("the operation", op)?;
        let (name, inputs, attrs) = (c_string("the name", name)?, c_string("the inputs", inputs)?, c_string("the attributes", attrs)?);
        self.ctx.check(unsafe { sys::tfuse_graph_add(self.ctx.raw(), self.graph.raw, op.as_ptr(), name.as_ptr(), inputs.as_ptr(), attrs.as_ptr()) })
    }

    /// Says where a logical tensor is stored.
    pub fn store(&mut self, logical: &str, expression: &str) -> Result<()> {
        let (logical, expression) = (c_string("the tensor", logical)?, c_string("the expression", expression)?);
        self.ctx.check(unsafe { sys::tfuse_graph_store(self.ctx.raw(), self.graph.raw, logical.as_ptr(), expression.as_ptr()) })
    }

    /// Names a stored tensor (one `*` allowed) that is copied from the anchor as it is.
    pub fn buffer(&mut self, pattern: &str) -> Result<()> {
        let pattern = c_string("the pattern", pattern)?;
        self.ctx.check(unsafe { sys::tfuse_graph_buffer(self.ctx.raw(), self.graph.raw, pattern.as_ptr()) })
    }

    /// Names the value that is the model's output.
    pub fn output(&mut self, value: &str) -> Result<()> {
        let value = c_string("the value", value)?;
        self.ctx.check(unsafe { sys::tfuse_graph_output(self.ctx.raw(), self.graph.raw, value.as_ptr()) })
    }

    /// Ties ports into axes and ends building.
    pub fn finish(self) -> Result<Graph> {
        self.ctx.check(unsafe { sys::tfuse_graph_finish(self.ctx.raw(), self.graph.raw) })?;
        Ok(self.graph)
    }
}
