//! How the simulated engine behaves: flags, each with an environment variable.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Parser;

use crate::duration;

const EXAMPLES: &str = "\
Examples:
  ebb-chat                                     ready after 2 seconds, 50 tokens a second
  PORT=9000 EBB_CHAT_LOAD_TIME=30s ebb-chat    a large model
  ebb-chat --load-time 1s --exit-after 5s --exit-code 3    crashes after it was ready
  ebb-chat --no-listen                         never becomes ready

  curl localhost:8080/v1/chat/completions --json \\
    '{\"model\":\"chat\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'

Routes: /v1/models, /v1/models/ID, /v1/chat/completions, /health, /stats, and as vLLM's
/sleep?level=1, /wake_up, /is_sleeping.
For tests of a platform: /sleep?ms=N, /echo (streams the body back), /env (PORT and K_* only).";

/// A simulated LLM engine with the OpenAI routes. There is no model: every answer says so.
#[derive(Clone, Debug, Parser)]
#[command(name = "ebb-chat", version, after_help = EXAMPLES)]
pub struct ChatSettings {
    /// The TCP port to listen on, on all addresses
    #[arg(long, env = "PORT", default_value_t = 8080)]
    pub port: u16,

    /// The name of the simulated model
    #[arg(long, env = "EBB_CHAT_MODEL", default_value = "chat")]
    pub model: String,

    /// How long it takes to load, such as 3s: the port opens only afterwards
    #[arg(long, env = "EBB_CHAT_LOAD_TIME", default_value = "2s", value_parser = duration::parse)]
    pub load_time: Duration,

    /// Testing aid: mebibytes of memory to fill, as weights would
    #[arg(long, env = "EBB_CHAT_WEIGHTS_MIB", value_name = "N", default_value_t = 0)]
    pub weights_mib: u16,

    /// How long it takes to wake after POST /sleep
    #[arg(long, env = "EBB_CHAT_WAKE_TIME", default_value = "200ms", value_parser = duration::parse)]
    pub wake_time: Duration,

    /// Speed of each generation
    #[arg(
        long,
        env = "EBB_CHAT_TOKENS_PER_SECOND",
        value_name = "N",
        default_value_t = 50.0,
        value_parser = speed
    )]
    pub tokens_per_second: f64,

    /// Length of an answer that max_tokens does not cut
    #[arg(
        long,
        env = "EBB_CHAT_ANSWER_TOKENS",
        value_name = "N",
        default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(crate::protocol::TOKENS_MAX))
    )]
    pub answer_tokens: u32,

    /// Generations at the same time; further requests wait inside, as in a real engine
    #[arg(long, env = "EBB_CHAT_CONCURRENCY", value_name = "N", default_value = "8")]
    pub concurrency: NonZeroUsize,

    /// Testing aid: end the process this long after its start, as a crash would
    #[arg(long, env = "EBB_CHAT_EXIT_AFTER", value_name = "TIME", value_parser = duration::parse)]
    pub exit_after: Option<Duration>,

    /// Testing aid: the exit code of --exit-after
    #[arg(long, env = "EBB_CHAT_EXIT_CODE", value_name = "CODE", default_value_t = 1)]
    pub exit_code: u8,

    /// Testing aid: never open the port
    #[arg(long, env = "EBB_CHAT_NO_LISTEN")]
    pub no_listen: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    // Above a million a second the pauses are shorter than timers can wait.
    match text.parse::<f64>() {
        Ok(speed) if (1e-3..=1e6).contains(&speed) => Ok(speed),
        _ => Err("give a number from 0.001 to 1000000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_consistent_and_their_defaults_as_documented() {
        ChatSettings::command().debug_assert();
        let settings = ChatSettings::try_parse_from(["ebb-chat"]).unwrap();
        assert_eq!(settings.load_time, Duration::from_secs(2));
        assert_eq!(settings.concurrency.get(), 8);
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for flag in [
            "--tokens-per-second=0",
            "--tokens-per-second=NaN",
            "--concurrency=0",
            "--answer-tokens=0",
            "--load-time=3",
            "--exit-code=256",
        ] {
            assert!(ChatSettings::try_parse_from(["ebb-chat", flag]).is_err(), "{flag}");
        }
    }
}
