//! The `http` source with `forwardTo`: the real proxy between clients and upstream servers of raw bytes.

mod bounds;
mod copies;
mod passing;
mod rig;
mod streams;
mod tls;
mod tunnels;
