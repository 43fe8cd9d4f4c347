// SPDX-License-Identifier: Apache-2.0
//! Models: named tensors and a config, from a checkpoint or from memory.

use crate::array::{check_count, drop_vec, nothing, slice, typed, Dtype, Element};
use crate::context::Context;
use crate::error::{c_path, c_string, text, Error, Result, Status};
use crate::sys;
use std::ffi::OsStr;
use std::fmt;
use std::marker::PhantomData;
use std::mem::size_of;
use std::os::raw::c_void;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

/// A sealed model. `'a` is how long borrowed tensors live.
pub struct Model<'a> {
    raw: *mut sys::tfuse_model,
    borrow: PhantomData<&'a [u8]>,
}

// Sealed, it never changes; it may be read and released by any thread.
unsafe impl Send for Model<'_> {}
unsafe impl Sync for Model<'_> {}

/// Name, type and extents of a tensor.
#[derive(Clone, Copy)]
pub struct TensorInfo<'m> {
    /// Its name.
    pub name: &'m str,
    /// The type of its elements.
    pub dtype: Dtype,
    extents: [i64; sys::TFUSE_MAX_RANK as usize],
    rank: usize,
    /// Bytes.
    pub size: usize,
}

impl TensorInfo<'_> {
    /// Its extents.
    pub fn shape(&self) -> &[i64] {
        &self.extents[..self.rank]
    }

    /// # Safety
    /// The strings of `info` live as long as 'm.
    pub(crate) unsafe fn of<'m>(info: &sys::tfuse_tensor_info) -> TensorInfo<'m> {
        TensorInfo {
            name: text(info.name),
            dtype: Dtype(info.dtype),
            extents: info.shape,
            rank: (info.rank.max(0) as usize).min(info.shape.len()),
            size: info.size as usize,
        }
    }
}

impl fmt::Debug for TensorInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?}", self.name, self.dtype, self.shape())
    }
}

/// A tensor of a model, in place.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'m> {
    /// What it is.
    pub info: TensorInfo<'m>,
    /// Its place in the order of names.
    pub index: usize,
    data: *const c_void,
}

impl<'m> Tensor<'m> {
    /// Its bytes where they lie, row-major; None where only headers were read, and for strided ones.
    pub fn bytes(&self) -> Option<&'m [u8]> {
        (!self.data.is_null()).then(|| unsafe { slice(self.data as *const u8, self.info.size) })
    }
    /// Its elements where they lie, if they are of this type and aligned for it; [`Model::read`] copies and converts.
    pub fn as_slice<T: Element>(&self) -> Option<&'m [T]> {
        self.bytes()?;
        unsafe { typed(self.info.dtype, self.data, self.info.size / self.info.dtype.size().max(1)) }
    }
}

impl<'a> Model<'a> {
    /// # Safety
    /// `raw` is a sealed model of the library's that this one owns.
    pub(crate) unsafe fn from_raw(raw: *mut sys::tfuse_model) -> Model<'a> {
        Model { raw, borrow: PhantomData }
    }

    pub(crate) fn raw(&self) -> *const sys::tfuse_model {
        self.raw
    }

    /// Opens a checkpoint: a directory with config.json and model.safetensors or its index, or a .safetensors file with config.json beside it.
    pub fn open(ctx: &Context, path: impl AsRef<Path>) -> Result<Model<'static>> {
        Model::open_flags(ctx, path.as_ref(), 0)
    }

    /// Opens a checkpoint of which a config.json alone will do.
    pub fn open_config(ctx: &Context, path: impl AsRef<Path>) -> Result<Model<'static>> {
        Model::open_flags(ctx, path.as_ref(), sys::TFUSE_OPEN_CONFIG_ONLY as u32)
    }

    fn open_flags(ctx: &Context, path: &Path, flags: u32) -> Result<Model<'static>> {
        let path = c_path(path)?;
        let mut raw = ptr::null_mut();
        ctx.check(unsafe { sys::tfuse_model_open(ctx.raw(), path.as_ptr(), flags, &mut raw) })?;
        Ok(unsafe { Model::from_raw(raw) })
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        unsafe { sys::tfuse_model_count(self.raw) }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> + '_ {
        (0..self.len()).filter_map(move |i| self.tensor_at(i))
    }

    /// A tensor by its name.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let name = c_string("the name", name).ok()?;
        let index = unsafe { sys::tfuse_model_find(self.raw, name.as_ptr()) };
        usize::try_from(index).ok().and_then(|i| self.tensor_at(i))
    }

    fn tensor_at(&self, index: usize) -> Option<Tensor<'_>> {
        let mut info = empty_info();
        let status = unsafe { sys::tfuse_model_tensor(self.raw, index, &mut info) };
        (status == sys::TFUSE_OK).then(|| Tensor { info: unsafe { TensorInfo::of(&info) }, index, data: info.data })
    }

    /// A copy of a tensor's elements, row-major, converted to a floating-point type if they are of another.
    pub fn read<T: Element + Default>(&self, ctx: &Context, name: &str) -> Result<Vec<T>> {
        let tensor = self.tensor(name).ok_or_else(|| Error::new(Status::ENOTFOUND, format!("there is no tensor '{name}'")))?;
        let count = tensor.info.size / tensor.info.dtype.size().max(1);
        let mut out = vec![T::default(); count];
        let to = if count == 0 { ptr::NonNull::<T>::dangling().as_ptr() } else { out.as_mut_ptr() };
        let bytes = count * size_of::<T>();
        ctx.check(unsafe { sys::tfuse_model_read(ctx.raw(), self.raw, tensor.index, T::DTYPE.0, to as *mut c_void, bytes) })?;
        Ok(out)
    }

    /// The path that it was opened from; empty for one from memory.
    pub fn path(&self) -> PathBuf {
        let bytes = unsafe { std::ffi::CStr::from_ptr(sys::tfuse_model_path(self.raw)) }.to_bytes();
        PathBuf::from(OsStr::from_bytes(bytes))
    }

    /// The config as JSON text, or "".
    pub fn config(&self) -> &str {
        unsafe { text(sys::tfuse_model_config(self.raw)) }
    }
}

