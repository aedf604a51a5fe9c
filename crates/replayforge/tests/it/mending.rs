//! A disk that is full, a file or checkpoint that is damaged, a folder or port that another has, a stop in the middle of the
//! work.

mod checkpoints;
mod disk;
mod stops;
