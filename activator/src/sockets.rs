//! Options of TCP connections that notice when the other end is gone without a word.
//!
//! A node that loses its power, or a middlebox that forgets a connection, sends no FIN and no RST.
//! Without these options an activator would wait for a response until the client gives up, and hold
//! the slot in the pod for as long.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Silence after which the other end is asked whether it is there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
/// Pause between two questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Questions without an answer after which the other end counts as gone: 30 s of silence in all.
const KEEPALIVE_RETRIES: u32 = 3;
/// How long a client may leave sent bytes unacknowledged. Twice what `pace` allows a client that is
/// there, so that `pace` cuts the connection first, and counts it.
const CLIENT_TIMEOUT: Duration = Duration::from_mins(1);

/// Readies the connection of a client.
pub(crate) fn tune_client(stream: &TcpStream) -> io::Result<()> {
    tune(stream)?;
    #[cfg(target_os = "linux")]
    SockRef::from(stream).set_tcp_user_timeout(Some(CLIENT_TIMEOUT))?;
    Ok(())
}

/// Readies a connection to a pod.
///
/// Not with `TCP_USER_TIMEOUT`: Linux applies that to a window that stays closed, too, and a model
/// that computes for a minute before it reads the rest of an upload is not gone. A node that is
/// gone in the middle of an upload is noticed by the revision's own timeout, or when its pod is
/// removed.
pub(crate) fn tune_pod(stream: &TcpStream) -> io::Result<()> {
    tune(stream)
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    // A head must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A vanished end is noticed on both sides.
    #[tokio::test]
    async fn both_sides_ask_whether_the_other_is_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pod = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (client, _) = listener.accept().await.unwrap();
        tune_client(&client).unwrap();
        tune_pod(&pod).unwrap();
        for stream in [&client, &pod] {
            let socket = SockRef::from(stream);
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_RETRIES);
            assert!(stream.nodelay().unwrap());
        }
        #[cfg(target_os = "linux")]
        {
            assert_eq!(SockRef::from(&client).tcp_user_timeout().unwrap(), Some(CLIENT_TIMEOUT));
            assert_eq!(SockRef::from(&pod).tcp_user_timeout().unwrap(), None);
        }
    }
}
