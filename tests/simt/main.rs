//! The kernel checker: that it finds what is wrong, and that what ships is right.

mod faults;
mod language;
mod shipped;
