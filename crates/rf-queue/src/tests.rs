//! Tests of the whole store, through its public API and its files.

mod ahead;
mod basics;
mod bound;
mod crash;
mod damage;
mod dead_letters;
mod find;
mod full;
mod full_disk;
mod leases;
mod life;
mod migration;
mod model;
mod plans;
mod rig;
mod segments;
mod synced;
