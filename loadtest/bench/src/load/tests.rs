//! The load generator against servers that do as they are told.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A server that answers each request on a connection with the next of `answers`, the first 20 bytes of the
/// request being one request.
async fn server(answers: &'static [&'static [u8]]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut answers = answers.iter().cycle();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 20];
            while stream.read_exact(&mut request).await.is_ok() {
                let answer = answers.next().unwrap();
                stream.write_all(answer).await.unwrap();
                if answer.is_empty() {
                    break;
                }
            }
        }
    });
    address
}

fn job(address: SocketAddr, expect: &Expect, count: usize) -> Job {
    let exchange = Exchange {
        request: Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n.."),
        expect: expect.clone(),
    };
    Job {
        address,
        connections: 1,
        warm_up: Vec::new(),
        measured: vec![exchange; count],
        pace: None,
        beside: None,
        anew: false,
        watched: Vec::new(),
    }
}

fn exactly(body: &'static [u8]) -> Expect {
    Expect::Exactly {
        status: 200,
        body: Bytes::from_static(body),
        replayed: false,
    }
}

#[tokio::test]
async fn every_answer_is_compared() {
    let address = server(&[
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nIdempotent-Replayed: true\r\nContent-Length: 2\r\n\r\nok",
    ])
    .await;
    let outcome = run(job(address, &exactly(b"ok"), 4)).await.unwrap();
    assert_eq!(outcome.right, 1);
    assert_eq!(outcome.wrong.count, 3);
    assert_eq!(outcome.latencies_us.len(), 1);
    assert!(outcome.wrong.shown[0].contains("500"), "{outcome:?}");
}

#[tokio::test]
async fn a_lost_connection_is_a_wrong_answer_and_the_next_request_gets_another() {
    let address = server(&[b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]).await;
    let outcome = run(job(address, &exactly(b"ok"), 2)).await.unwrap();
    assert_eq!((outcome.right, outcome.wrong.count), (1, 1));
}

#[tokio::test]
async fn anew_every_request_has_a_connection_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (count, mut counted) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.send(()).unwrap();
            tokio::spawn(async move {
                while stream.read_exact(&mut [0; 20]).await.is_ok() {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    stream.write_all(answer).await.unwrap();
                }
            });
        }
    });
    let mut job = job(address, &exactly(b"ok"), 5);
    job.anew = true;
    let outcome = run(job).await.unwrap();
    assert_eq!((outcome.right, outcome.wrong.count), (5, 0));
    // And the one that the warm-up would have used.
    let mut connections = 0;
    while counted.try_recv().is_ok() {
        connections += 1;
    }
    assert_eq!(connections, 6);
}

#[tokio::test]
async fn at_a_fixed_rate_a_wait_for_the_connection_is_in_the_latency() {
    // One connection, and a server that takes 20 ms: the second request is due long before it can be sent.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 20];
        while stream.read_exact(&mut request).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
        }
    });
    let mut job = job(address, &exactly(b"ok"), 5);
    job.pace = Some(1_000.0);
    let outcome = run(job).await.unwrap();
    assert_eq!((outcome.right, outcome.wrong.count), (5, 0));
    // Due 4 ms after the first, answered 100 ms after it.
    assert!(outcome.latencies_us[4] >= 90_000, "{outcome:?}");
    assert!(outcome.latencies_us[0] >= 20_000);
}

#[tokio::test]
async fn a_held_connection_that_was_not_kept_is_wrong() {
    // Two connections at once; the second is closed after its first answer.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for requests in [2, 1, 0] {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                for _ in 0..requests {
                    stream.read_exact(&mut [0; 20]).await.unwrap();
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    stream.write_all(answer).await.unwrap();
                }
            });
        }
    });
    let exchanges = job(address, &exactly(b"ok"), 1).measured;
    let (seen, wrong) = hold(address, exchanges, 2, || Ok(7)).await.unwrap();
    assert_eq!((seen, wrong.count), (7, 1), "{wrong:?}");
}

#[tokio::test]
async fn what_is_kept_keeps_its_place() {
    let address = server(&[
        b"HTTP/1.1 402 Pay\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb",
    ])
    .await;
    let outcome = run(job(address, &Expect::Anything, 2)).await.unwrap();
    let kept: Vec<_> = outcome.kept.into_iter().flatten().collect();
    assert_eq!((kept[0].status, &kept[0].body[..]), (402, &b"a"[..]));
    assert_eq!((kept[1].status, &kept[1].body[..]), (200, &b"b"[..]));
}
