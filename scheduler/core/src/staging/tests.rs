use super::*;

fn url(text: &str) -> Result<StoreUrl, BadUrl> {
    StoreUrl::try_from(text.to_owned())
}

fn input(address: &str) -> InputFile {
    InputFile { source: InputSource::Http { url: url(address).unwrap() }, path: None, mode: None }
}

fn output(pattern: &str) -> OutputFile {
    OutputFile {
        pattern: pattern.to_owned(),
        destination: OutputDestination::Path { path: "/shared/out".into() },
        path: String::new(),
        headers: BTreeMap::new(),
        condition: UploadCondition::Always,
    }
}

#[test]
fn a_path_stays_in_its_folder() {
    for fine in ["a", "a/b.c", "workitems/x/job-1/t", "...", ".hidden", "a b"] {
        assert_eq!(RelativePath::try_from(fine.to_owned()).unwrap().as_str(), fine);
    }
    for wrong in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a/..", "./a", "a\nb", "a\0"] {
        assert!(RelativePath::try_from(wrong.to_owned()).is_err(), "{wrong:?}");
        assert!(serde_json::from_value::<RelativePath>(wrong.into()).is_err(), "{wrong:?}");
    }
    assert!(RelativePath::try_from("x".repeat(256)).is_err());
    assert!(RelativePath::try_from("x/".repeat(600)).is_err());
}

#[test]
fn an_address_is_shown_without_its_secret() {
    let secret = url("https://h:1/account/container/f.txt?sig=SECRET").unwrap();
    for shown in [format!("{secret}"), format!("{secret:?}"), format!("{:?}", input(secret.secret()))] {
        assert!(shown.contains("container/f.txt?...") && !shown.contains("SECRET"), "{shown}");
    }
    assert_eq!(secret.file_name(), Some("f.txt"));
    assert_eq!(url("s3://bucket").unwrap().file_name(), None);
    assert_eq!(url("s3://bucket/a/").unwrap().file_name(), None);
    assert!(serde_json::to_string(&secret).unwrap().contains("SECRET"));
}

#[test]
fn addresses_of_other_kinds_are_refused_without_being_repeated() {
    for wrong in
        ["x", "ftp://h/SECRET", "http://", "http:///SECRET", "http://u:SECRET@h/", "http://h/a SECRET"]
    {
        let error = url(wrong).unwrap_err().to_string();
        assert!(!error.contains("SECRET"), "{error}");
    }
    assert!(matches!(url(&format!("http://h/{}", "x".repeat(URL_BYTES_MAX))), Err(BadUrl::Long { .. })));
}

#[test]
fn what_a_staging_may_hold_is_limited() {
    let fine = Staging {
        inputs: vec![input("http://h/a")],
        outputs: vec![output("**/*.txt")],
        ..Staging::default()
    };
    assert_eq!(fine.check(), Ok(()));
    let mut wrong = Vec::new();
    wrong
        .push(("1001 inputs", Staging { inputs: vec![input("http://h/a"); INPUTS_MAX + 1], ..fine.clone() }));
    wrong.push((
        "1001 common",
        Staging { common_inputs: vec![input("http://h/a"); INPUTS_MAX + 1], ..fine.clone() },
    ));
    wrong.push(("201 outputs", Staging { outputs: vec![output("a"); OUTPUTS_MAX + 1], ..fine.clone() }));
    let long = input(&format!("http://h/{}", "x".repeat(URL_BYTES_MAX - 20)));
    wrong.push(("bytes of file names", Staging { inputs: vec![long; 100], ..fine.clone() }));
    wrong.push(("no name of its own", Staging { inputs: vec![input("http://h/")], ..fine.clone() }));
    let mode = InputFile { mode: Some(0o1777), ..input("http://h/a") };
    wrong.push(("mode 1777", Staging { inputs: vec![mode], ..fine.clone() }));
    for path in ["shared", "/a/../b", "/a\0"] {
        let source = InputSource::Path { path: path.into() };
        let input = InputFile { source, path: None, mode: None };
        wrong.push(("must be absolute", Staging { inputs: vec![input], ..fine.clone() }));
        let output = OutputFile { destination: OutputDestination::Path { path: path.into() }, ..output("a") };
        wrong.push(("must be absolute", Staging { outputs: vec![output], ..fine.clone() }));
    }
    for name in ["ab", "Data", "a_b", "-ab", "a--b", ""] {
        let source = InputSource::AutoStorage { container: name.to_owned(), prefix: String::new() };
        let input = InputFile { source, path: None, mode: None };
        wrong.push(("no container is called", Staging { inputs: vec![input], ..fine.clone() }));
    }
    for pattern in ["", "a\nb"] {
        wrong.push(("pattern", Staging { outputs: vec![output(pattern)], ..fine.clone() }));
    }
    let upwards = OutputFile { path: "a/../../b".into(), ..output("a") };
    wrong.push(("leads upwards", Staging { outputs: vec![upwards], ..fine.clone() }));
    let header = |name: &str, value: &str| OutputFile {
        headers: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        ..output("a")
    };
    for header in
        [header("", "a"), header("a b", "c"), header("a", "b\r\nc: d"), header("a", &"b".repeat(9000))]
    {
        wrong.push(("header", Staging { outputs: vec![header], ..fine.clone() }));
    }
    wrong.push(("retention time", Staging { retention_s: 0, ..fine.clone() }));
    wrong.push(("retention time", Staging { retention_s: RETENTION_MAX_S + 1, ..fine.clone() }));
    wrong.push(("time for inputs", Staging { prepare_s: PREPARE_MAX_S + 1, ..fine.clone() }));
    for (why, staging) in wrong {
        let error = staging.check().unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn only_work_before_the_start_takes_time_before_it() {
    let mut staging = Staging { outputs: vec![output("a")], ..Staging::default() };
    assert_eq!(staging.prepares_for_s(), 0);
    staging.common_inputs = vec![input("http://h/a")];
    assert_eq!(staging.prepares_for_s(), PREPARE_DEFAULT_S);
    assert_eq!(Staging { packages: true, ..Staging::default() }.prepares_for_s(), PREPARE_DEFAULT_S);
}

#[test]
fn the_journals_form_goes_round_and_knows_its_defaults() {
    let staging: Staging = serde_json::from_str(
        r#"{"inputs":[{"source":{"container":{"url":"https://h/c?sig=1","prefix":"p/"}},"path":"in"}],
            "outputs":[{"pattern":"*.txt","destination":{"container":{"url":"s3://b"}},"condition":"success"}]}"#,
    )
    .unwrap();
    assert_eq!((staging.retention_s, staging.prepare_s), (RETENTION_DEFAULT_S, PREPARE_DEFAULT_S));
    let text = serde_json::to_string(&staging).unwrap();
    assert_eq!(serde_json::from_str::<Staging>(&text).unwrap(), staging);
    assert!(UploadCondition::Success.holds(true) && !UploadCondition::Success.holds(false));
    assert!(UploadCondition::Failure.holds(false) && UploadCondition::Always.holds(false));
}

#[test]
fn every_code_has_its_name() {
    for code in FailureCode::ALL {
        assert_eq!(FailureCode::from_name(code.name()), Some(code));
        assert_eq!(serde_json::to_value(code).unwrap(), code.name());
    }
    assert!(FailureCode::BlobNotFound.is_users() && !FailureCode::DiskFull.is_users());
}
