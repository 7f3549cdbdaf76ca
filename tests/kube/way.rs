//! A way to a server, which can be cut and may be slow.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

pub struct Way {
    pub address: SocketAddr,
    whole: watch::Sender<bool>,
}

impl Way {
    /// Whatever comes, either way, is passed on so late. It begins at the server's own address, which is what the
    /// certificate is for.
    pub async fn to(server: SocketAddr, late: Duration) -> Self {
        let listener = TcpListener::bind((server.ip(), 0)).await.unwrap();
        let (address, (whole, seen)) = (listener.local_addr().unwrap(), watch::channel(true));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut seen = seen.clone();
                tokio::spawn(async move {
                    if !*seen.borrow_and_update() {
                        return;
                    }
                    let passing = async {
                        let mut server = TcpStream::connect(server).await?;
                        let (from_client, to_client) = client.split();
                        let (from_server, to_server) = server.split();
                        tokio::try_join!(
                            pass(from_client, to_server, late),
                            pass(from_server, to_client, late)
                        )
                    };
                    // What breaks a connection is the end of it, whatever it is.
                    tokio::select! {
                        _ = passing => {}
                        _ = seen.changed() => {}
                    }
                });
            }
        });
        Self { address, whole }
    }

    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    late: Duration,
) -> io::Result<()> {
    let mut piece = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        if !late.is_zero() {
            sleep(late).await;
        }
        to.write_all(&piece[..length]).await?;
    }
}
