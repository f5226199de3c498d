//! A registry that misbehaves to order, from a seed: every fault a blob transfer must survive, and a count of each.
//!
//! Serves any repository name over plain HTTP/1.1 on loopback, on threads of its own. Written by hand because it must
//! break the protocol byte by byte, and because it gives every accepted connection its own rate across all its requests.

mod answer;
mod connection;
mod content;
mod script;
mod server;

pub use content::Content;
pub use script::{Fault, Request, mixed};
pub use server::{Builder, Count, Server};
