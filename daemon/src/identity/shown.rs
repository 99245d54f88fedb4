//! The token that this process shows to others.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Longest token that is shown or looked at; kubelet's have about 1,200 bytes.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;
/// Where the chart mounts it.
pub const TOKEN_FILE: &str = "/var/run/secrets/ebb.dev/token";
/// How long a token that was read is used before the file is read again. kubelet renews a token
/// when a fifth of its time is left, minutes before it ends.
const READ_EVERY: Duration = Duration::from_secs(10);

/// The token that this process shows. Cheap to clone.
#[derive(Clone)]
pub struct Shown {
    /// `None` where nobody asks for a token.
    file: Option<Arc<File>>,
}

struct File {
    path: PathBuf,
    /// When the file was last read, and the token that it held.
    held: Mutex<Option<(Instant, Arc<str>)>>,
}

// === impl Shown ===

impl fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.file.as_ref().map(|file| &file.path);
        formatter.debug_struct("Shown").field("path", &path).finish_non_exhaustive()
    }
}

impl Shown {
    /// The token in a file that kubelet or another program keeps up to date.
    pub fn file(path: PathBuf) -> Self {
        Self { file: Some(Arc::new(File { path, held: Mutex::default() })) }
    }

    /// No token: for a process that is never asked for one.
    pub const fn nothing() -> Self {
        Self { file: None }
    }

    /// The token at this moment; `None` where none is shown.
    ///
    /// # Errors
    ///
    /// The file cannot be read or holds no token. An older token is no way out: it may have
    /// expired.
    pub async fn token(&self) -> io::Result<Option<Arc<str>>> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let now = Instant::now();
        if let Some((at, token)) = &*file.held.lock()
            && now.saturating_duration_since(*at) < READ_EVERY
        {
            return Ok(Some(Arc::clone(token)));
        }
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", file.path.display()))
        };
        let text = tokio::fs::read_to_string(&file.path).await.map_err(named)?;
        let token = text.trim();
        if !is_token(token) {
            return Err(named(io::Error::new(io::ErrorKind::InvalidData, "it holds no token")));
        }
        let token: Arc<str> = token.into();
        *file.held.lock() = Some((now, Arc::clone(&token)));
        Ok(Some(token))
    }
}

/// Whether the text has the form of a token: other text is not worth a review.
pub(super) fn is_token(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    !text.is_empty() && text.len() <= TOKEN_BYTES_MAX && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_the_form_of_a_token_is_refused() {
        let long = "a".repeat(TOKEN_BYTES_MAX + 1);
        for bad in ["", " ", "a b", "a\n", "ä", "a\0", &long] {
            assert!(!is_token(bad), "{bad}");
        }
        for good in ["a", "eyJhbGciOi.eyJhdWQi.c2ln-_", &long[1..]] {
            assert!(is_token(good), "{good}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewed_token_is_shown_soon_and_a_lost_one_is_an_error() {
        let path = std::env::temp_dir().join(format!("ebb-token-{}", std::process::id()));
        let shown = Shown::file(path.clone());
        assert!(shown.token().await.is_err());
        std::fs::write(&path, "first\n").unwrap();
        assert_eq!(shown.token().await.unwrap().as_deref(), Some("first"));
        std::fs::write(&path, "second").unwrap();
        assert_eq!(shown.token().await.unwrap().as_deref(), Some("first"));
        tokio::time::advance(READ_EVERY).await;
        assert_eq!(shown.token().await.unwrap().as_deref(), Some("second"));
        std::fs::remove_file(&path).unwrap();
        tokio::time::advance(READ_EVERY).await;
        let error = shown.token().await.unwrap_err().to_string();
        assert!(error.contains("ebb-token-"), "{error}");
        assert_eq!(Shown::nothing().token().await.unwrap(), None);
    }
}
