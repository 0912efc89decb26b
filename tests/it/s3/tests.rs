//! What the other tests rely on: the server keeps its word, the proxy fails as it is told, keys expire.

use super::{CredentialServer, Proxy, Server, elements, request, target};
use crate::support::{files_below, temp_folder};
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

const NOTHING: &[(&str, &str)] = &[];
const IF_NEW: &[(&str, &str)] = &[("If-None-Match", "*")];

/// What the tests of the program rely on: conditions hold, also for writers at the same moment, and what was written is there.
#[test]
fn the_server_keeps_its_word() {
    let server = Server::shared();
    let bucket = server.new_bucket();
    let path = target(&bucket, "a/key");
    let put = |headers: &[(&str, &str)], content: &[u8]| {
        server.request("PUT", &path, headers, content).status
    };

    assert_eq!(put(&[("If-Match", "\"0\"")], b"zero"), 404);
    assert_eq!(put(IF_NEW, b"one"), 200);
    assert_eq!(put(IF_NEW, b"two"), 412);
    assert_eq!(put(&[("If-Match", "\"0\"")], b"two"), 412);
    assert_eq!(server.get(&bucket, "a/key").as_deref(), Some(&b"one"[..]));
    let etag = server.list(&bucket, "a/")[0].2.clone();
    assert_eq!(put(&[("If-Match", etag.as_str())], b"two"), 200);
    assert_eq!(put(&[("If-Match", etag.as_str())], b"three"), 412);
    assert_eq!(server.get(&bucket, "a/key").as_deref(), Some(&b"two"[..]));

    for round in 0..10 {
        let path = target(&bucket, &format!("race/{round}"));
        let winners: usize = std::thread::scope(|scope| {
            let put = || server.request("PUT", &path, IF_NEW, &[0; 10_000]).status;
            let writers: Vec<_> = (0..8).map(|_| scope.spawn(put)).collect();
            let statuses = writers.into_iter().map(|writer| writer.join().unwrap());
            statuses.filter(|status| *status == 200).count()
        });
        assert_eq!(winners, 1);
    }

    // More than one page, and all that a key may need to be written otherwise.
    let odd = "t/period=2024-01-31/<ä> & \"x+y\" 100%.parquet";
    let etag = server.put(&bucket, odd, b"content");
    let listed = server.list(&bucket, "t/period=2024-01-31/<");
    assert_eq!(listed, [(odd.to_owned(), 7, etag)]);
    for number in 0..1001 {
        server.put(&bucket, &format!("many/{number:04}"), b"");
    }
    let many: Vec<String> = server
        .list(&bucket, "many/")
        .into_iter()
        .map(|row| row.0)
        .collect();
    assert_eq!(many.len(), 1001);
    assert!(many.is_sorted());
    server.delete(&bucket, odd);
    assert_eq!(server.get(&bucket, odd), None);

    let (from, to) = (temp_folder(), temp_folder());
    fs::create_dir_all(from.path().join("t/period=2024-01-31")).unwrap();
    fs::write(from.path().join("t/period=2024-01-31/part-0.parquet"), b"1").unwrap();
    fs::write(from.path().join("x"), b"2").unwrap();
    server.upload_tree(from.path(), &bucket, "tree/");
    server.download_tree(&bucket, "tree/", to.path());
    assert_eq!(files_below(to.path()), files_below(from.path()));
    assert_eq!(fs::read(to.path().join("x")).unwrap(), b"2");
}

