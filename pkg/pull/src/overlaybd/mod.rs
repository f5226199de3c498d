//! overlaybd's rules: which layers link, what labels they carry, what a blob must look like, where its file belongs.
//!
//! The only library module that spells the word. It asks containerd nothing: callers bring replies and descriptors here and take
//! decisions away. Functions that touch the disk block; call them where blocking is allowed.

mod access;
mod blob;
mod commit_file;
mod config;
mod error;
mod kind;
mod labels;
mod lsmt;
mod mounts;
mod neighbours;
mod wrapper;
mod zfile;

pub(crate) use access::weakness;
pub(crate) use blob::{Payload, ReadAt, check};
pub(crate) use commit_file::{How, NAME, Original, Placed, State, glance, place, state};
pub(crate) use config::prove_directory;
pub use error::Error;
pub(crate) use kind::{LayerKind, classify};
pub(crate) use labels::{is_lazy, missing_label, probe_labels, snapshot_labels};
pub(crate) use mounts::{active_directory, check_reply, snapshot_ids, view_directories};
pub(crate) use neighbours::{file_inode, standing_on};
