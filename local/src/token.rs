//! The token with which `kubectl` and other programs of this user call the embedded API.

use std::io;
use std::path::Path;

use ebb_apiserver::private;

/// The file in the state folder that holds it.
const FILE_NAME: &str = "token";
/// Length of a token: nobody guesses 256 bits.
const DIGITS: usize = 64;

/// The token of the state folder `data`; made if there is none. It stays the same from start to
/// start, so that a kubeconfig that was copied elsewhere goes on working. If the file is removed,
/// the next start makes another token.
pub fn of(data: &Path) -> io::Result<String> {
    let path = data.join(FILE_NAME);
    match std::fs::read_to_string(&path) {
        // Any other content is a token cut short by a crash.
        Ok(token) if is_token(&token) => return Ok(token),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let token = fresh();
    private::replace(&path, &token)?;
    Ok(token)
}

/// A fresh random token.
pub fn fresh() -> String {
    let [high, low]: [u128; 2] = rand::random();
    format!("{high:032x}{low:032x}")
}

fn is_token(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A kubeconfig that was copied elsewhere goes on working, and nobody else can read the token.
    #[test]
    fn the_token_of_a_folder_outlives_a_start_and_is_the_owners_alone() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let token = of(one.path()).unwrap();
        assert!(is_token(&token), "{token}");
        assert_eq!(of(one.path()).unwrap(), token);
        assert_ne!(of(other.path()).unwrap(), token);
        let file = one.path().join(FILE_NAME);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        // A torn token is replaced: an empty or short token must never open anything.
        std::fs::write(&file, "").unwrap();
        assert!(is_token(&of(one.path()).unwrap()));
    }
}
