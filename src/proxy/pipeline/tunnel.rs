//! After a 101: bytes both ways, whatever they mean.

use crate::proxy::io::{BODY_READ, Conn, Timer};
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// One direction: what is read here is written there, to the end of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// The reader has ended; the rest and the end are being passed on.
    Ending,
    Ended,
}

/// Passes bytes on until both sides have ended, one breaks, or nothing has moved for `idle`.
pub(super) async fn tunnel(
    client: &mut Conn,
    upstream: &mut Conn,
    idle: Duration,
    timer: &mut Timer,
) -> io::Result<()> {
    let (mut up, mut down) = (Way::Open, Way::Open);
    let mut moved = Instant::now();
    poll_fn(|context| {
        loop {
            let before = (client.written(), upstream.written(), up, down);
            poll_way(client, upstream, &mut up, context)?;
            poll_way(upstream, client, &mut down, context)?;
            if (up, down) == (Way::Ended, Way::Ended) {
                return Poll::Ready(Ok(()));
            }
            if before == (client.written(), upstream.written(), up, down) {
                break;
            }
            moved = Instant::now();
        }
        timer.poll(context, moved + idle).map(|()| Err(io::ErrorKind::TimedOut.into()))
    })
    .await
}

/// One step of a direction; an error ends the tunnel.
fn poll_way(from: &mut Conn, to: &mut Conn, way: &mut Way, context: &mut Context<'_>) -> io::Result<()> {
    if *way == Way::Open {
        if from.input.is_empty() && to.output.is_empty() {
            match from.poll_fill(context, BODY_READ) {
                Poll::Ready(Ok(0)) => *way = Way::Ending,
                Poll::Ready(Ok(_)) | Poll::Pending => {}
                Poll::Ready(Err(e)) => return Err(e),
            }
        }
        if !from.input.is_empty() && to.output.is_empty() {
            to.output = from.input.split();
        }
    }
    match to.poll_flush(context) {
        Poll::Ready(Ok(())) if *way == Way::Ending => match to.poll_end(context) {
            Poll::Ready(Ok(())) => *way = Way::Ended,
            Poll::Ready(Err(e)) => return Err(e),
            Poll::Pending => {}
        },
        Poll::Ready(Ok(())) | Poll::Pending => {}
        Poll::Ready(Err(e)) => return Err(e),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn bytes_pass_both_ways_and_an_end_is_passed_on() {
        let ((near, mut client), (there, mut service)) = (duplex(16), duplex(16));
        let tunnel = tokio::spawn(async move {
            let (mut near, mut there) = (Conn::new(Box::new(near)), Conn::new(Box::new(there)));
            // Read before the tunnel began.
            near.input.extend_from_slice(b"early ");
            tunnel(&mut near, &mut there, Duration::from_secs(60), &mut Timer::default()).await
        });
        let sent = "question ".repeat(100);
        let (text, read) = tokio::join!(
            async {
                client.write_all(sent.as_bytes()).await.unwrap();
                client.shutdown().await.unwrap();
                let mut text = String::new();
                client.read_to_string(&mut text).await.unwrap();
                text
            },
            async {
                let mut read = String::new();
                service.read_to_string(&mut read).await.unwrap();
                service.write_all(b"answer after the end").await.unwrap();
                service.shutdown().await.unwrap();
                read
            }
        );
        assert_eq!((text.as_str(), read), ("answer after the end", format!("early {sent}")));
        tunnel.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_while_either_side_speaks_and_ends_when_both_are_silent() {
        const IDLE: Duration = Duration::from_secs(60);
        let ((near, mut client), (there, mut service)) = (duplex(16), duplex(16));
        let begun = Instant::now();
        let tunnel = tokio::spawn(async move {
            let (mut near, mut there) = (Conn::new(Box::new(near)), Conn::new(Box::new(there)));
            tunnel(&mut near, &mut there, IDLE, &mut Timer::default()).await
        });
        for _ in 0..5 {
            tokio::time::sleep(IDLE * 3 / 4).await;
            client.write_all(b"x").await.unwrap();
            service.read_u8().await.unwrap();
        }
        assert_eq!(tunnel.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), (IDLE * 3 / 4 * 5 + IDLE).as_secs());
    }
}
