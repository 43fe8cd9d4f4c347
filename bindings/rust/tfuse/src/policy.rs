// SPDX-License-Identifier: Apache-2.0
//! Policies: the choices, by key.

use crate::context::Context;
use crate::error::{c_string, text, Result};
use crate::sys;
use std::fmt;
use std::mem::size_of;
use std::ptr;

/// A set of keyed options; every key has a default. [`keys`] lists them.
pub struct Policy {
    raw: *mut sys::tfuse_policy,
}

// It changes through &mut alone.
unsafe impl Send for Policy {}
unsafe impl Sync for Policy {}

impl Policy {
    /// A policy of defaults.
    pub fn new(ctx: &Context) -> Result<Policy> {
        let mut raw = ptr::null_mut();
        ctx.check(unsafe { sys::tfuse_policy_new(ctx.raw(), &mut raw) })?;
        Ok(Policy { raw })
    }

    pub(crate) fn raw(&self) -> *const sys::tfuse_policy {
        self.raw
    }

    /// Sets a key; the last setting wins. What the key does not take is an error, never clamped.
    pub fn set(&mut self, ctx: &Context, key: &str, value: impl ToString) -> Result<&mut Policy> {
        let (key, value) = (c_string("the key", key)?, c_string("the value", value.to_string())?);
        ctx.check(unsafe { sys::tfuse_policy_set(ctx.raw(), self.raw, key.as_ptr(), value.as_ptr()) })?;
        Ok(self)
    }

    /// The value of a key as text: as set, or its default; None for an unknown key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let key = c_string("the key", key).ok()?;
        let value = unsafe { sys::tfuse_policy_get(self.raw, key.as_ptr()) };
        (!value.is_null()).then(|| unsafe { text(value) })
    }

    /// Whether a key was set.
    pub fn is_set(&self, key: &str) -> bool {
        c_string("the key", key).map_or(false, |key| unsafe { sys::tfuse_policy_is_set(self.raw, key.as_ptr()) } == 1)
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        unsafe { sys::tfuse_policy_free(self.raw) }
    }
}

impl fmt::Debug for Policy {
    /// What was set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(keys().filter(|k| self.is_set(k.name)).map(|k| (k.name, self.get(k.name).unwrap_or("")))).finish()
    }
}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyKind {
    /// One of a list of words.
    Choice,
    /// An integer within bounds.
    Int,
    /// A finite number within bounds.
    Real,
    /// 0 or 1.
    Flag,
    /// A word that is checked where it is used.
    Name,
    /// Finite numbers with commas between.
    Reals,
    /// Words of a list with commas between.
    Set,
    /// A kind of a newer library's.
    Other,
}

/// A row of the key table.
#[derive(Clone, Copy, Debug)]
pub struct KeyInfo {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: KeyKind,
    /// Words of a choice or a set, with `|` between.
    pub values: &'static str,
    /// Least value of a number.
    pub min: f64,
    /// Largest value of a number.
    pub max: f64,
    /// The default as text.
    pub default: &'static str,
    /// One line.
    pub help: &'static str,
}

/// Every key that a policy takes.
pub fn keys() -> impl Iterator<Item = KeyInfo> {
    (0..unsafe { sys::tfuse_key_count() }).filter_map(|i| {
        let mut info = sys::tfuse_key_info {
            struct_size: size_of::<sys::tfuse_key_info>(),
            name: ptr::null(),
            r#type: 0,
            values: ptr::null(),
            min: 0.0,
            max: 0.0,
            default_value: ptr::null(),
            help: ptr::null(),
        };
        let status = unsafe { sys::tfuse_key_get(i, &mut info) };
        let kind = match info.r#type {
            sys::TFUSE_KEY_CHOICE => KeyKind::Choice,
            sys::TFUSE_KEY_INT => KeyKind::Int,
            sys::TFUSE_KEY_REAL => KeyKind::Real,
            sys::TFUSE_KEY_FLAG => KeyKind::Flag,
            sys::TFUSE_KEY_NAME => KeyKind::Name,
            sys::TFUSE_KEY_REALS => KeyKind::Reals,
            sys::TFUSE_KEY_SET => KeyKind::Set,
            _ => KeyKind::Other,
        };
        (status == sys::TFUSE_OK).then(|| unsafe {
            KeyInfo {
                name: text(info.name),
                kind,
                values: text(info.values),
                min: info.min,
                max: info.max,
                default: text(info.default_value),
                help: text(info.help),
            }
        })
    })
}
