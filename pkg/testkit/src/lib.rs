//! A misbehaving registry, image builders, real daemons on private roots, a stand-in overlaybd snapshotter. For tests and
//! `hack/bench` only.
//!
//! Nothing here returns an error: a test that cannot set its stage has failed, and the panic says why. Everything is
//! synchronous and runs in processes or threads of its own, so it serves from plain and from async tests alike.

pub mod certificates;
mod containerd;
pub mod fault;
mod http;
pub mod image;
mod nginx;
mod process;
mod registry;
pub mod secrets;
mod signed;
mod snapshotter;
mod squid;
mod stand_in;
mod token_server;

pub use containerd::{Containerd, ContainerdOptions, Daemon, Daemons};
pub use http::Response;
pub use nginx::TlsFront;
pub use registry::{DistributionRegistry, RegistryOptions};
pub use signed::{Signature, SignedCount, SignedFront, SignedOptions};
pub use snapshotter::Snapshotter;
pub use squid::Squid;
pub use stand_in::serve_stand_in;
pub use token_server::{Issued, Rules, TokenServer};
