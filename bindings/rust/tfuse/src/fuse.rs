// SPDX-License-Identifier: Apache-2.0
//! Combining aligned models, repairing the result, and looking before doing.

use crate::array::Array;
use crate::context::{Caught, Context};
use crate::error::{c_path, owned_text, text, Error, Result, Status};
use crate::model::{Model, TensorInfo};
use crate::plan::{raw_array, raw_models, Plan};
use crate::policy::Policy;
use crate::sys;
use std::ffi::CString;
use std::fmt;
use std::mem::size_of;
use std::os::raw::{c_char, c_void};
use std::path::Path;
use std::ptr;

/// Weights of the fused network fitted on calibration inputs, for the models and the plan that they were made from.
pub struct Repair {
    raw: *mut sys::tfuse_repair,
}

// It never changes.
unsafe impl Send for Repair {}
unsafe impl Sync for Repair {}

impl Repair {
    /// Fits what the key `repair` says.
    pub fn new(ctx: &Context, policy: &Policy, plan: &Plan, models: &[&Model<'_>], calib: Option<&Array<'_>>) -> Result<Repair> {
        let list = raw_models(models);
        let mut raw = ptr::null_mut();
        ctx.check(unsafe { sys::tfuse_repair_new(ctx.raw(), policy.raw(), plan.raw(), list.as_ptr(), list.len(), raw_array(calib), &mut raw) })?;
        Ok(Repair { raw })
    }

    /// What was done, as JSON.
    pub fn report(&self) -> &str {
        unsafe { text(sys::tfuse_repair_report(self.raw)) }
    }
}

impl Drop for Repair {
    fn drop(&mut self) {
        unsafe { sys::tfuse_repair_free(self.raw) }
    }
}

impl fmt::Debug for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repair({})", self.report())
    }
}

fn raw_repair(repair: Option<&Repair>) -> *const sys::tfuse_repair {
    repair.map_or(ptr::null(), |r| r.raw)
}