impl Drop for Model<'_> {
    fn drop(&mut self) {
        unsafe { sys::tfuse_model_free(self.raw) }
    }
}

impl fmt::Debug for Model<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Model({:?}, {} tensors)", self.path(), self.len())
    }
}

pub(crate) fn empty_info() -> sys::tfuse_tensor_info {
    sys::tfuse_tensor_info {
        struct_size: size_of::<sys::tfuse_tensor_info>(),
        name: ptr::null(),
        dtype: 0,
        rank: 0,
        shape: [0; sys::TFUSE_MAX_RANK as usize],
        data: ptr::null(),
        size: 0,
    }
}

/// A model that is being built from tensors in memory.
///
/// ```
/// # fn main() -> tfuse::Result<()> {
/// let ctx = tfuse::Context::new()?;
/// let weights = vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0];
/// let mut builder = tfuse::ModelBuilder::new(&ctx, None)?;
/// builder.borrow("rows", &[2, 3], &weights)?;
/// builder.borrow_strided("columns", &[3, 2], &[1, 3], &weights)?; // the same memory, transposed
/// let model = builder.seal()?;
/// assert_eq!(model.read::<f32>(&ctx, "columns")?, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
/// # Ok(())
/// # }
/// ```
pub struct ModelBuilder<'c, 'a> {
    ctx: &'c Context,
    model: Model<'a>,
}

impl<'c, 'a> ModelBuilder<'c, 'a> {
    /// An empty model. `config` is the text of a config.json; None when a graph will be built by hand.
    pub fn new(ctx: &'c Context, config: Option<&str>) -> Result<ModelBuilder<'c, 'a>> {
        let config = config.map(|c| c_string("the config", c)).transpose()?;
        let mut raw = ptr::null_mut();
        let config = config.as_ref().map_or(ptr::null(), |c| c.as_ptr());
        ctx.check(unsafe { sys::tfuse_model_new(ctx.raw(), config, None, ptr::null_mut(), &mut raw) })?;
        Ok(ModelBuilder { ctx, model: unsafe { Model::from_raw(raw) } })
    }

    /// Borrows a row-major tensor.
    pub fn borrow<T: Element>(&mut self, name: &str, shape: &[i64], data: &'a [T]) -> Result<()> {
        check_count(shape, data.len())?;
        let name = c_string("the name", name)?;
        self.ctx.check(unsafe {
            sys::tfuse_model_add(
                self.ctx.raw(),
                self.model.raw,
                name.as_ptr(),
                T::DTYPE.0,
                shape.len(),
                shape.as_ptr(),
                data.as_ptr() as *const c_void,
            )
        })
    }

