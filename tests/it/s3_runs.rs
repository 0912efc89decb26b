//! Sources and results on S3: the same bytes as on the local disk, whatever the objects are called and however they are reached.

use crate::cloud::{self, ANY_KEYS, AS_OF, Cloud, Gateway, RUN};
use crate::company::{Company, tables};
use crate::python;
use crate::s3::Server;
use crate::support::{
    assert_refused, assert_same_bytes, published_files, read_parquet, rows_as_text, temp_folder,
};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Every kind of file in every kind of place: text in two encodings, Parquet, globs, folders, Hive folders, names that a URL
/// has to write otherwise.
#[test]
fn a_company_on_s3_is_published_as_on_the_local_disk() {
    let company = Company::generated(70);
    let command = "backfill --start 2024-10 --end 2025-01";
    let local = company.published(command);
    let expected = published_files(local.path());
    let local_sources = fs::read_to_string(company.path().join("pipeline.yaml")).unwrap();

    let server = Server::shared();
    let (bucket, top) = (server.new_bucket(), server.new_bucket());
    let data = |file: &str| fs::read(company.path().join("data").join(file)).unwrap();
    let text = |file: &str| String::from_utf8(data(file)).unwrap();
    let put = |key: &str, content: &[u8]| server.put(&bucket, key, content);
    let accounts = text("accounts.csv");
    let (accounts, _, is_lossy) = encoding_rs::SHIFT_JIS.encode(&accounts);
    assert!(!is_lossy);
    put("crm/顧客 一覧 100%+.csv", &accounts);
    let as_they_are = tables().filter(|table| {
        let elsewhere = [
            "accounts",
            "plans",
            "fx_rates",
            "invoice_lines",
            "subscriptions",
            "usage_events",
        ];
        !elsewhere.contains(table)
    });
    for table in as_they_are {
        put(&format!("crm/{table}.csv"), &data(&format!("{table}.csv")));
    }
    put("crm/plans.parquet", &data("plans.parquet"));
    put("fx/fx_rates.csv", &data("fx_rates.csv"));
    let invoices = text("invoice_lines.csv");
    let (header, lines) = invoices.split_once('\n').unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    for (number, part) in lines.chunks(lines.len() / 3 + 1).enumerate() {
        let part = format!("{header}\n{}\n", part.join("\n"));
        put(&format!("billing/invoices-{number}.csv"), part.as_bytes());
    }
    put("billing/payments.csv", b"of no interest\n");
    put(
        "billing/subscriptions/system=a=b/part-0.csv",
        &data("subscriptions.csv"),
    );
    let usage = company.path().join("data/usage_events");
    server.upload_tree(&usage, &bucket, "usage/events/");
    // What engines and consoles leave beside the data.
    for folder in ["billing/subscriptions/", "usage/events/"] {
        put(folder, b"");
        put(&format!("{folder}_SUCCESS"), b"");
        put(
            &format!("{folder}_delta_log/00000.checkpoint.parquet"),
            b"no data",
        );
        put(&format!("{folder}empty=1/"), b"");
    }
    company.map_sources(|table| {
        let at = |key: &str| format!("'s3://{bucket}/{key}'");
        match table {
            "accounts" => at("crm/顧客 一覧 100%+.csv") + ", csv: {encoding: shift_jis}",
            "plans" => at("crm/plans.parquet"),
            "fx_rates" => at("fx/*.csv"),
            "invoice_lines" => at("billing/invoices-*.csv"),
            "subscriptions" => at("billing/subscriptions") + ", format: csv",
            "usage_events" => at("usage/events/*/*.parquet"),
            table => at(&format!("crm/{table}.csv")),
        }
    });
    let remote_sources = fs::read_to_string(company.path().join("pipeline.yaml")).unwrap();
    let s3 = format!("s3: {{endpoint: {}, allow_http: true}}\n", server.url());

    let publish = |sources: &str, root: &str| {
        fs::write(
            company.path().join("pipeline.yaml"),
            format!("{sources}{s3}"),
        )
        .unwrap();
        company.publish(Path::new(root), command, &ANY_KEYS);
    };
    let downloaded = |bucket: &str, prefix: &str| {
        let folder = temp_folder();
        server.download_tree(bucket, prefix, folder.path());
        published_files(folder.path())
    };
    publish(&remote_sources, &format!("s3://{bucket}/kpi/daily/"));
    assert_same_bytes(
        &downloaded(&bucket, "kpi/daily/"),
        &expected,
        "from S3 to S3",
    );
    publish(&local_sources, &format!("s3://{top}"));
    assert_same_bytes(
        &downloaded(&top, ""),
        &expected,
        "from disk to the top of a bucket",
    );
    let root = temp_folder();
    publish(&remote_sources, root.path().to_str().unwrap());
    assert_same_bytes(&published_files(root.path()), &expected, "from S3 to disk");

    // Readers that are not ours find the same on S3 as in the local files.
    let read = python::command("readers/read_s3.py")
        .args([&server.url(), &format!("{bucket}/kpi/daily")])
        .arg(local.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&read.stdout);
    assert!(
        read.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&read.stderr)
    );
    assert!(said.contains("the same on S3"), "{said}");
}

