//! HTTP/2 connections, which ALPN chooses.
//!
//! pingora makes requests of streams; what a connection may cost is decided here. Streams at once, the
//! size of a head, buffers and windows are limits of `h2`, which also ends a connection that resets
//! streams faster than they are looked at, or whose head goes on and on in CONTINUATION frames. A request
//! goes on when its stream is reset (a claimed call must), and `h2` then no longer counts it: so
//! requests that are worked on are counted here too, whatever became of their streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::sync::{Notify, Semaphore, watch};

use crate::gateway::Gateway;
use crate::head::HEAD_BYTES_MAX;
use crate::proxy::FrontDoor;

/// Streams open at once on a connection.
const STREAMS_MAX: u32 = 100;
/// Requests of a connection worked on at once: as many again may have been reset, or be about to end.
const WORKED_ON_MAX: usize = 200;
/// Requests refused because so many are worked on, after which the connection ends. Nobody comes here
/// who waits for answers.
const REFUSED_MAX: usize = 100;
/// Largest head that `h2` reads on for, by HTTP/2's own measure, which adds 32 bytes a line; the front
/// door refuses in words what is above [`HEAD_BYTES_MAX`].
const HEADER_LIST_BYTES_MAX: usize = 2 * HEAD_BYTES_MAX;
/// Streams reset before they were looked at, and streams remembered after a reset.
const RESETS_PENDING_MAX: usize = 20;
const RESETS_REMEMBERED_MAX: usize = 50;
/// What a client may send unread: on a stream, and on all of a connection.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;
/// What of an answer is kept for a stream whose client does not read.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// How long a client may leave an answer unread.
pub(crate) const WRITE_TIME: Duration = Duration::from_secs(30);

/// Serves one connection to its end.
pub(crate) async fn serve(
    proxy: &Arc<HttpProxy<FrontDoor>>,
    gateway: &Arc<Gateway>,
    stream: Stream,
    shutdown: &ShutdownWatch,
) {
    let _connected = gateway.http2_connections.begin();
    let idle = gateway.config.idle_time;
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(idle);
    let connection = Arc::new(Connection {
        proxy: Arc::clone(proxy),
        gateway: Arc::clone(gateway),
        options,
        room: Semaphore::new(WORKED_ON_MAX),
        refused: AtomicUsize::new(0),
        ends: Notify::new(),
        has_spoken: AtomicBool::new(false),
        first_word: Notify::new(),
    });
    let (stop, stopping) = watch::channel(false);
    // What was begun goes on in tasks of its own.
    tokio::select! {
        _ = connection.process_new(stream, &stopping) => {}
        () = connection.ends.notified() => {}
        () = connection.says_nothing(idle) => {}
        () = connection.says_goodbye(shutdown.clone(), &stop) => {}
    }
}

/// A connection as pingora's application: it is asked for its limits and given its requests.
struct Connection {
    proxy: Arc<HttpProxy<FrontDoor>>,
    gateway: Arc<Gateway>,
    options: HttpServerOptions,
    room: Semaphore,
    refused: AtomicUsize,
    ends: Notify,
    has_spoken: AtomicBool,
    /// Comes with the first request.
    first_word: Notify,
}

impl Connection {
    /// Comes when no request came in time; pingora's own time of being idle begins after HTTP/2's
    /// preface only, for which it waits without end.
    async fn says_nothing(&self, time: Duration) {
        tokio::time::sleep(time).await;
        if self.has_spoken.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    /// Says goodbye when the process is stopping, but not before somebody who has just come has said her first word.
    /// Never comes itself: the connection ends by the goodbye.
    async fn says_goodbye(&self, mut shutdown: ShutdownWatch, stop: &watch::Sender<bool>) {
        // An error says that whoever would tell is gone, too.
        let _ = shutdown.wait_for(|stopping| *stopping).await;
        if !self.has_spoken.load(Ordering::Relaxed) {
            let time = self.gateway.first_word_time();
            let _ = tokio::time::timeout(time, self.first_word.notified()).await;
        }
        let _ = stop.send(true);
        std::future::pending::<()>().await;
    }

    fn refuse(&self, session: &mut ServerSession) {
        self.gateway.metrics.streams_refused.increment(1);
        if let ServerSession::H2(session) = session {
            // Says that nothing was done, so that it may be asked again.
            session.shutdown_with_reason(h2::Reason::REFUSED_STREAM);
        }
        if self.refused.fetch_add(1, Ordering::Relaxed) + 1 >= REFUSED_MAX {
            self.ends.notify_one();
        }
    }
}

#[async_trait]
impl HttpServerApp for Connection {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !self.has_spoken.swap(true, Ordering::Relaxed) {
            self.first_word.notify_one();
        }
        let Ok(_place) = self.room.try_acquire() else {
            self.refuse(&mut session);
            return None;
        };
        let Some(_underway) = self.gateway.underway.enter() else {
            self.refuse(&mut session);
            return None;
        };
        session.set_write_timeout(Some(WRITE_TIME));
        self.proxy.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = H2Options::default();
        let header_list = u32::try_from(HEADER_LIST_BYTES_MAX).unwrap_or(u32::MAX);
        options
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(header_list)
            .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
            .max_concurrent_reset_streams(RESETS_REMEMBERED_MAX)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES);
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}
