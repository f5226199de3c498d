//! The client against Debian's docker-registry, nginx and servers scripted byte by byte.

mod daemons;
mod real;
mod scripted;
mod server;
