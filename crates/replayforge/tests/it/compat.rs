//! A fleet that is changed over one program at a time: clients, relays, files and databases of the original.

mod clients;
mod doubles;
mod takeover;