/// Every fault of the proxy, as a client sees it and as it is in the store.
#[test]
fn the_proxy_fails_as_it_is_told() {
    let server = Server::start(&["bucket"]);
    let proxy = Proxy::start(&server);
    let content = |key: &str| server.get("bucket", key);
    let ask = |method: &str, key: &str, headers: &[(&str, &str)]| {
        let body: &[u8] = if method == "PUT" { b"0123456789" } else { b"" };
        request(
            proxy.script.port,
            method,
            &target("bucket", key),
            headers,
            body,
        )
    };
    let status = |method: &str, key: &str| ask(method, key, NOTHING).map(|reply| reply.status).ok();

    assert!(proxy.url().ends_with(&proxy.script.port.to_string()));
    assert_eq!(status("PUT", "a"), Some(200));
    assert_eq!(ask("GET", "a", NOTHING).unwrap().body, b"0123456789");

    proxy.fault(json!({
        "action": "status", "method": "PUT", "path": "^/bucket/a$", "after": 1, "times": 1,
        "status": 503, "code": "SlowDown", "message": "Please reduce your request rate.",
    }));
    assert_eq!(status("PUT", "a"), Some(200));
    assert_eq!(status("PUT", "other"), Some(200));
    let reply = ask("PUT", "a", NOTHING).unwrap();
    assert_eq!(
        (reply.status, elements(&reply.text(), "Code")),
        (503, vec!["SlowDown".to_owned()])
    );
    assert_eq!(status("PUT", "a"), Some(200));

    proxy.fault(json!({"action": "drop_before"}));
    assert_eq!((status("PUT", "before"), content("before")), (None, None));

    proxy.fault(json!({"action": "hang", "seconds": 0.2}));
    let began = Instant::now();
    assert_eq!((status("PUT", "hangs"), content("hangs")), (None, None));
    assert!(began.elapsed() >= Duration::from_millis(200));

    proxy.fault(json!({"action": "drop_after", "method": "PUT"}));
    assert_eq!(status("PUT", "after"), None);
    assert_eq!(status("GET", "after"), Some(200));

    proxy.clear_log();
    proxy.fault(json!({"action": "cut", "method": "GET", "times": 1}));
    assert_eq!(status("GET", "a"), None);
    assert_eq!(status("GET", "a"), Some(200));
    let log = proxy.log();
    assert_eq!((&log[0]["out"], &log[1]["out"]), (&json!(5), &json!(10)));
    assert_eq!(
        (&log[0]["faults"], &log[1]["faults"]),
        (&json!(["cut"]), &json!([]))
    );

    proxy.faults(json!([
        {"action": "strip_conditions", "times": 1},
        {"action": "delay", "seconds": 0.2},
        {"action": "clock", "seconds": -86400},
    ]));
    let began = Instant::now();
    let reply = ask("PUT", "a", IF_NEW).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(reply.status, 200);
    let today = server.request("HEAD", "/bucket/a", &[], b"");
    let yesterday = ask("HEAD", "a", NOTHING).unwrap();
    assert!(today.header("last-modified").is_some());
    assert_ne!(
        yesterday.header("last-modified"),
        today.header("last-modified")
    );
    assert_ne!(
        &yesterday.header("date").unwrap()[..16],
        &today.header("date").unwrap()[..16]
    );
    assert_eq!(ask("PUT", "a", IF_NEW).unwrap().status, 412);
}

/// Who may not is refused, and keys expire.
#[test]
fn the_server_with_keys_lets_in_who_may() {
    let (server, key) = Server::with_iam("mine");
    assert!(key.id.starts_with("AKIA") && key.secret.len() == 40);
    assert!(server.url().starts_with("http://127.0.0.1:"));
    server.put("mine", "seed", b"1");
    let unsigned = request(server.script.port, "GET", "/mine/seed", &[], b"").unwrap();
    assert_eq!(unsigned.status, 403);

    let keys = CredentialServer::start(60, Some(&server));
    let ecs = keys.ecs();
    let path = ecs.strip_prefix(&keys.imds()).unwrap();
    let given = request(keys.script.port, "GET", path, &[], b"")
        .unwrap()
        .succeeded();
    let given: Value = serde_json::from_str(&given.text()).unwrap();
    assert!(given["AccessKeyId"].as_str().unwrap().starts_with("ASIA"));
    assert_eq!((keys.count("ecs"), keys.count("imds")), (1, 0));
    assert_eq!(CredentialServer::start(60, None).count("ecs"), 0);
}
