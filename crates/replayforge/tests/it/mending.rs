//! A disk that is full, a file that is damaged, a folder or port that another has, a stop in the middle of the work.

mod disk;
mod stops;
