use super::*;
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn redis_is_believed_while_somebody_says_that_everything_was_told() {
    let hearing = Hearing::default();
    let start = hearing.started;
    hearing.open();
    assert_eq!(hearing.told_until(start + SECOND), None, "nobody said so");
    assert_eq!(hearing.told_age(start + 7 * SECOND), 7 * SECOND);
    hearing.told(SECOND, start + 10 * SECOND);
    let told = start + 9 * SECOND;
    assert_eq!(hearing.told_age(start + 10 * SECOND), SECOND);
    assert_eq!(hearing.told_until(start + 10 * SECOND), Some(told));
    hearing.told(5 * SECOND, start + 11 * SECOND);
    assert_eq!(
        hearing.told_until(start + 11 * SECOND),
        Some(told),
        "an older word changes nothing"
    );
    assert_eq!(
        hearing.told_until(told + TOLD_AGE_MAX),
        None,
        "publishing stopped"
    );
    assert_eq!(hearing.told_age(told + TOLD_AGE_MAX), TOLD_AGE_MAX);
    hearing.told(Duration::ZERO, start + 20 * SECOND);
    assert!(hearing.told_until(start + 20 * SECOND).is_some());
    hearing.close();
    assert_eq!(hearing.told_until(start + 20 * SECOND), None);
    hearing.open();
    assert_eq!(
        hearing.told_until(start + 20 * SECOND),
        None,
        "the channel was closed meanwhile"
    );
}

#[test]
fn a_word_from_before_the_start_says_nothing() {
    let hearing = Hearing::default();
    hearing.open();
    hearing.told(50 * SECOND, hearing.started + SECOND);
    assert_eq!(hearing.told_until(hearing.started + SECOND), None);
}

#[test]
fn a_clock_that_is_ahead_makes_what_was_told_old_and_one_that_is_behind_does_not() {
    let hearing = Hearing::default();
    let now = hearing.started + 60 * SECOND;
    hearing.open();
    // Told this moment, by a clock four seconds behind this one.
    hearing.told(4 * SECOND, now);
    assert_eq!(hearing.told_age(now), 4 * SECOND);
    assert_eq!(hearing.told_until(now), None);
    assert!((seconds(5_000, 1_000) - 4.0).abs() < f64::EPSILON);
    // By one that is ahead of this one it is told now.
    hearing.told(Duration::ZERO, now);
    assert_eq!(hearing.told_age(now), Duration::ZERO);
    assert!((seconds(1_000, 5_000) + 4.0).abs() < f64::EPSILON);
}

/// What a stand-in for Redis says on one of its connections besides answering what it is asked.
#[derive(Clone, Copy, Debug)]
enum Node {
    /// Nothing, ever: cut off from those who publish.
    CutOff,
    /// That everything was told, so often.
    Telling(Duration),
    /// Nothing, but a number that was sealed so many milliseconds from now to whoever reads [`NAME`].
    Holding(i64),
}

const NAME: &str = "crochet:number";

/// Stands in for Redis: each of its connections that subscribes is told of here, and is of the next kind.
async fn nodes(kinds: Vec<Node>) -> (SocketAddr, mpsc::UnboundedReceiver<Instant>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, subscribed) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for kind in kinds {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, kind, tell.clone()));
        }
    });
    (address, subscribed)
}

