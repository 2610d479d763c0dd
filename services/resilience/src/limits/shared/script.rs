//! The script that Redis runs, and what goes in and out of it. Pure.

use redis::{Cmd, RedisResult, Script, Value};
use valerix_policy::LimitAlgorithm;

use super::lease::{Draw, Reply, Terms, micros};

/// The script's text.
pub(super) const TEXT: &str = include_str!("limit.lua");

/// The digest by which Redis knows the script.
pub(super) fn digest() -> String {
    Script::new(TEXT).get_hash().to_owned()
}

/// `EVALSHA` with the digest, or `EVAL` with the text where Redis does not know it.
pub(super) fn command(verb: &str, script: &str, name: &str, terms: &Terms, draw: &Draw) -> Cmd {
    let quota = terms.quota();
    let (algorithm, most) = match quota.algorithm {
        LimitAlgorithm::GCRA => ("g", u64::from(quota.burst.max(1))),
        LimitAlgorithm::Window => ("w", terms.memory_micros()),
    };
    let mut command = redis::cmd(verb);
    command
        .arg(script)
        .arg(1)
        .arg(name)
        .arg(algorithm)
        .arg(quota.requests.max(1))
        .arg(micros(quota.window))
        .arg(most)
        .arg(draw.wanted)
        .arg(u8::from(draw.lease))
        .arg(draw.drawn_at)
        .arg(draw.ended)
        .arg(draw.returned);
    command
}

/// Reads the script's answer.
///
/// # Errors
/// When it is not five numbers.
pub(super) fn reply(value: Value) -> RedisResult<Reply> {
    let (granted, left, reset, retry, at): (u32, u64, u64, u64, u64) = redis::from_redis_value(value)?;
    Ok(Reply {
        granted,
        left: u32::try_from(left).unwrap_or(u32::MAX),
        reset: reset.saturating_mul(1_000),
        retry: retry.saturating_mul(1_000),
        at,
    })
}