/// One account per object; the folder says where it is from.
#[test]
fn any_key_can_be_read_and_key_value_folders_are_columns() {
    let cloud = Cloud::new();
    let names = [
        "x y.csv",
        "100%.csv",
        "a+b.csv",
        "a%20b.csv",
        "顧客.csv",
        "a#b?.csv",
        "[x] & 'y'.csv",
    ];
    for (number, name) in names.iter().enumerate() {
        let text = format!("account_id,signup_date\nacme-{number},2024-01-05\n");
        cloud.put(&format!("crm/area=no. {number}=a+b/{name}"), &text);
    }
    cloud.put(
        "crm/area=last/one.csv",
        "account_id,signup_date\nacme,2024-01-05\nbolt,2024-01-20\n",
    );
    for pattern in ["crm/*/*.csv", "crm/", "crm"] {
        let accounts = format!(
            "'{}', format: csv, columns: {{region: area}}",
            cloud.url(pattern)
        );
        cloud.pipeline(&cloud.url("in/accounts.csv"), &accounts);
        cloud.also("policy:", "dimensions: {region: region}\npolicy:");
        cloud.run(&format!("{RUN} --reprocess all")).succeeded();
        let rows = account_regions(&cloud);
        let expected: Vec<String> = (0..names.len())
            .map(|number| format!("acme-{number}: no. {number}=a+b"))
            .chain(["acme: last".to_owned(), "bolt: last".to_owned()])
            .collect();
        for row in expected {
            assert!(
                rows.contains(&row),
                "{pattern}: {row} is not among {rows:?}"
            );
        }
    }
    // Each by its own name, in which nothing is a wildcard.
    for name in ["x y.csv", "100%.csv", "a+b.csv", "a%20b.csv", "顧客.csv"] {
        cloud.put(&format!("by name/{name}"), cloud::ACCOUNTS);
        let accounts = format!("'{}'", cloud.url(&format!("by name/{name}")));
        cloud.pipeline(&cloud.url("in/accounts.csv"), &accounts);
        cloud.run(&format!("{RUN} --reprocess all")).succeeded();
    }
}

/// `account: region` of all accounts in `account_period`.
fn account_regions(cloud: &Cloud) -> Vec<String> {
    let key = "out/account_period/period=2024-02-01/part-0.parquet";
    let folder = temp_folder();
    let file = folder.path().join("part-0.parquet");
    fs::write(&file, cloud.server.get(&cloud.bucket, key).unwrap()).unwrap();
    let frame = read_parquet(&file)
        .select(["account_id", "region"])
        .unwrap();
    rows_as_text(&frame)
        .iter()
        .map(|row| row.join(": "))
        .collect()
}

#[test]
fn inputs_that_are_not_there_yet_are_waited_for() {
    let cloud = Cloud::new();
    cloud.put("late/_SUCCESS", "");
    cloud.put("late/", "");
    for path in [
        "late/accounts.csv",
        "late/*.csv",
        "nothing/*.csv",
        "nothing/accounts.csv",
        "in/Accounts*.csv",
    ] {
        cloud.pipeline(
            &cloud.url("in/accounts.csv"),
            &format!("'{}'", cloud.url(path)),
        );
        let missing = format!("no file matches `{}`", cloud.url(path));
        assert_refused(
            &cloud.run(RUN),
            75,
            &[
                "error: source accounts",
                &missing,
                "help: if the export is late, run again when it is there",
            ],
        );
    }
    for path in ["late", "late/", "nothing/"] {
        let source = format!("{}, format: csv", cloud.url(path));
        cloud.pipeline(&cloud.url("in/accounts.csv"), &source);
        assert_refused(&cloud.run(RUN), 75, &["no file matches `s3://"]);
    }
    cloud.pipeline(&cloud.url("in/accounts"), "s3://no-such-bucket/in/accounts");
    let no_bucket = "the bucket no-such-bucket does not exist";
    assert_refused(
        &cloud.run(RUN),
        1,
        &[
            no_bucket,
            "help: check the name, and s3.endpoint and s3.region",
        ],
    );
    cloud.pipeline(&cloud.url("out"), "s3://no-such-bucket/out");
    assert_refused(
        &cloud.run(RUN),
        1,
        &["error: the bucket no-such-bucket does not exist"],
    );
    assert!(cloud.published("out/").is_empty());
}

