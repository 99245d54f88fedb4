//! End-to-end, platform and house-rule tests of Ebb, with the benchmarks.
