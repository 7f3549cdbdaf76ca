//! Clients of this process that tell each request that failed: one of HTTP/1.1, one of HTTP/2.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For a connection to end after its GOAWAY.
const SOON: Duration = Duration::from_secs(10);

/// A client's connection, kept while it may be.
#[derive(Default)]
pub struct Client(Option<BufReader<TcpStream>>);

impl Client {
    /// One GET; the status of its answer.
    pub async fn ask(&mut self, at: SocketAddr, path: &str) -> std::io::Result<u16> {
        self.ask_as(at, path, "nobody").await
    }

    /// One GET of this user; the status of its answer.
    pub async fn ask_as(&mut self, at: SocketAddr, path: &str, user: &str) -> std::io::Result<u16> {
        let mut stream = match self.0.take() {
            Some(stream) => stream,
            None => BufReader::new(TcpStream::connect(at).await?),
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: www.example.com\r\nx-user: {user}\r\n\r\n");
        stream.get_mut().write_all(request.as_bytes()).await?;
        let (mut length, mut keep, mut line) = (0, true, String::new());
        stream.read_line(&mut line).await?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other(format!("answered {line:?}")))?;
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let text = line.trim_end().to_ascii_lowercase();
            if text.is_empty() {
                break;
            }
            if let Some(value) = text.strip_prefix("content-length: ") {
                length = value.parse().map_err(std::io::Error::other)?;
            }
            keep &= text != "connection: close";
        }
        stream.read_exact(&mut vec![0; length]).await?;
        self.0 = keep.then_some(stream);
        Ok(status)
    }
}

/// Asks over one HTTP/2 connection until the server says GOAWAY, or it is told to stop; an error: a request that failed.
pub async fn until_goaway<S>(stream: S, served: &AtomicUsize, stop: &AtomicBool) -> Result<(), h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (client, connection) = h2::client::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let mut asking = client;
    while !stop.load(Ordering::SeqCst) {
        // No more streams: the GOAWAY came.
        let Ok(mut client) = asking.clone().ready().await else { break };
        let request = http::Request::get("http://www.example.com/").body(()).unwrap();
        let Ok((answer, _)) = client.send_request(request, true) else { break };
        let answer = match answer.await {
            // Not processed, as the GOAWAY says: asked again elsewhere.
            Err(error)
                if error.is_go_away()
                    && error.is_remote()
                    && error.reason() == Some(h2::Reason::NO_ERROR) =>
            {
                break;
            }
            Err(error) if error.reason() == Some(h2::Reason::REFUSED_STREAM) => break,
            answer => answer?,
        };
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        while let Some(data) = body.data().await {
            body.flow_control().release_capacity(data?.len())?;
        }
        served.fetch_add(1, Ordering::SeqCst);
        asking = client;
    }
    drop(asking);
    // Every request was answered, or refused by GOAWAY. What this client has to say after that, such as
    // the end of a stream that was refused, nobody may be there to hear.
    match timeout(SOON, connection).await.expect("the connection ends").unwrap() {
        Err(error) if error.is_io() => Ok(()),
        ended => ended,
    }
}