#[test]
fn a_region_and_encryption_are_asked_for() {
    let cloud = Cloud::new();
    cloud.pipeline(&cloud.s3(), "allow_http: true");
    assert_refused(
        &cloud.run(RUN),
        2,
        &[
            "no region is known for s3://",
            "help: name it in the pipeline (`s3: {region: ap-northeast-1}`) or in AWS_REGION",
        ],
    );
    cloud.pipeline(", allow_http: true", "");
    assert_refused(
        &cloud.run(RUN),
        2,
        &[
            "error: the endpoint `http://127.0.0.1:",
            "is not encrypted",
            "allow_http: true",
        ],
    );
    cloud.pipeline(&cloud.s3(), "");
    let endpoint = cloud.proxy.url();
    let variables = [&ANY_KEYS[..], &[("AWS_ENDPOINT_URL", endpoint.as_str())]].concat();
    let ran = cloud::run(cloud.folder.path(), &variables, RUN);
    assert_refused(
        &ran,
        2,
        &[
            "the S3 endpoint http://127.0.0.1:",
            "is not encrypted",
            "help: use https://, or allow it",
        ],
    );
    assert_eq!(cloud.requests(), []);
}

/// `kpi` is no folder above `kpi2`, and neither clears what the other has begun.
#[test]
fn two_roots_in_one_bucket_do_not_see_each_other() {
    let cloud = Cloud::new();
    let at = |root: &str| cloud.pipeline(&cloud.url("out"), &cloud.url(root));
    for root in ["kpi", "kpi2"] {
        at(root);
        cloud.run(RUN).succeeded();
    }
    assert_same_bytes(
        &cloud.published("kpi/"),
        &cloud.published("kpi2/"),
        "two roots",
    );
    cloud.put(
        "kpi2/_cskpi/staging/other/kpi_values/x.parquet",
        "staged by a run that lives",
    );
    cloud.put(
        "kpi2/kpi_values/period=2019-01-01/part-0.parquet",
        "unknown to any manifest",
    );
    let begun = format!("/{}/kpi2/kpi_values/large.parquet?uploads=", cloud.bucket);
    cloud.server.request("POST", &begun, &[], b"").succeeded();
    let others = || {
        let uploads = format!("/{}?uploads=", cloud.bucket);
        let uploads = cloud.server.request("GET", &uploads, &[], b"").text();
        (
            cloud.server.list(&cloud.bucket, "kpi2/"),
            uploads.contains("kpi2/kpi_values/large.parquet"),
        )
    };
    let before = others();
    assert!(before.1);

    at("kpi");
    cloud.run(&format!("{RUN} --reprocess all")).succeeded();
    cloud
        .run("vacuum pipeline.yaml --older-than 0d")
        .succeeded();
    let verified = cloud.run("verify pipeline.yaml").succeeded();
    assert!(
        verified
            .stdout
            .contains("10 files are as they were published")
    );
    assert_eq!(others(), before);
}

