//! The nouns: names, digests, descriptors, documents, platforms, chain ids; pure and synchronous.
//!
//! Everything that comes in from a command line, a registry or a content store is parsed here, once, at the door.
//! Inside rpull there is no digest, size or reference that is still text. This crate opens no file and no socket.

mod descriptor;
mod digest;
mod document;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod image;
mod media;
mod namespace;
mod platform;
mod range;
mod reference;

pub use descriptor::{Descriptor, MAX_BLOB_SIZE};
pub use digest::{Digest, Hasher};
pub use document::{Config, Document, Index, Manifest};
pub use error::Error;
pub use image::{Image, Layer, chain_ids};
pub use media::MediaType;
pub use namespace::Namespace;
pub use platform::{Platform, PlatformMatcher};
pub use range::ByteRange;
pub use reference::{Object, Reference};
