// SPDX-License-Identifier: Apache-2.0
//! Aligning, and the plan that results.

use crate::array::Array;
use crate::context::Context;
use crate::error::{c_path, owned_text, text, Result};
use crate::model::Model;
use crate::policy::Policy;
use crate::sys;
use std::fmt;
use std::mem::size_of;
use std::path::Path;
use std::ptr;

/// Maps, and where each applies. It keeps nothing of the models.
pub struct Plan {
    raw: *mut sys::tfuse_plan,
}

// It never changes.
unsafe impl Send for Plan {}
unsafe impl Sync for Plan {}

/// Models as C takes them.
pub(crate) fn raw_models(models: &[&Model<'_>]) -> Vec<*const sys::tfuse_model> {
    models.iter().map(|m| m.raw()).collect()
}

pub(crate) fn raw_array(array: Option<&Array<'_>>) -> *const sys::tfuse_array {
    array.map_or(ptr::null(), |a| a.raw())
}

/// Aligns models to the first one, the anchor, by the policy: from calibration inputs, from the weights, or both.
pub fn align(ctx: &Context, policy: &Policy, models: &[&Model<'_>], calib: Option<&Array<'_>>) -> Result<Plan> {
    let mut raw = ptr::null_mut();
    let list = raw_models(models);
    ctx.check(unsafe { sys::tfuse_align(ctx.raw(), policy.raw(), list.as_ptr(), list.len(), raw_array(calib), &mut raw) })?;
    Ok(unsafe { Plan::from_raw(raw) })
}

/// A random member of a model's symmetry group, as a plan of the model twice.
pub fn gauge(ctx: &Context, policy: &Policy, model: &Model<'_>) -> Result<Plan> {
    let mut raw = ptr::null_mut();
    ctx.check(unsafe { sys::tfuse_gauge(ctx.raw(), policy.raw(), model.raw(), &mut raw) })?;
    Ok(unsafe { Plan::from_raw(raw) })
}

/// One map of a plan. Numbers that do not apply are NaN.
#[derive(Clone, Copy, Debug)]
pub struct MapInfo<'p> {
    /// Where it arises, such as "layer.0/fc1".
    pub name: &'p str,
    /// The axes that it acts on.
    pub axis: &'p str,
    /// Its kind, such as "permutation".
    pub kind: &'p str,
    /// Index of the model that it moves: 1, 2, ...
    pub model: i64,
    /// Units of the model.
    pub n: i64,
    /// Units of the anchor.
    pub m: i64,
    /// Of the transport problem, mass one.
    pub cost: f64,
    /// Certified gap of an exact solve.
    pub gap: f64,
    /// L1 deviation of the marginals.
    pub error: f64,
    /// Mass that is off the diagonal.
    pub identity: f64,
    /// exp of the mean entropy of a column's shares: 1 for a permutation.
    pub entropy: f64,
    /// Of the solver.
    pub iterations: i64,
    /// Whether the solver reached its tolerance.
    pub converged: bool,
    /// Heads of the model and of the anchor whose units lie head by head; (0, 0) where they are in none.
    pub heads: (i64, i64),
    /// Of the anchor's units with those that they receive, by what the cost was made of; NaN: nothing was compared.
    pub correlation: f64,
    /// Part of the model's weights on the axis that is left when they are carried there and back; 1: nothing is lost.
    pub kept: f64,
}

impl Plan {
    /// # Safety
    /// `raw` is a plan of the library's that this one owns.
    pub(crate) unsafe fn from_raw(raw: *mut sys::tfuse_plan) -> Plan {
        Plan { raw }
    }

    pub(crate) fn raw(&self) -> *const sys::tfuse_plan {
        self.raw
    }

    /// Reads a plan.
    pub fn load(ctx: &Context, path: impl AsRef<Path>) -> Result<Plan> {
        let path = c_path(path)?;
        let mut raw = ptr::null_mut();
        ctx.check(unsafe { sys::tfuse_plan_load(ctx.raw(), path.as_ptr(), &mut raw) })?;
        Ok(Plan { raw })
    }

    /// Writes it in one step; `force` replaces an existing file.
    pub fn save(&self, ctx: &Context, path: impl AsRef<Path>, force: bool) -> Result<()> {
        let path = c_path(path)?;
        ctx.check(unsafe { sys::tfuse_plan_save(ctx.raw(), self.raw, path.as_ptr(), force as i32) })
    }

    /// Number of maps.
    pub fn len(&self) -> usize {
        unsafe { sys::tfuse_plan_count(self.raw) }
    }

    /// Whether it has no maps.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its maps.
    pub fn maps(&self) -> impl Iterator<Item = MapInfo<'_>> + '_ {
        (0..self.len()).filter_map(move |i| self.map(i))
    }

    /// One of them.
    pub fn map(&self, index: usize) -> Option<MapInfo<'_>> {
        let mut i = sys::tfuse_map_info {
            struct_size: size_of::<sys::tfuse_map_info>(),
            name: ptr::null(),
            axis: ptr::null(),
            kind: ptr::null(),
            model: 0,
            n: 0,
            m: 0,
            cost: f64::NAN,
            gap: f64::NAN,
            error: f64::NAN,
            identity: f64::NAN,
            entropy: f64::NAN,
            iterations: 0,
            converged: 0,
            heads_n: 0,
            heads_m: 0,
            correlation: f64::NAN,
            kept: f64::NAN,
        };
        let status = unsafe { sys::tfuse_plan_map(self.raw, index, &mut i) };
        (status == sys::TFUSE_OK).then(|| MapInfo {
            name: unsafe { text(i.name) },
            axis: unsafe { text(i.axis) },
            kind: unsafe { text(i.kind) },
            model: i.model,
            n: i.n,
            m: i.m,
            cost: i.cost,
            gap: i.gap,
            error: i.error,
            identity: i.identity,
            entropy: i.entropy,
            iterations: i.iterations,
            converged: i.converged == 1,
            heads: (i.heads_n, i.heads_m),
            correlation: i.correlation,
            kept: i.kept,
        })
    }

    /// A map as an n × m float32 array whose columns say what each unit of the anchor receives.
    pub fn matrix(&self, ctx: &Context, index: usize) -> Result<Array<'static>> {
        let mut raw = ptr::null_mut();
        ctx.check(unsafe { sys::tfuse_plan_matrix(ctx.raw(), self.raw, index, &mut raw) })?;
        Ok(unsafe { Array::from_raw(raw) })
    }

    /// The plan as one JSON object.
    pub fn report(&self, ctx: &Context) -> Result<String> {
        let mut out = ptr::null_mut();
        ctx.check(unsafe { sys::tfuse_plan_report(ctx.raw(), self.raw, &mut out) })?;
        Ok(unsafe { owned_text(out) })
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        unsafe { sys::tfuse_plan_free(self.raw) }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plan({} maps)", self.len())
    }
}
