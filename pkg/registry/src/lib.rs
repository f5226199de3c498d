//! Speaks the distribution API: hosts, credentials, tokens, resolve, one ranged GET; one attempt a call, every failure classified.
//!
//! Called by `pull` (resolve, documents) and by `transfer` (blob ranges). Never retries, never schedules, knows no containerd.
//! A token fetched after a 401, redirects and the fall to plain http on loopback belong to one attempt.

mod addresses;
mod auth;
mod blob;
mod challenge;
mod client;
mod content_range;
mod credentials;
mod dial;
mod document;
mod encoding;
mod error;
mod exchange;
mod fault;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod hosts;
mod names;
mod no_proxy;
mod options;
mod proxy;
mod redact;
mod repository;
mod secret;
mod sent;
mod target;
mod tls;
mod token;

pub use blob::{Body, Span};
pub use credentials::{Credentials, DockerConfig, Helpers, Keychain, Source};
pub use document::{MAX_DOCUMENT, Proved, Resolved};
pub use error::Error;
pub use fault::{Class, Fault};
pub use names::Names;
pub use options::Options;
pub use repository::{Registry, Repository};
pub use secret::Secret;
