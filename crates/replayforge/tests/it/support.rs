//! The harness: the program as a process, a target that writes down what it gets, clients that send any bytes.

pub(crate) mod browser;
pub(crate) mod bucket;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod markdown;
pub(crate) mod ports;
pub(crate) mod postgres;
pub(crate) mod postgres_programs;
pub(crate) mod program;
pub(crate) mod server;
pub(crate) mod small_disk;
pub(crate) mod stack;
pub(crate) mod system;
pub(crate) mod target;
pub(crate) mod wait;
pub(crate) mod web_server;
pub(crate) mod wire;
