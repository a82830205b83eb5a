//! What is passed on to a control plane that closes a kept connection at the same moment.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crochet_dev::Role;
use demo_agent::{Answer, Api, Method};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::harness::{Gate, World, trials, until};

trials!(what_changes_nothing_is_asked_again_when_a_kept_connection_was_closed);

async fn what_changes_nothing_is_asked_again_when_a_kept_connection_was_closed() {
    let mut world = World::own("passing", |options| options).await;
    let plane = Plane::start().await;
    let gateway = Role::Gateway(1);
    world.stack.tell(gateway, "CONTROL_PLANE_URL", &plane.url);
    world.stack.restart(gateway).await.unwrap();
    let api = world.door.apis[1].clone();

    for (method, end) in [
        (Method::GET, End::Close),
        (Method::GET, End::Reset),
        (Method::HEAD, End::Reset),
    ] {
        keep_two(&api, &plane).await;
        let before = plane.seen();
        plane.next(end.clone());
        let answer = api.send(method, PATH, None, &[], None).await.unwrap();
        assert_eq!(answer.status, 200, "after {end:?}: {answer}");
        let after = plane.seen();
        let [(kept, _), (fresh, _)] = &after[before.len()..] else {
            panic!("asked {:?}", &after[before.len()..]);
        };
        // Not on another that was kept, which may be as dead.
        assert!(before.iter().any(|(connection, _)| connection == kept));
        assert!(before.iter().all(|(connection, _)| connection < fresh));
    }

    // What may change something is not sent twice.
    keep_two(&api, &plane).await;
    let before = plane.seen().len();
    plane.next(End::Reset);
    let answer = api.post(PATH, None, &serde_json::json!({})).await.unwrap();
    assert_eq!(answer.code().as_deref(), Some("SERVICE_UNAVAILABLE"));
    assert_eq!(plane.seen().len(), before + 1);
    // The client was told that its connection ends with that: its next request comes to one that is open.
    assert_eq!(get(&api).await.status, 200);
    let before = plane.seen().len() - 1;
    // When a connection of its own is closed too, that is said, not asked for ever.
    plane.next(End::Reset);
    plane.next(End::Reset);
    assert_eq!(get(&api).await.status, 503);
    assert_eq!(plane.seen().len(), before + 3);
    // Also when the first was its own: a balancer knows of a control plane's end a moment later.
    world.stack.restart(gateway).await.unwrap();
    plane.next(End::Reset);
    assert_eq!(get(&api).await.status, 200);
    world.close().await;
}

const PATH: &str = "/categories";

fn get(api: &Api) -> impl Future<Output = Answer> + Send + 'static {
    let api = api.clone();
    async move { api.get(PATH, None).await.unwrap() }
}

/// Two requests at once, so that at least two connections are kept.
async fn keep_two(api: &Api, plane: &Plane) {
    let (gate, before) = (Gate::shut(), plane.seen().len());
    for _ in 0..2 {
        plane.next(End::Keep(gate.clone()));
    }
    let both = [get(api), get(api)].map(tokio::spawn);
    until("both have arrived", || async {
        (plane.seen().len() == before + 2).then_some(())
    })
    .await;
    gate.open();
    for answer in both {
        assert_eq!(answer.await.unwrap().status, 200);
    }
}

/// What becomes of a request and its connection.
#[derive(Clone, Debug)]
enum End {
    /// It is answered, after the gate.
    Keep(Gate),
    /// The connection is closed instead of an answer.
    Close,
    /// The connection is reset instead of an answer.
    Reset,
}

/// Which connection a request came on, by number, and its method.
type Seen = (usize, String);

#[derive(Debug, Default)]
struct Script {
    next: Mutex<VecDeque<End>>,
    seen: Mutex<Vec<Seen>>,
}

/// Something in the control plane's place.
struct Plane {
    url: String,
    script: Arc<Script>,
    task: JoinHandle<()>,
}

impl Plane {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Script::default());
        let task = tokio::spawn({
            let script = Arc::clone(&script);
            async move {
                let mut connections = JoinSet::new();
                for number in 0.. {
                    let (stream, _) = listener.accept().await.unwrap();
                    connections.spawn(serve(stream, number, Arc::clone(&script)));
                }
            }
        });
        Self { url, script, task }
    }

    fn next(&self, end: End) {
        self.script.next.lock().unwrap().push_back(end);
    }

    fn seen(&self) -> Vec<Seen> {
        self.script.seen.lock().unwrap().clone()
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, number: usize, script: Arc<Script>) {
    let mut read = Vec::new();
    loop {
        // A body, which only the POST has, ends with the object's bracket.
        while !(read.ends_with(b"\r\n\r\n") && !read.starts_with(b"POST") || read.ends_with(b"}")) {
            match stream.read_buf(&mut read).await {
                Ok(bytes) if bytes > 0 => {}
                _ => return,
            }
        }
        let text = String::from_utf8_lossy(&read);
        let method = text.split(' ').next().unwrap_or_default().to_owned();
        let has_body = method != "HEAD";
        script.seen.lock().unwrap().push((number, method));
        read.clear();
        let next = script.next.lock().unwrap().pop_front();
        match next {
            Some(End::Close) => return,
            Some(End::Reset) => {
                let now = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                return now.unwrap();
            }
            Some(End::Keep(gate)) => gate.wait().await,
            None => {}
        }
        let body = if has_body { "{}" } else { "" };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}