/// What there is to do is found out from listings; a run reads only what its period can be made of.
#[test]
fn planning_reads_no_input_and_a_run_only_what_it_needs() {
    let cloud = Cloud::new();
    for month in ["2024-01", "2024-02", "2024-03"] {
        let text =
            format!("invoice_id,account_id,issued_at,amount\ni-{month},acme,{month}-15,100\n");
        cloud.put(&format!("billing/invoices-{month}.csv"), &text);
        cloud.put(
            &format!("usage/month={month}/part-0.csv"),
            &format!("account_id,user_id,occurred_at\nacme,u1,{month}-03T10:00:00+09:00\n"),
        );
    }
    let dated = format!(
        "  invoice_lines: {{path: {}, file_dates: \"invoices-%Y-%m\"}}\n  usage_events: {{path: {}, file_dates: \"month=%Y-%m\"}}\npolicy:",
        cloud.url("billing/invoices-*.csv"),
        cloud.url("usage/*/*.csv"),
    );
    cloud.pipeline("policy:", &dated);
    let is_input = |path: &str| {
        ["/in/", "/billing/", "/usage/"]
            .iter()
            .any(|part| path.contains(part))
    };
    let reads = |requests: &[(String, String)]| -> Vec<String> {
        let reads = requests.iter().filter(|(method, path)| {
            method == "GET" && is_input(path) && !path.contains("list-type")
        });
        reads.map(|(_, path)| path.clone()).collect()
    };

    cloud
        .run(&format!("plan pipeline.yaml {AS_OF}"))
        .succeeded();
    let requests = cloud.requests();
    assert!(
        requests
            .iter()
            .any(|(_, path)| path.contains("list-type=2&prefix=billing"))
    );
    assert!(
        requests
            .iter()
            .all(|(method, _)| ["GET", "HEAD"].contains(&method.as_str())),
        "{requests:?}"
    );
    assert_eq!(reads(&requests), Vec::<String>::new());

    cloud.run(&RUN.replace("2024-02", "2024-01")).succeeded();
    let read = reads(&cloud.requests());
    for part in [
        "/in/accounts.csv",
        "/billing/invoices-2024-01.csv",
        "/usage/month%3D2024-01/",
    ] {
        assert!(
            read.iter().any(|path| path.contains(part)),
            "{part}: {read:?}"
        );
    }
    let later = |path: &&String| path.contains("2024-02") || path.contains("2024-03");
    assert_eq!(
        read.iter().filter(later).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );

    // Once published: listings and our own records, and no file of a table.
    let plan = cloud
        .run(&format!("plan pipeline.yaml {AS_OF}"))
        .succeeded();
    assert!(
        plan.stdout
            .contains("2024-02 to 2024-03  all tables: never published"),
        "{}",
        plan.stdout
    );
    let is_listing = |path: &str| path.contains("list-type");
    for (method, path) in cloud.requests() {
        let is_record = path.contains("/out/_cskpi/");
        assert!(
            method == "HEAD" || is_listing(&path) || is_record,
            "{method} {path}"
        );
    }
}

/// The numbers behind what is published are read where they lie; the inputs are not asked again.
#[test]
fn what_is_published_on_s3_is_explained() {
    let cloud = Cloud::new();
    cloud.run(RUN).succeeded();
    cloud.requests();
    let explain = "explain mrr pipeline.yaml --period 2024-02 --output json";
    let ran = cloud.run(explain).succeeded();
    let explained: Value = serde_json::from_str(&ran.stdout).unwrap();
    let numbers = &explained["numbers"];
    assert_eq!(numbers["value"]["value"], 15_000.0, "{numbers}");
    let accounts = &numbers["accounts"];
    assert_eq!(accounts["computed"]["reproduces"], true, "{accounts}");
    assert_eq!(accounts["largest"][0]["account_id"], "acme");
    for (method, path) in cloud.requests() {
        let is_read = ["GET", "HEAD"].contains(&method.as_str());
        assert!(is_read && !path.contains("/in/"), "{method} {path}");
    }
}

/// The bucket stands in the host's name; region and endpoint come from the environment.
#[test]
fn a_bucket_is_reached_by_its_host_name() {
    let cloud = Cloud::new();
    let gateway = Gateway::start(cloud.server);
    cloud.pipeline(
        &cloud.s3(),
        "allow_http: true, path_style: false, max_retries: 1",
    );
    let proxy = gateway.url.as_str();
    let variables = [
        ("HTTP_PROXY", proxy),
        ("http_proxy", proxy),
        ("NO_PROXY", ""),
        ("no_proxy", ""),
        ("AWS_ENDPOINT_URL_S3", "http://s3.test"),
        ("AWS_ENDPOINT_URL", "http://of-other-services.test"),
        ("AWS_REGION", "eu-west-3"),
    ];
    let variables = [&ANY_KEYS[..], &variables].concat();
    cloud::run(cloud.folder.path(), &variables, RUN).succeeded();
    let seen = gateway.seen.lock().unwrap().clone();
    assert!(seen.len() > 50);
    for request in &seen {
        assert_eq!(request.host, format!("{}.s3.test", cloud.bucket));
        assert!(
            request.authorization.contains("/eu-west-3/s3/aws4_request"),
            "{}",
            request.authorization
        );
    }
    let paths: Vec<&str> = seen.iter().map(|request| request.path.as_str()).collect();
    for part in [
        "/in/accounts.csv",
        "uploads=",
        "list-type=2",
        "/out/kpi_values/",
    ] {
        assert!(paths.iter().any(|path| path.contains(part)), "{part}");
    }
    assert!(!cloud.published("out/").is_empty());
}
