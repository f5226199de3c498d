//! The engine against a registry that misbehaves to order, into a real spool.

mod addresses;
mod ends;
mod fail_over;
mod faults;
mod mixed;
mod spans;
mod stage;
mod tokens;
