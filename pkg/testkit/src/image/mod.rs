//! Images made to order: valid overlaybd blobs of any size, every kind of layer, and documents that lie.

mod archive;
mod blob;
mod built;
mod layer;
mod sparse;
mod wrapper;

pub use blob::{Blob, hollow};
pub use built::{Image, Index, Platform};
pub use layer::Layer;
pub use sparse::SparseBlob;
