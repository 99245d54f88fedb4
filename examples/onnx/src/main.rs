//! A small model server for any ONNX file, speaking the Open Inference Protocol v2 over REST.

fn main() {}
