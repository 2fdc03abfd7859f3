use crate::app::TestApp;

#[tokio::test]
async fn health_and_page() {
    let app = TestApp::start().await;
    assert_eq!(app.get("/healthz").await.text().await, "ok\n");
    assert_eq!(app.get("/readyz").await.text().await, "ready\n");
    for path in ["/", "/jobs/ftjob-1", "/anything"] {
        let answer = app.get(path).await;
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
