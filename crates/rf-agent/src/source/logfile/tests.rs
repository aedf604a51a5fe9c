//! The source as it runs: over real files and a real store.

pub(crate) mod contract;
mod copies;
mod gone;
mod identity;
mod moved;
mod params;
mod rig;
mod rotation;
mod text;
mod trouble;
