use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};

use crate::app::{JOBS, TestApp};

#[tokio::test]
async fn health_and_page() {
    let app = TestApp::start().await;
    assert_eq!(app.get("/healthz").await.text().await, "ok\n");
    assert_eq!(app.get("/readyz").await.text().await, "ready\n");
    for path in ["/", "/jobs/ftjob-1", "/experiments", "/compare?jobs=a,b"] {
        let answer = app.browse(path).await;
        assert_eq!(answer.status.as_u16(), 200, "{path}");
        assert!(
            answer.header("content-type").starts_with("text/html"),
            "{path}"
        );
    }
    let description = app.get("/openapi.json").await.json().await;
    assert_eq!(description["info"]["title"], "taper");
    app.store.close().await.unwrap();
    let (status, _, _) = app.get("/readyz").await.error().await;
    assert_eq!(status, 503);
}

/// Through a real socket: what is under way ends, streams included, and the server with it.
#[tokio::test]
async fn a_server_ends_when_it_is_told() {
    let app = TestApp::start().await;
    let job = app.submit(json!({"metadata": {"script": "wait"}})).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = oneshot::channel::<()>();
    let shutdown = async { drop(told.await) };
    let server = tokio::spawn(taper_server::serve(listener, app.state.clone(), shutdown));

    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {JOBS}/{job}/events/stream HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut received = String::new();
    while !received.contains("\"running\"") {
        let mut piece = [0; 4096];
        let bytes = stream.read(&mut piece).await.unwrap();
        assert!(bytes > 0, "{received}");
        received += std::str::from_utf8(&piece[..bytes]).unwrap();
    }
    assert!(received.starts_with("HTTP/1.1 200 OK\r\n"), "{received}");
    tell.send(()).unwrap();
    let soon = Duration::from_secs(5);
    timeout(soon, server).await.unwrap().unwrap();
    let mut rest = Vec::new();
    timeout(soon, stream.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "the stream broke off");
    assert_eq!(app.get("/readyz").await.error().await.0, 503);
}

#[tokio::test]
async fn the_description_can_be_read_without_a_network() {
    let app = TestApp::start().await;
    assert_eq!(app.get("/docs").await.header("location"), "/docs/");
    let page = app.get("/docs/").await;
    assert_eq!(page.header("content-type"), "text/html");
    let page = page.text().await;
    let named: Vec<_> = page
        .split(['"', '\''])
        .filter(|text| text.ends_with(".js") || text.ends_with(".css"))
        .collect();
    assert!(named.len() >= 3, "{page}");
    for name in named {
        assert!(!name.contains("//"), "{name} comes from elsewhere");
        let asset = app
            .get(&format!("/docs/{}", name.trim_start_matches("./")))
            .await;
        assert_eq!(asset.status, 200, "{name}");
    }
    let start = app.get("/docs/swagger-initializer.js").await.text().await;
    assert!(start.contains("/openapi.json"), "{start}");
}
