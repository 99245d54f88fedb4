//! How an activator introduces itself to another, before the first byte of HTTP on a connection.
//!
//! One line each way: `ebb-peer TOKEN` and `ok`. Not a header of each request: an activator that is
//! refused has sent no request yet, so the request can be served elsewhere, and no token is ever
//! near a request that goes on to a pod. Anything else, for example from an HTTP client by mistake,
//! is answered 401.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ebb_daemon::identity::{Doorkeeper, IdentityRefusal, Shown, TOKEN_BYTES_MAX};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::connect::{BoxedIo, Connect};

/// The start of an activator's line.
const WORD: &[u8] = b"ebb-peer ";
/// Stands for the token of an activator that shows none.
const NO_TOKEN: &str = "-";
const WELCOME: &[u8] = b"ok\n";
/// Longest line: its word, the longest token and the newline.
const LINE_BYTES_MAX: usize = WORD.len() + TOKEN_BYTES_MAX + 1;
/// Longest time for the line to come: it fits into a packet or two.
const LINE_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes connections on which this activator has introduced itself.
pub(crate) struct Introduced {
    pub(crate) connect: Arc<dyn Connect>,
    pub(crate) shown: Shown,
}

impl Connect for Introduced {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<BoxedIo>> {
        let (connecting, shown) = (self.connect.connect(address), self.shown.clone());
        Box::pin(async move {
            let token = shown.token().await?;
            let mut io = connecting.await?;
            introduce(&mut io, token.as_deref()).await?;
            Ok(io)
        })
    }
}

/// Introduces this activator and waits for the answer. The caller bounds the time.
pub(crate) async fn introduce<I>(io: &mut I, token: Option<&str>) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let token = token.unwrap_or(NO_TOKEN).as_bytes();
    io.write_all(&[WORD, token, b"\n"].concat()).await?;
    io.flush().await?;
    let mut answer = [0; WELCOME.len()];
    io.read_exact(&mut answer).await?;
    if answer == WELCOME {
        return Ok(());
    }
    let text = "the other activator refused this activator's token";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Lets the other end in, or tells it why not.
pub(crate) async fn welcome<I>(io: &mut I, doorkeeper: &Doorkeeper) -> Result<(), IdentityRefusal>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let line = timeout(LINE_TIMEOUT, read_line(io)).await.ok().and_then(Result::ok);
    let token = line.as_deref().and_then(token_in);
    let answer = match token {
        Some(token) => doorkeeper.admit(Some(token).filter(|token| *token != NO_TOKEN)).await,
        None => Err(IdentityRefusal::Stranger),
    };
    let said = match &answer {
        Ok(_) => WELCOME.to_vec(),
        Err(refusal) => refused(*refusal),
    };
    // A peer that does not read the answer finds the connection closed.
    let write = async {
        io.write_all(&said).await?;
        io.flush().await
    };
    match (answer, timeout(LINE_TIMEOUT, write).await) {
        (Ok(_), Ok(Ok(()))) => Ok(()),
        (Ok(_), _) => Err(IdentityRefusal::Stranger),
        (Err(refusal), _) => Err(refusal),
    }
}

/// Reads to the end of a line; an error if the line is too long or the connection ends first.
async fn read_line<I: AsyncRead + Unpin>(io: &mut I) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(LINE_BYTES_MAX.min(2048));
    let mut limited = io.take(u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX));
    while !line.contains(&b'\n') {
        if limited.read_buf(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(line)
}

/// The token in an activator's line. Nothing may follow the line: an activator waits for its
/// answer.
fn token_in(line: &[u8]) -> Option<&str> {
    let token = line.strip_prefix(WORD)?.strip_suffix(b"\n")?;
    std::str::from_utf8(token).ok().filter(|token| !token.contains('\n'))
}

/// The answer to a caller that is not let in: in HTTP/1.1, which an unknown caller may speak.
fn refused(refusal: IdentityRefusal) -> Vec<u8> {
    let status = match refusal {
        IdentityRefusal::Stranger => "401 Unauthorized",
        IdentityRefusal::Unheard => "503 Service Unavailable",
    };
    let text = format!("{refusal}\n");
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{text}",
        text.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result and the answer of a listener that asks for no token, to `sent` in pieces of
    /// `size` bytes.
    async fn said_to(sent: &[u8], size: usize) -> (Result<(), IdentityRefusal>, String) {
        let (mut here, mut there) = tokio::io::duplex(64 * 1024);
        let sending = async {
            for piece in sent.chunks(size.max(1)) {
                here.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            let mut said = String::new();
            here.read_to_string(&mut said).await.unwrap();
            said
        };
        let doorkeeper = Doorkeeper::open();
        let welcoming = async {
            let answer = welcome(&mut there, &doorkeeper).await;
            drop(there);
            answer
        };
        let (said, answer) = futures::join!(sending, welcoming);
        (answer, said)
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_is_welcome_in_whatever_pieces_it_comes() {
        for size in [1, 3, 1000] {
            let (answer, said) = said_to(b"ebb-peer some.token\n", size).await;
            assert_eq!((answer, said.as_str()), (Ok(()), "ok\n"));
        }
        assert_eq!(said_to(b"ebb-peer -\n", 1000).await.0, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_else_comes_gets_one_constant_answer() {
        let endless = vec![b'a'; LINE_BYTES_MAX];
        let long = [WORD, &endless[..], b"\n"].concat();
        for sent in [
            &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"ebb-peer token\nGET / HTTP/1.1\r\n\r\n",
            b"ebb-peer \xff\n",
            b"ebb-peer",
            b"",
            &endless,
            &long,
        ] {
            let (answer, said) = said_to(sent, 100_000).await;
            assert_eq!(answer, Err(IdentityRefusal::Stranger), "{sent:?}");
            let body = "\r\n\r\nonly activators of this cluster are served here\n";
            assert!(said.starts_with("HTTP/1.1 401 ") && said.ends_with(body), "{said}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_activator_knows_it_before_it_sends_a_request() {
        let (mut here, mut there) = tokio::io::duplex(1024);
        let refusing = async {
            read_line(&mut there).await.unwrap();
            there.write_all(&refused(IdentityRefusal::Stranger)).await.unwrap();
        };
        let (introduced, ()) = futures::join!(introduce(&mut here, Some("token")), refusing);
        assert_eq!(introduced.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
