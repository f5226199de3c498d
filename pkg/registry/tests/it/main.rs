//! The client against Debian's docker-registry, nginx and servers scripted byte by byte.

mod asking;
mod credentials;
mod daemons;
mod dump;
mod flags;
mod insecure;
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
mod watched;
