// SPDX-License-Identifier: Apache-2.0
//! Arrays that go in and out, and the types of their elements.

use crate::context::Context;
use crate::error::{c_path, c_string, text, Result};
use crate::sys;
use std::fmt;
use std::marker::PhantomData;
use std::os::raw::c_void;
use std::path::Path;
use std::ptr;

/// The type of an element. A newer library may have types that have no name here.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dtype(pub i32);

macro_rules! dtypes {
    ($($name:ident = $code:ident, $what:literal;)*) => {
        impl Dtype {
            $(#[doc = $what] pub const $name: Dtype = Dtype(sys::$code);)*
        }
    };
}

dtypes! {
    F32 = TFUSE_F32, "32-bit float.";
    F16 = TFUSE_F16, "16-bit float, IEEE.";
    BF16 = TFUSE_BF16, "The upper half of a 32-bit float.";
    F64 = TFUSE_F64, "64-bit float.";
    I64 = TFUSE_I64, "64-bit integer.";
    I32 = TFUSE_I32, "32-bit integer.";
    I16 = TFUSE_I16, "16-bit integer.";
    I8 = TFUSE_I8, "8-bit integer.";
    U64 = TFUSE_U64, "64-bit unsigned integer.";
    U32 = TFUSE_U32, "32-bit unsigned integer.";
    U16 = TFUSE_U16, "16-bit unsigned integer.";
    U8 = TFUSE_U8, "8-bit unsigned integer.";
    BOOL = TFUSE_BOOL, "One byte, 0 or 1.";
}

impl Dtype {
    /// As in safetensors, such as `BF16`.
    pub fn name(self) -> &'static str {
        unsafe { text(sys::tfuse_dtype_name(self.0)) }
    }
    /// Bytes of one element; 0 if unknown.
    pub fn size(self) -> usize {
        unsafe { sys::tfuse_dtype_size(self.0) }
    }
}

impl fmt::Debug for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The bits of a 16-bit float.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct F16(pub u16);

/// The bits of a bfloat16.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Bf16(pub u16);

/// Types that elements have in Rust.
///
/// # Safety
/// Any bits are a value of the type, and its size is that of its `DTYPE`.
pub unsafe trait Element: Copy + Send + Sync + 'static {
    /// The type in the library.
    const DTYPE: Dtype;
}

macro_rules! elements {
    ($($name:ty = $dtype:ident;)*) => {
        $(unsafe impl Element for $name { const DTYPE: Dtype = Dtype::$dtype; })*
    };
}

elements! { f32 = F32; f64 = F64; F16 = F16; Bf16 = BF16; i64 = I64; i32 = I32; i16 = I16; i8 = I8; u64 = U64; u32 = U32; u16 = U16; u8 = U8; }

/// An array: inputs, labels, costs, logits, maps. Row-major and contiguous. `'a` is how long borrowed memory lives.
///
/// ```compile_fail
/// let ctx = tfuse::Context::new().unwrap();
/// let array = {
///     let numbers = vec![1f32, 2.0];
///     tfuse::Array::borrow(&ctx, &[2], &numbers).unwrap()
/// }; // numbers are gone
/// array.shape();
/// ```
pub struct Array<'a> {
    raw: *mut sys::tfuse_array,
    borrow: PhantomData<&'a [u8]>,
}

// An array never changes but through &mut; releasing is right on any thread.
unsafe impl Send for Array<'_> {}
unsafe impl Sync for Array<'_> {}

pub(crate) unsafe extern "C" fn nothing(_: *mut c_void) {}

/// Drops a boxed vector.
pub(crate) unsafe extern "C" fn drop_vec<T>(owner: *mut c_void) {
    drop(Box::from_raw(owner as *mut Vec<T>));
}

