//! A stand-in for an LLM engine: the OpenAI routes, slow starts and paced streams, and no model.
//!
//! It lets one try and test a platform for model serving without a GPU: it can take long to load,
//! generate at a set speed, run a set number of generations at once, crash, or never become ready.
//! Every answer says that it is simulated. [`answer`] makes the text, [`protocol`] is the JSON of
//! the OpenAI API, [`load`] counts and admits, [`completion`] generates, [`server`] has the routes
//! and [`aids`] those that serve tests of a platform.

pub mod aids;
pub mod answer;
pub mod completion;
pub mod duration;
pub mod load;
pub mod protocol;
pub mod refusal;
pub mod server;
pub mod settings;
pub mod standby;
