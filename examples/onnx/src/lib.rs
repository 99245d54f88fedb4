//! A small model server: any ONNX file behind the Open Inference Protocol v2 over REST.
//!
//! It is meant to be started from zero for a single request, so it loads its models first and only
//! then opens its port: an open port means ready. [`search`] finds the files, [`model`] loads and
//! runs them, [`server`] is the HTTP face; everything a caller may get wrong is a
//! [`rejection::Rejection`] with one exact sentence.

pub mod data;
pub mod datatype;
pub mod model;
pub mod protocol;
pub mod rejection;
pub mod search;
pub mod server;
pub mod signature;
