//! Tests of what only the process `ebb local` has: a start, an end, a state folder, programs
//! instead of images.

mod broken;
mod collection;
mod crash;
mod crowded;
mod doors;
mod embeddings;
mod engines;
mod keys;
mod limits;
mod room;
mod secrecy;
mod sklearn;
mod startup;
mod tags;
mod volumes;
mod waiting;
