//! Tests of the whole store, through its public API and its files.

mod basics;
mod bound;
mod dead_letters;
mod full;
mod leases;
mod life;
mod rig;
