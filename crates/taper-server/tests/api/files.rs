use axum::{
    body::Body,
    http::{Request, header},
};

use crate::app::{JOBS, PURPOSE, ROWS, TestApp, form_request, get, text};

#[tokio::test]
async fn a_file_comes_in_is_found_and_goes() {
    let app = TestApp::start().await;
    let named = ("name=\"file\"; filename=\"../../é rows.jsonl\"", ROWS);
    // OpenAI's Python client sends the purpose first, its JavaScript client last.
    let first = app.post_form(&[PURPOSE, named]).await.json().await;
    let second = app.post_form(&[named, PURPOSE]).await.json().await;
    assert_eq!(first["filename"], "é rows.jsonl");
    assert_eq!(first["bytes"], ROWS.len());
    assert_eq!(first["object"], "file");
    assert_eq!(
        (&first["status"], &first["purpose"]),
        (&"processed".into(), &"fine-tune".into())
    );
    assert_eq!(first["sha256"], second["sha256"]);

    let id = text(&first["id"]);
    let found = app.get(&format!("/v1/files/{id}")).await.json().await;
    assert_eq!(found, first);
    let content = app.get(&format!("/v1/files/{id}/content")).await;
    assert_eq!(content.header("content-length"), ROWS.len().to_string());
    assert_eq!(
        content.header("etag"),
        format!("\"{}\"", text(&first["sha256"]))
    );
    assert_eq!(
        content.header("content-disposition"),
        "attachment; filename=\"_ rows.jsonl\"; filename*=UTF-8''%C3%A9%20rows.jsonl"
    );
    assert_eq!(content.text().await, ROWS);

    let gone = app.delete(&format!("/v1/files/{id}")).await.json().await;
    assert_eq!(
        gone,
        serde_json::json!({"id": id, "object": "file", "deleted": true})
    );
    for answer in [
        app.get(&format!("/v1/files/{id}")).await,
        app.get(&format!("/v1/files/{id}/content")).await,
        app.delete(&format!("/v1/files/{id}")).await,
    ] {
        let (status, param, message) = answer.error().await;
        assert_eq!((status, param.as_str()), (404, "id"));
        assert_eq!(
            message,
            format!("no such file: '{id}'; GET /v1/files lists what there is")
        );
    }
    assert_eq!(app.uploads(), [text(&second["id"])]);
}

#[tokio::test]
async fn lists_go_on_where_they_stopped() {
    let app = TestApp::start().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(app.upload(ROWS).await);
    }
    let file = ("name=\"file\"; filename=\"x\"", "x");
    let other = app.post_form(&[("name=\"purpose\"", "batch"), file]).await;
    assert_eq!(other.json().await["purpose"], "batch");
    for order in ["asc", "desc"] {
        let mut seen = Vec::new();
        let mut query = format!("?purpose=fine-tune&limit=2&order={order}");
        loop {
            let page = app.get(&format!("/v1/files{query}")).await.json().await;
            let data = page["data"].as_array().unwrap();
            seen.extend(data.iter().map(|file| text(&file["id"])));
            assert_eq!(page["first_id"], data[0]["id"]);
            let last = text(&page["last_id"]);
            query = format!("?purpose=fine-tune&limit=2&order={order}&after={last}");
            if page["has_more"] == false {
                break;
            }
        }
        assert_eq!(seen, ids);
        ids.reverse();
    }
    let empty = app.get("/v1/files?purpose=vision").await.json().await;
    assert_eq!(empty["first_id"], serde_json::Value::Null);
}