    /// Borrows a tensor whose elements lie `strides` apart, none negative; element 0 is that of `data`.
    pub fn borrow_strided<T: Element>(&mut self, name: &str, shape: &[i64], strides: &[i64], data: &'a [T]) -> Result<()> {
        check_reach(shape, strides, data.len())?;
        unsafe { self.lend::<T>(name, shape, strides, data.as_ptr(), nothing, ptr::null_mut()) }
    }

    /// Takes a vector over, row-major.
    pub fn own<T: Element>(&mut self, name: &str, shape: &[i64], data: Vec<T>) -> Result<()> {
        check_count(shape, data.len())?;
        let at = data.as_ptr();
        let strides: Vec<i64> = (0..shape.len()).map(|d| shape[d + 1..].iter().product()).collect();
        unsafe { self.lend::<T>(name, shape, &strides, at, drop_vec::<T>, Box::into_raw(Box::new(data)) as *mut c_void) }
    }

    /// Lends memory by its address: weights that go on changing between calls, as in training.
    ///
    /// # Safety
    /// All elements that shape and strides reach from `data` stay readable until the model is dropped, and nobody writes to them during a call that
    /// reads the model.
    pub unsafe fn lend_raw<T: Element>(&mut self, name: &str, shape: &[i64], strides: &[i64], data: *const T) -> Result<()> {
        if shape.len() != strides.len() {
            return Err(Error::new(Status::ESHAPE, format!("{} extents and {} strides", shape.len(), strides.len())));
        }
        self.lend::<T>(name, shape, strides, data, nothing, ptr::null_mut())
    }

    unsafe fn lend<T: Element>(
        &mut self,
        name: &str,
        shape: &[i64],
        strides: &[i64],
        data: *const T,
        release: unsafe extern "C" fn(*mut c_void),
        owner: *mut c_void,
    ) -> Result<()> {
        let name = match c_string("the name", name) {
            Ok(name) => name,
            Err(e) => {
                release(owner);
                return Err(e);
            }
        };
        self.ctx.check(sys::tfuse_model_add_strided(
            self.ctx.raw(),
            self.model.raw,
            name.as_ptr(),
            T::DTYPE.0,
            shape.len(),
            shape.as_ptr(),
            strides.as_ptr(),
            data as *const c_void,
            Some(release),
            owner,
        ))
    }

    /// Adds a DLPack tensor, which is taken over: its deleter is called once, also on failure.
    ///
    /// # Safety
    /// `tensor` is a valid managed tensor; its memory is not written to during a call that reads the model.
    pub unsafe fn add_dlpack(&mut self, name: &str, tensor: *mut sys::DLManagedTensor) -> Result<()> {
        let name = lossless(name);
        self.ctx.check(sys::tfuse_model_add_dlpack(self.ctx.raw(), self.model.raw, name.as_ptr(), tensor))
    }

    /// The same for DLPack's tables since its version 1.
    ///
    /// # Safety
    /// As of [`ModelBuilder::add_dlpack`].
    pub unsafe fn add_dlpack_versioned(&mut self, name: &str, tensor: *mut sys::DLManagedTensorVersioned) -> Result<()> {
        let name = lossless(name);
        self.ctx.check(sys::tfuse_model_add_dlpack_versioned(self.ctx.raw(), self.model.raw, name.as_ptr(), tensor))
    }

    /// Ends building.
    pub fn seal(self) -> Result<Model<'a>> {
        self.ctx.check(unsafe { sys::tfuse_model_seal(self.ctx.raw(), self.model.raw) })?;
        Ok(self.model)
    }
}

/// A name up to a NUL, where an error would lose the tensor.
fn lossless(name: &str) -> std::ffi::CString {
    std::ffi::CString::new(name.split('\0').next().unwrap_or("")).unwrap_or_default()
}

fn check_reach(shape: &[i64], strides: &[i64], count: usize) -> Result<()> {
    let wrong = |why: &str| Err(Error::new(Status::ESHAPE, format!("shape {shape:?} with strides {strides:?}: {why}")));
    if shape.len() != strides.len() || shape.iter().any(|&e| e < 0) || strides.iter().any(|&s| s < 0) {
        return wrong("there is a stride of 0 or more for each extent of 0 or more");
    }
    if shape.contains(&0) {
        return Ok(());
    }
    let last = shape.iter().zip(strides).try_fold(0i64, |at, (&e, &s)| (e - 1).checked_mul(s).and_then(|far| at.checked_add(far)));
    match last {
        Some(last) if (last as u64) < count as u64 => Ok(()),
        _ => wrong(&format!("reaches beyond {count} elements")),
    }
}
