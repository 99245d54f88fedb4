//! A simulated LLM engine with the OpenAI routes, for demonstrations and tests of slow starts and streams.

fn main() {}