#[tokio::test]
async fn parts_of_a_file() {
    let app = TestApp::start().await;
    let id = app.upload("0123456789").await;
    let path = format!("/v1/files/{id}/content");
    let etag = app.get(&path).await.header("etag").to_owned();
    let ask = async |headers: &[(&str, &str)]| {
        let mut request = get(&path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        app.send(request.body(Body::empty()).unwrap()).await
    };
    let part = ask(&[("range", "bytes=2-4")]).await;
    assert_eq!(
        (part.status.as_u16(), part.header("content-range")),
        (206, "bytes 2-4/10")
    );
    assert_eq!(
        (part.header("content-length"), part.header("etag")),
        ("3", etag.as_str())
    );
    assert_eq!(part.text().await, "234");
    for (headers, status, body) in [
        (vec![("range", "bytes=-3")], 206, "789"),
        (vec![("range", "bytes=7-")], 206, "789"),
        (vec![("range", "bytes=7-99")], 206, "789"),
        (vec![("range", "bytes=0-1,3-4")], 200, "0123456789"),
        (vec![("range", "lines=1-2")], 200, "0123456789"),
        (vec![("range", "bytes=0-1"), ("if-range", &etag)], 206, "01"),
        (
            vec![("range", "bytes=0-1"), ("if-range", "\"other\"")],
            200,
            "0123456789",
        ),
        (vec![("if-none-match", &etag)], 304, ""),
        (vec![("if-none-match", "*")], 304, ""),
        (
            vec![("if-none-match", "\"other\""), ("range", "bytes=9-9")],
            206,
            "9",
        ),
    ] {
        let answer = ask(&headers).await;
        assert_eq!(answer.status.as_u16(), status, "{headers:?}");
        assert_eq!(answer.text().await, body, "{headers:?}");
    }
    for range in ["bytes=-0", "bytes=10-", "bytes=5-2", "bytes=x"] {
        let answer = ask(&[("range", range)]).await;
        assert_eq!(answer.header("content-range"), "bytes */10");
        assert_eq!(answer.error().await.0, 416, "{range}");
    }
    let head = Request::head(&path).body(Body::empty()).unwrap();
    let head = app.send(head).await;
    assert_eq!(
        (head.status.as_u16(), head.header("content-length")),
        (200, "10")
    );
    assert_eq!(head.text().await, "");
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn a_refused_upload_leaves_nothing() {
    let app = TestApp::start_with(|config| config.upload_limit = 1000).await;
    let file = ("name=\"file\"; filename=\"a.jsonl\"", ROWS);
    let long = "x".repeat(1001);
    let expires = ("name=\"expires_after[anchor]\"", "created_at");
    for (parts, status, param, message) in [
        (
            vec![PURPOSE],
            400,
            "file",
            "missing required parameter: 'file'",
        ),
        (
            vec![file],
            400,
            "purpose",
            "missing required parameter: 'purpose'",
        ),
        (vec![], 400, "purpose", "missing required parameter"),
        (
            vec![PURPOSE, ("name=\"file\"; filename=\"a\"", "")],
            400,
            "file",
            "'file' is empty",
        ),
        (
            vec![PURPOSE, ("name=\"file\"", "x")],
            400,
            "file",
            "must be a file with a name",
        ),
        (
            vec![file, ("name=\"purpose\"", "fine_tune")],
            400,
            "purpose",
            "not 'fine_tune'",
        ),
        (
            vec![file, ("name=\"purpose\"", "fine-tune-results")],
            400,
            "purpose",
            "must be one of",
        ),
        (
            vec![file, ("name=\"purpose\"", &long)],
            400,
            "purpose",
            "must be one of",
        ),
        (vec![file, PURPOSE, file], 400, "file", "only once"),
        (vec![PURPOSE, PURPOSE, file], 400, "purpose", "only once"),
        (
            vec![file, PURPOSE, expires],
            400,
            "expires_after[seconds]",
            "given with the anchor",
        ),
        (
            vec![
                file,
                PURPOSE,
                expires,
                ("name=\"expires_after[seconds]\"", "1"),
            ],
            400,
            "expires_after[seconds]",
            "3600 to 2592000",
        ),
        (
            vec![file, ("name=\"porpoise\"", "x")],
            400,
            "porpoise",
            "known here: purpose, file",
        ),
        (
            vec![PURPOSE, ("name=\"file\"; filename=\"a\"", &long)],
            413,
            "file",
            "1000 bytes",
        ),
    ] {
        let answer = app.post_form(&parts).await.error().await;
        assert_eq!((answer.0, answer.1.as_str()), (status, param), "{parts:?}");
        assert!(answer.2.contains(message), "{}", answer.2);
    }
    let cut = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nhalf";
    let answer = app.send(form_request(cut)).await.error().await;
    assert_eq!((answer.0, answer.1.as_str()), (400, "-"));
    let huge = app
        .send(form_request(vec![0_u8; 2 << 20]))
        .await
        .error()
        .await;
    assert_eq!((huge.0, huge.1.as_str()), (413, "file"));
    for (content_type, status) in [("text/plain", 415), ("multipart/form-data", 400)] {
        let request = Request::post("/v1/files").header(header::CONTENT_TYPE, content_type);
        let answer = app.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.error().await.0, status);
    }
    assert_eq!(app.uploads(), Vec::<String>::new());
    assert_eq!(
        app.get("/v1/files").await.json().await["data"],
        serde_json::json!([])
    );
}

#[tokio::test]
async fn a_file_in_use_stays() {
    let app = TestApp::start().await;
    let job = app
        .submit(serde_json::json!({"metadata": {"script": "wait"}}))
        .await;
    let path = format!("{JOBS}/{job}");
    let file = text(&app.get(&path).await.json().await["training_file"]);
    let (status, _, message) = app.delete(&format!("/v1/files/{file}")).await.error().await;
    assert_eq!(status, 400);
    assert!(message.contains(&job), "{message}");
    app.post(&format!("{path}/cancel")).await.json().await;
    app.wait(&job).await;
    let gone = app.delete(&format!("/v1/files/{file}")).await.json().await;
    assert_eq!(gone["deleted"], true);
}
