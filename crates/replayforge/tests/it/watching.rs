//! What a person sees of the whole system: the relay's page in a browser, and that JSON, metrics, command line and page say
//! the same.

mod agree;
mod buckets;
mod nodes;
mod plain;
mod told;
