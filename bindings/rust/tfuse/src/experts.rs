// SPDX-License-Identifier: Apache-2.0
//! Dense models split into mixtures of experts, and back; calibration text that language models write themselves.
use crate::array::Array;
use crate::context::Context;
use crate::error::{c_path, owned_text, Result};
use crate::model::Model;
use crate::plan::{raw_array, raw_models, Plan};
use crate::policy::Policy;
use crate::sys;
use std::mem::size_of;
use std::path::Path;
use std::ptr;

/// Splits a dense model's feed-forward networks by the keys moe.* and writes the checkpoint; the report is JSON.
pub fn moe(ctx: &Context, policy: &Policy, model: &Model<'_>, calib: Option<&Array<'_>>, out: impl AsRef<Path>) -> Result<String> {
    let (out, mut report) = (c_path(out)?, ptr::null_mut());
    ctx.check(unsafe { sys::tfuse_moe(ctx.raw(), policy.raw(), model.raw(), raw_array(calib), out.as_ptr(), &mut report) })?;
    Ok(unsafe { owned_text(report) })
}

/// The same into memory.
pub fn moe_model(ctx: &Context, policy: &Policy, model: &Model<'_>, calib: Option<&Array<'_>>) -> Result<(Model<'static>, String)> {
    let (mut raw, mut report) = (ptr::null_mut(), ptr::null_mut());
    ctx.check(unsafe { sys::tfuse_moe_model(ctx.raw(), policy.raw(), model.raw(), raw_array(calib), &mut raw, &mut report) })?;
    Ok(unsafe { (Model::from_raw(raw), owned_text(report)) })
}

/// Joins the experts of a split model and writes the dense checkpoint; the report is JSON.
pub fn moe_dense(ctx: &Context, policy: &Policy, model: &Model<'_>, out: impl AsRef<Path>) -> Result<String> {
    let (out, mut report) = (c_path(out)?, ptr::null_mut());
    ctx.check(unsafe { sys::tfuse_moe_dense(ctx.raw(), policy.raw(), model.raw(), out.as_ptr(), &mut report) })?;
    Ok(unsafe { owned_text(report) })
}

/// Looks at a split (with `dense`, at joining) without doing it.
pub fn moe_dry_run(ctx: &Context, policy: &Policy, model: impl AsRef<Path>, dense: bool) -> Result<String> {
    let (model, mut report) = (c_path(model)?, ptr::null_mut());
    let models = [model.as_ptr()];
    let table = sys::tfuse_run_paths {
        struct_size: size_of::<sys::tfuse_run_paths>(),
        models: models.as_ptr(),
        n_models: 1,
        calib: ptr::null(),
        plan: ptr::null(),
        save_plan: ptr::null(),
        out: ptr::null(),
    };
    ctx.check(unsafe { sys::tfuse_moe_dry_run(ctx.raw(), policy.raw(), &table, dense as i32, &mut report) })?;
    Ok(unsafe { owned_text(report) })
}

/// Token ids that causal language models write by turns (calib.generate, calib.length, run.seed).
pub fn generate(ctx: &Context, policy: &Policy, plan: Option<&Plan>, models: &[&Model<'_>]) -> Result<Array<'static>> {
    let list = raw_models(models);
    let mut raw = ptr::null_mut();
    let plan = plan.map_or(ptr::null(), |p| p.raw() as *const _);
    ctx.check(unsafe { sys::tfuse_generate(ctx.raw(), policy.raw(), plan, list.as_ptr(), list.len(), &mut raw) })?;
    Ok(unsafe { Array::from_raw(raw) })
}
