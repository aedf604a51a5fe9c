//! How long a connection may idle, and a head, a body and an answer may take.

use hyper_util::rt::TokioIo;

use super::*;

/// Says each piece of a request again, as it comes.
async fn echo(request: Request<ReceivedBody>) -> Result<Response<ReceivedBody>, Infallible> {
    Ok(Response::new(request.into_body()))
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_the_idle_timeout() {
    let limits = ServerLimits::default();
    let idle_timeout = limits.idle_timeout;
    with_server(limits, async |server| {
        let mut stream = server.connect().await;
        get(&mut stream, "/one").await;
        assert_eq!(read_to_close(&mut stream).await, (String::new(), idle_timeout));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_is_cut_off() {
    let limits = ServerLimits::default();
    let header_timeout = limits.header_timeout;
    with_server(limits, async |server| {
        let mut stream = server.connect().await;
        get(&mut stream, "/one").await;
        send(&mut stream, "GET /tw").await;
        let started = Instant::now();
        tokio::time::timeout(header_timeout / 2, stream.read_u8()).await.expect_err("still open");
        // A further byte does not wind the clock up again.
        send(&mut stream, "o").await;
        read_to_close(&mut stream).await;
        assert_eq!(started.elapsed(), header_timeout);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_and_a_slow_body_are_not_slow_heads() {
    with_server(ServerLimits::default(), async |server| {
        let mut stream = server.connect().await;
        assert_eq!(get(&mut stream, "/slow").await, "slow");
        send(&mut stream, "POST /body HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nab").await;
        tokio::time::timeout(HOUR / 2, stream.read_u8()).await.expect_err("still reading the body");
        send(&mut stream, "cd").await;
        assert_eq!(receive(&mut stream).await, "abcd");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_goes_on_beside_its_answer_is_no_slow_head_and_the_next_head_is_one() {
    let limits = ServerLimits::default();
    let header_timeout = limits.header_timeout;
    let script = async |server: Server| {
        let mut stream = server.connect().await;
        send(&mut stream, "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        for _ in 0..5 {
            send(&mut stream, "2\r\nab\r\n").await;
            let mut piece = [0; 7];
            stream.read_exact(&mut piece).await.expect("the piece, said again");
            assert_eq!(&piece, b"2\r\nab\r\n");
            tokio::time::sleep(header_timeout / 2).await;
        }
        send(&mut stream, "0\r\n\r\n").await;
        let mut end = [0; 5];
        stream.read_exact(&mut end).await.unwrap();
        assert_eq!(&end, b"0\r\n\r\n");
        send(&mut stream, "GET /tw").await;
        assert_eq!(read_to_close(&mut stream).await, (String::new(), header_timeout));
    };
    with_service(|_peer| service_fn(echo), limits, script).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_answered_while_it_sends_may_go_on_for_a_while() {
    let script = async |server: Server| {
        // It pauses for too long, or goes on for too long.
        for (pause, times) in [(1, 9), (3, 0)] {
            let mut stream = server.connect().await;
            let head = "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\n";
            send(&mut stream, head).await;
            assert_eq!(receive(&mut stream).await, "no");
            let mut sent = 0;
            loop {
                tokio::time::sleep(Duration::from_secs(pause)).await;
                if stream.write_all(b"more of it").await.is_err() {
                    break;
                }
                sent += 1;
            }
            assert!((times..=times + 1).contains(&sent), "{sent} with pauses of {pause} s");
        }
    };
    with_service(|_peer| service_fn(refuse), ServerLimits::default(), script).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_did_not_wait_for_a_body_says_that_the_connection_closes() {
    let script = async |server: Server| {
        for (request, closes) in [
            ("Content-Length: 2\r\n\r\n", true),
            ("Content-Length: 2\r\n\r\na", true),
            ("Content-Length: 2\r\nExpect: 100-continue\r\n\r\n", true),
            ("Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", true),
            // All of it is there.
            ("Content-Length: 2\r\n\r\nab", false),
            ("Content-Length: 0\r\n\r\n", false),
            ("\r\n", false),
        ] {
            let mut stream = server.connect().await;
            send(&mut stream, &format!("POST / HTTP/1.1\r\nHost: t\r\n{request}")).await;
            let (answer, after) = read_to_close(&mut stream).await;
            assert!(answer.ends_with("\r\n\r\nno"), "{answer}");
            assert_eq!(answer.contains("\r\nconnection: close\r\n"), closes, "{request:?}");
            assert_eq!(after.is_zero(), closes, "{request:?} {after:?}");
        }
    };
    with_service(|_peer| service_fn(refuse), ServerLimits::default(), script).await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_an_upgrade_is_no_rest_of_its_request() {
    let (upgrades, mut upgraded) = mpsc::channel(1);
    let service_for = |_peer: SocketAddr| {
        let upgrades = upgrades.clone();
        service_fn(move |mut request: Request<ReceivedBody>| {
            let upgrades = upgrades.clone();
            async move {
                upgrades.send(hyper::upgrade::on(&mut request)).await.unwrap();
                let answer = Response::builder().status(101).header("connection", "upgrade");
                let answer = answer.header("upgrade", "other").body(Full::<Bytes>::default());
                Ok::<_, Infallible>(answer.unwrap())
            }
        })
    };
    let script = async |server: Server| {
        let mut stream = server.connect().await;
        // Nobody has read its body.
        let head = "POST / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: other\r\nContent-Length: 4\r\n\r\n";
        send(&mut stream, head).await;
        let upgrade = upgraded.recv().await.expect("the request is there");
        let mut tunnel = TokioIo::new(upgrade.await.unwrap());
        let started = Instant::now();
        tunnel.shutdown().await.unwrap();
        assert_eq!(started.elapsed(), Duration::ZERO, "it is not listened to");
        send(&mut stream, "more").await;
        let mut more = [0; 4];
        tunnel.read_exact(&mut more).await.unwrap();
        assert_eq!(&more, b"more");
    };
    with_service(service_for, ServerLimits::default(), script).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_take_its_answer_is_cut_off() {
    let limits = ServerLimits { max_connections: NonZeroUsize::MIN, ..ServerLimits::default() };
    let write_timeout = limits.write_timeout;
    with_server(limits, async |server| {
        let mut deaf = server.connect().await;
        send(&mut deaf, "GET /large HTTP/1.1\r\nHost: t\r\n\r\n").await;
        // There is one place: the next one is served as soon as the first is cut off.
        let started = Instant::now();
        let mut next = server.connect().await;
        assert_eq!(get(&mut next, "/next").await, "/next");
        assert_eq!(started.elapsed(), write_timeout);
    })
    .await;
}
