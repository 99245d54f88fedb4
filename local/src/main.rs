//! The ebb command: the whole platform on one machine, no Kubernetes needed.

fn main() {}
