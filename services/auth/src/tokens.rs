//! Tokens that are secrets: refresh tokens, and the hash under which the database knows them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use valerix_kit::args::Secret;
use valerix_kit::problem::Problem;

/// A new refresh token: 256 bits that nobody can guess, which is why a plain hash of it is enough.
///
/// # Errors
/// 500 when the system gives no random bytes.
pub fn refresh_token() -> Result<Secret, Problem> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|error| Problem::internal(&error))?;
    Ok(Secret::from(URL_SAFE_NO_PAD.encode(bytes)))
}

/// What is kept of a refresh token.
#[must_use]
pub fn kept(token: &Secret) -> Vec<u8> {
    Sha256::digest(token.expose()).to_vec()
}
