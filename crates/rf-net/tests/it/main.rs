//! What the crate promises, over streams in memory and real sockets.

// `cfg(test)` is always set here; it tells clippy that helpers outside of `#[test]` functions are tests too.
#[cfg(test)]
mod client;
#[cfg(test)]
mod serve;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod upstream;
