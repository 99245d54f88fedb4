//! Fetches the files of a model into a cache: from Hugging Face, a web server or S3, once, whole
//! and checked.
//!
//! It runs as an init container and as a process of `ebb local`. Everything that it is told may come
//! from people who write Services, and everything that it reads from servers of theirs: names,
//! sizes and redirects are believed after a check; addresses that mean this machine, or that hand out
//! credentials, are not connected to, while those of the cluster's network are; and no secret is
//! printed.

mod address;
mod cache;
mod digest;
mod download;
pub mod error;
mod eviction;
mod fetch;
mod meter;
mod names;
mod net;
pub mod options;
mod origin;
mod pace;
mod part;
mod plan;
mod report;
mod retry;
mod unpack;
pub mod watched;

use std::process::ExitCode;

use ebb_api::model_files::REASON_PREFIX;
use error::FetchError;
use options::FetchOptions;

pub use fetch::run;

/// Threads: they copy between the network and checksums, and threads of their own write files.
const THREADS: usize = 2;

/// The whole process: fetches, says on standard error how it ended, and gives its exit status: 0 for
/// a model that is there, 1 for one that is not, 2 for arguments that make no sense.
///
/// It makes a runtime of its own, and must not be called within one. SIGTERM and SIGINT end it.
pub fn main(options: &FetchOptions) -> ExitCode {
    let threads =
        tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let ended = match threads {
        Ok(threads) => {
            let ended = threads.block_on(run(options));
            // A disk that hangs does not hold the end up.
            threads.shutdown_background();
            ended
        }
        Err(error) => Err(FetchError::Failed(format!("no thread can be started: {error}"))),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The last line: Kubernetes shows the end of what was printed as the reason.
            report::print(&format!("{REASON_PREFIX}{error}"));
            report::tell_reason(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}
