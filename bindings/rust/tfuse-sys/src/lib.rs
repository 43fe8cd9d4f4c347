// SPDX-License-Identifier: Apache-2.0
//! The declarations of libtfuse as they are in C. The crate `tfuse` is the safe interface over them.
//!
//! Structs that begin with `struct_size` are filled with `std::mem::size_of` of themselves there. Constants are plain integers: a
//! newer library may hand out values that are not listed.

#![allow(non_camel_case_types)]
#![allow(clippy::too_many_arguments)]
#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    rustdoc::bare_urls,
    rustdoc::invalid_codeblock_attributes,
    rustdoc::invalid_rust_codeblocks
)]

#[rustfmt::skip]
mod ffi;
pub use ffi::*;
