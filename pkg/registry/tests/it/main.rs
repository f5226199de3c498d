//! The client against Debian's docker-registry, nginx and servers scripted byte by byte.

mod asking;
mod daemons;
mod dump;
mod limits;
mod mirrors;
mod proxy;
mod real;
mod realities;
mod scripted;
mod server;
mod signed;
mod tls;
mod tokens;