impl<'a> Array<'a> {
    /// # Safety
    /// `raw` is an array of the library's that this one owns.
    pub(crate) unsafe fn from_raw(raw: *mut sys::tfuse_array) -> Array<'a> {
        Array { raw, borrow: PhantomData }
    }

    pub(crate) fn raw(&self) -> *const sys::tfuse_array {
        self.raw
    }

    /// Reads .npy, `file.npz:key` or IDX, gzipped or not.
    pub fn open(ctx: &Context, path: impl AsRef<Path>) -> Result<Array<'static>> {
        let path = c_path(path)?;
        let mut raw = ptr::null_mut();
        ctx.check(unsafe { sys::tfuse_array_open(ctx.raw(), path.as_ptr(), &mut raw) })?;
        Ok(unsafe { Array::from_raw(raw) })
    }

    /// Borrows a slice of as many elements as the shape has.
    pub fn borrow<T: Element>(ctx: &Context, shape: &[i64], data: &'a [T]) -> Result<Array<'a>> {
        check_count(shape, data.len())?;
        unsafe { wrap::<T>(ctx, shape, data.as_ptr(), nothing, ptr::null_mut()) }
    }

    /// Takes a vector over.
    pub fn own<T: Element>(ctx: &Context, shape: &[i64], data: Vec<T>) -> Result<Array<'static>> {
        check_count(shape, data.len())?;
        let at = data.as_ptr();
        unsafe { wrap::<T>(ctx, shape, at, drop_vec::<T>, Box::into_raw(Box::new(data)) as *mut c_void) }
    }

    /// An array of a DLPack tensor, which is taken over: its deleter is called once, also on failure.
    ///
    /// # Safety
    /// `tensor` is a valid managed tensor, whose memory nobody writes to before it is given back.
    pub unsafe fn from_dlpack(ctx: &Context, tensor: *mut sys::DLManagedTensor) -> Result<Array<'static>> {
        let mut raw = ptr::null_mut();
        ctx.check(sys::tfuse_array_from_dlpack(ctx.raw(), tensor, &mut raw))?;
        Ok(Array::from_raw(raw))
    }

    /// The same for DLPack's tables since its version 1.
    ///
    /// # Safety
    /// As of [`Array::from_dlpack`].
    pub unsafe fn from_dlpack_versioned(ctx: &Context, tensor: *mut sys::DLManagedTensorVersioned) -> Result<Array<'static>> {
        let mut raw = ptr::null_mut();
        ctx.check(sys::tfuse_array_from_dlpack_versioned(ctx.raw(), tensor, &mut raw))?;
        Ok(Array::from_raw(raw))
    }

    /// Lets a named array go along with this one as inputs of a model: "attention_mask", "token_type_ids" beside token ids.
    pub fn attach(&mut self, ctx: &Context, name: &str, other: Array<'a>) -> Result<()> {
        let name = c_string("the name", name)?;
        let raw = other.raw;
        std::mem::forget(other); // the array takes it over, also when this fails
        ctx.check(unsafe { sys::tfuse_array_attach(ctx.raw(), self.raw, name.as_ptr(), raw) })
    }

    /// Writes .npy, replacing the file in one step.
    pub fn save(&self, ctx: &Context, path: impl AsRef<Path>) -> Result<()> {
        let path = c_path(path)?;
        ctx.check(unsafe { sys::tfuse_array_save(ctx.raw(), self.raw, path.as_ptr()) })
    }

    /// The type of its elements.
    pub fn dtype(&self) -> Dtype {
        Dtype(unsafe { sys::tfuse_array_dtype(self.raw) })
    }

    /// Its extents.
    pub fn shape(&self) -> &[i64] {
        unsafe { slice(sys::tfuse_array_shape(self.raw), sys::tfuse_array_rank(self.raw)) }
    }

    /// Its elements, row-major, if they are of this type (and lie as it needs).
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        let count = self.shape().iter().product::<i64>() as usize;
        unsafe { typed(self.dtype(), sys::tfuse_array_data(self.raw), count) }
    }
}

impl Drop for Array<'_> {
    fn drop(&mut self) {
        unsafe { sys::tfuse_array_free(self.raw) }
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Array({:?} {:?})", self.dtype(), self.shape())
    }
}

/// A slice from C, where NULL has no elements.
///
/// # Safety
/// `data` is NULL or `count` elements that live as long as 'a.
pub(crate) unsafe fn slice<'a, T>(data: *const T, count: usize) -> &'a [T] {
    if data.is_null() || count == 0 {
        &[]
    } else {
        std::slice::from_raw_parts(data, count)
    }
}

/// # Safety
/// `data` holds `count` elements of `dtype`, and lives as long as 'a.
pub(crate) unsafe fn typed<'a, T: Element>(dtype: Dtype, data: *const c_void, count: usize) -> Option<&'a [T]> {
    let fits = dtype == T::DTYPE && data as usize % std::mem::align_of::<T>() == 0 && (count == 0 || !data.is_null());
    fits.then(|| slice(data as *const T, count))
}

pub(crate) fn check_count(shape: &[i64], count: usize) -> Result<()> {
    let wanted = shape.iter().try_fold(1i64, |n, &e| n.checked_mul(e));
    if wanted == Some(count as i64) && shape.iter().all(|&e| e >= 0) {
        return Ok(());
    }
    Err(crate::Error::new(crate::Status::ESHAPE, format!("shape {shape:?} does not hold {count} elements")))
}

unsafe fn wrap<'a, T: Element>(
    ctx: &Context,
    shape: &[i64],
    data: *const T,
    release: unsafe extern "C" fn(*mut c_void),
    owner: *mut c_void,
) -> Result<Array<'a>> {
    let mut raw = ptr::null_mut();
    let status = sys::tfuse_array_wrap(ctx.raw(), T::DTYPE.0, shape.len(), shape.as_ptr(), data as *const c_void, Some(release), owner, &mut raw);
    ctx.check(status)?;
    Ok(Array::from_raw(raw))
}