async fn serve(stream: TcpStream, node: Node, tell: mpsc::UnboundedSender<Instant>) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut subscribed = false;
    let mut told = tokio::time::interval(match node {
        Node::Telling(every) => every,
        Node::CutOff | Node::Holding(_) => Duration::from_hours(1),
    });
    loop {
        let answer = tokio::select! {
            command = command(&mut read) => match command.as_deref() {
                None => return,
                Some("SUBSCRIBE") => {
                    subscribed = true;
                    let _ = tell.send(Instant::now());
                    let name = String::from_utf8_lossy(CHANGES_CHANNEL.as_bytes()).into_owned();
                    format!("*3\r\n$9\r\nsubscribe\r\n${}\r\n{name}\r\n:1\r\n", name.len()).into_bytes()
                }
                Some("GET") if let Node::Holding(from_now) = node => {
                    let at = clock::now().timestamp_millis() + from_now;
                    bulk(&redis_key::seal(&keys(), NAME, 1, &7_u32, at).unwrap())
                }
                Some("PING") => b"*2\r\n$4\r\npong\r\n$0\r\n\r\n".to_vec(),
                Some(_) => b"+OK\r\n".to_vec(),
            },
            _ = told.tick(), if subscribed && matches!(node, Node::Telling(_)) => word(),
        };
        if write.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// The name of the next command.
async fn command(read: &mut BufReader<tokio::net::tcp::OwnedReadHalf>) -> Option<String> {
    let mut line = String::new();
    read.read_line(&mut line).await.ok()?;
    let parts: usize = line.trim().strip_prefix('*')?.parse().ok()?;
    let mut name = None;
    for _ in 0..parts {
        line.clear();
        read.read_line(&mut line).await.ok()?;
        let bytes: usize = line.trim().strip_prefix('$')?.parse().ok()?;
        let mut part = vec![0; bytes + 2];
        read.read_exact(&mut part).await.ok()?;
        part.truncate(bytes);
        name.get_or_insert(String::from_utf8(part).ok()?);
    }
    name.map(|name| name.to_ascii_uppercase())
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    let head = format!("${}\r\n", bytes.len());
    [head.as_bytes(), bytes, b"\r\n"].concat()
}

/// What every gateway of these tests seals with.
fn keys() -> crochet_shared::seal::Keyring {
    let gateway = gateway(SocketAddr::from(([127, 0, 0, 1], 1)));
    gateway.redis.keys().clone()
}

/// The message that everything was told until now.
fn word() -> Vec<u8> {
    let keys = keys();
    let now_ms = clock::now().timestamp_millis();
    let told = Change::Told(now_ms);
    let sealed = redis_key::seal(&keys, CHANGES_CHANNEL, 0, &told, now_ms).unwrap();
    let head = b"*3\r\n$7\r\nmessage\r\n";
    [head, &bulk(CHANGES_CHANNEL.as_bytes())[..], &bulk(&sealed)].concat()
}

fn gateway(redis: SocketAddr) -> Arc<Gateway> {
    Gateway::for_test(&[("--redis-url", &format!("redis://{redis}"))])
}

/// Long enough that only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_node_that_answers_and_tells_nothing_is_left_for_another() {
    let every = Duration::from_millis(500);
    let (address, mut subscribed) = nodes(vec![Node::CutOff, Node::Telling(every)]).await;
    let gateway = gateway(address);
    let listening = tokio::spawn(listen(Arc::clone(&gateway)));
    let mut next = async || {
        let next = tokio::time::timeout(PATIENCE, subscribed.recv()).await;
        next.expect("it subscribes").expect("the stand-in lives")
    };
    let (first, second) = (next().await, next().await);
    assert!(second - first >= UNTOLD_TIME, "{:?}", second - first);
    // Told now, and so believed again.
    let told = async {
        while gateway.hearing.told_until(Instant::now()).is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told)
        .await
        .expect("it is told");
    let again = tokio::time::timeout(UNTOLD_TIME + PING_EVERY, subscribed.recv()).await;
    assert!(again.is_err(), "whoever is told stays where it is");
    listening.abort();
}

#[tokio::test]
async fn a_record_from_before_the_channel_opened_is_not_believed() {
    // As old as no age bound would refuse, and as young as one may be that was read after the opening.
    for (from_now, believed) in [(-10_000, None), (1_000, Some(7))] {
        let (address, _subscribed) = nodes(vec![Node::Holding(from_now)]).await;
        let gateway = gateway(address);
        gateway.hearing.open();
        gateway.redis.start().unwrap();
        // The connection is made meanwhile, and what does not answer at once is left alone for a moment.
        let read = async {
            loop {
                let is_read = gateway.redis.read::<u32>(NAME).await.is_some();
                let record = crate::cache::from_redis::<u32>(&gateway, NAME).await;
                if is_read && record == believed {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, read)
            .await
            .unwrap_or_else(|_| panic!("sealed {from_now} ms from now"));
    }
}