/// Fuses into a checkpoint directory, which appears whole or not at all; an existing one is refused unless `io.force` is 1.
pub fn fuse_to(ctx: &Context, policy: &Policy, plan: &Plan, models: &[&Model<'_>], repair: Option<&Repair>, out: impl AsRef<Path>) -> Result<()> {
    let (list, out) = (raw_models(models), c_path(out)?);
    ctx.check(unsafe {
        match repair {
            None => sys::tfuse_fuse(ctx.raw(), policy.raw(), plan.raw(), list.as_ptr(), list.len(), out.as_ptr()),
            Some(r) => sys::tfuse_fuse_repaired(ctx.raw(), policy.raw(), plan.raw(), list.as_ptr(), list.len(), r.raw, out.as_ptr()),
        }
    })
}

/// Fuses into memory.
pub fn fuse(ctx: &Context, policy: &Policy, plan: &Plan, models: &[&Model<'_>], repair: Option<&Repair>) -> Result<Model<'static>> {
    let list = raw_models(models);
    let mut raw = ptr::null_mut();
    ctx.check(unsafe {
        match repair {
            None => sys::tfuse_fuse_model(ctx.raw(), policy.raw(), plan.raw(), list.as_ptr(), list.len(), &mut raw),
            Some(r) => sys::tfuse_fuse_model_repaired(ctx.raw(), policy.raw(), plan.raw(), list.as_ptr(), list.len(), r.raw, &mut raw),
        }
    })?;
    Ok(unsafe { Model::from_raw(raw) })
}

struct Sink<'b, F> {
    caught: Caught,
    place: F,
    buffers: std::marker::PhantomData<&'b mut [u8]>,
}

unsafe extern "C" fn place<'b, F>(user: *mut c_void, tensor: *const sys::tfuse_tensor_info) -> *mut c_void
where
    F: FnMut(&TensorInfo<'_>) -> Option<&'b mut [u8]>,
{
    let sink = &mut *(user as *mut Sink<'b, F>);
    let info = TensorInfo::of(&*tensor);
    let place = &mut sink.place;
    match sink.caught.guard(|| place(&info)) {
        Some(Some(buffer)) if buffer.len() == info.size && info.size > 0 => buffer.as_mut_ptr() as *mut c_void,
        Some(Some(buffer)) if buffer.len() == info.size => ptr::NonNull::<c_void>::dangling().as_ptr(),
        Some(Some(buffer)) => {
            let why = format!("'{}' takes {} bytes; the buffer has {}", info.name, info.size, buffer.len());
            sink.caught.keep_error(Error::new(Status::ESHAPE, why));
            ptr::null_mut()
        }
        _ => ptr::null_mut(),
    }
}

/// Fuses into the caller's own buffers: the closure gives, for each tensor in order of names, the bytes that it goes to; None ends the call with
/// [`Status::ECALLBACK`]. The names, shapes and config are the anchor's.
pub fn fuse_into<'b, F>(ctx: &Context, policy: &Policy, plan: &Plan, models: &[&Model<'_>], repair: Option<&Repair>, buffer: F) -> Result<()>
where
    F: FnMut(&TensorInfo<'_>) -> Option<&'b mut [u8]>,
{
    let list = raw_models(models);
    let mut sink = Sink { caught: ctx.caught.clone(), place: buffer, buffers: std::marker::PhantomData };
    let table = sys::tfuse_sink {
        struct_size: size_of::<sys::tfuse_sink>(),
        user: &mut sink as *mut Sink<'b, F> as *mut c_void,
        place: Some(place::<'b, F>),
        done: None,
    };
    ctx.check(unsafe { sys::tfuse_fuse_into(ctx.raw(), policy.raw(), plan.raw(), list.as_ptr(), list.len(), raw_repair(repair), &table) })
}

/// Holds a plan to what it says on a few random inputs; the report is JSON.
pub fn self_check(ctx: &Context, policy: &Policy, plan: &Plan, models: &[&Model<'_>]) -> Result<String> {
    let list = raw_models(models);
    let mut out = ptr::null_mut();
    ctx.check(unsafe { sys::tfuse_selfcheck(ctx.raw(), policy.raw(), plan.raw(), list.as_ptr(), list.len(), &mut out) })?;
    Ok(unsafe { owned_text(out) })
}

/// The same on the first calibration inputs.
pub fn self_check_on(ctx: &Context, policy: &Policy, plan: &Plan, models: &[&Model<'_>], calib: &Array<'_>) -> Result<String> {
    let list = raw_models(models);
    let mut out = ptr::null_mut();
    ctx.check(unsafe { sys::tfuse_selfcheck_on(ctx.raw(), policy.raw(), plan.raw(), list.as_ptr(), list.len(), raw_array(Some(calib)), &mut out) })?;
    Ok(unsafe { owned_text(out) })
}

/// Writes a plan with the owners of what repair selected.
pub fn save_repaired(ctx: &Context, plan: &Plan, repair: &Repair, path: impl AsRef<Path>, force: bool) -> Result<()> {
    let path = c_path(path)?;
    ctx.check(unsafe { sys::tfuse_plan_save_repaired(ctx.raw(), plan.raw(), raw_repair(Some(repair)), path.as_ptr(), force as i32) })
}

/// What a run reads and writes, by path.
#[derive(Clone, Debug, Default)]
pub struct RunPaths<'p> {
    /// The anchor first.
    pub models: Vec<&'p Path>,
    /// Calibration inputs.
    pub calib: Option<&'p Path>,
    /// A plan to apply in place of aligning.
    pub plan: Option<&'p Path>,
    /// Where the plan goes too.
    pub save_plan: Option<&'p Path>,
    /// Where the fused checkpoint goes.
    pub out: Option<&'p Path>,
}

/// Looks at a run without doing it: JSON with every problem that headers show, memory, and bytes read and written.
pub fn dry_run(ctx: &Context, policy: &Policy, paths: &RunPaths<'_>) -> Result<String> {
    let optional = |p: Option<&Path>| p.map(c_path).transpose();
    let models = paths.models.iter().map(c_path).collect::<Result<Vec<CString>>>()?;
    let (calib, plan, save_plan, out) = (optional(paths.calib)?, optional(paths.plan)?, optional(paths.save_plan)?, optional(paths.out)?);
    let pointers: Vec<*const c_char> = models.iter().map(|m| m.as_ptr()).collect();
    let raw = |p: &Option<CString>| p.as_ref().map_or(ptr::null(), |p| p.as_ptr());
    let table = sys::tfuse_run_paths {
        struct_size: size_of::<sys::tfuse_run_paths>(),
        models: pointers.as_ptr(),
        n_models: pointers.len(),
        calib: raw(&calib),
        plan: raw(&plan),
        save_plan: raw(&save_plan),
        out: raw(&out),
    };
    let mut report = ptr::null_mut();
    ctx.check(unsafe { sys::tfuse_dry_run(ctx.raw(), policy.raw(), &table, &mut report) })?;
    Ok(unsafe { owned_text(report) })
}
