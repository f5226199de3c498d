//! The client against Debian's docker-registry, nginx and servers scripted byte by byte.

mod asking;
mod certificates;
mod daemons;
mod dump;
mod limits;
mod proxy;
mod real;
mod scripted;
mod server;
mod tls;
mod tokens;
