use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn domains(pairs: &[(&str, &str)]) -> Result<NetworkConfig, String> {
    let mut config = NetworkConfig::default();
    config.parse_domain(&map(pairs)).map_err(|error| error.to_string())?;
    Ok(config)
}

fn network(pairs: &[(&str, &str)]) -> Result<NetworkConfig, String> {
    let mut config = NetworkConfig::default();
    config.parse_network(&map(pairs)).map_err(|error| error.to_string())?;
    Ok(config)
}

fn route(labels: &[(&str, &str)]) -> ObjectMeta {
    ObjectMeta {
        namespace: Some("ml".to_owned()),
        labels: Some(map(labels)),
        ..ObjectMeta::default()
    }
}

#[test]
fn the_selector_with_the_most_labels_gives_the_domain() {
    let config = domains(&[
        ("_example", "- text"),
        ("example.com", ""),
        ("red.test", "selector: {team: red}"),
        ("gpu.test:8080", "selector:\n  team: red\n  gpu: \"yes\"\ntype: wildcard"),
        ("another.test", "selector: {team: red}"),
    ]);
    let config = config.unwrap();
    let url = |labels: &[(&str, &str)]| config.url("digits", &route(labels)).unwrap();
    assert_eq!(url(&[]), "http://digits.ml.example.com");
    assert_eq!(url(&[("team", "blue"), ("gpu", "yes")]), "http://digits.ml.example.com");
    assert_eq!(url(&[("team", "red")]), "http://digits.ml.another.test");
    assert_eq!(url(&[("team", "red"), ("gpu", "yes")]), "http://digits.ml.gpu.test:8080");
}

#[test]
fn without_a_domain_for_all_the_default_stays() {
    let config = domains(&[("red.test", "selector: {team: red}")]).unwrap();
    assert_eq!(config.url("digits", &route(&[])).unwrap(), "http://digits.ml.svc.cluster.local");
    let none = domains(&[]).unwrap();
    assert_eq!(none, NetworkConfig::default());
    let several = domains(&[("b.test", ""), ("a.test", "{}")]).unwrap();
    assert_eq!(several.domain, "a.test");
}

#[test]
fn a_selector_that_cannot_be_read_is_refused() {
    for text in ["red", "- red", "selector: [red]"] {
        let said = domains(&[("red.test", text)]).unwrap_err();
        assert!(
            said.starts_with("ConfigMap config-domain: red.test: must be empty, or YAML"),
            "{said}"
        );
    }
    let many: BTreeMap<_, _> =
        (0..65).map(|n| (format!("d{n}.test"), "selector: {a: b}".to_owned())).collect();
    let said = NetworkConfig::default().parse_domain(&many).unwrap_err().to_string();
    assert!(said.ends_with("is one too many: at most 64 domains have a selector"), "{said}");
}

#[test]
fn a_template_makes_hosts_and_one_that_is_too_long_is_told() {
    let template = ("domain-template", "{{.Name}}-{{.Namespace}}.{{.Domain}}");
    let mut config = network(&[template]).unwrap();
    "example.com".clone_into(&mut config.domain);
    assert_eq!(config.url("digits", &route(&[])).unwrap(), "http://digits-ml.example.com");
    let said = config.url(&"x".repeat(61), &route(&[])).unwrap_err();
    assert!(said.starts_with("domain name error: invalid domain name \"xxx"), "{said}");
}

/// An annotation with a port once gave a Route the host before it, another's.
#[test]
fn what_fills_a_template_cannot_end_the_host() {
    let template = "{{index .Annotations \"sub\"}}.{{.Name}}.{{.Namespace}}.{{.Domain}}";
    let mut config = network(&[("domain-template", template)]).unwrap();
    "example.com:8080".clone_into(&mut config.domain);
    let url = |config: &NetworkConfig, sub: &str| {
        let route = ObjectMeta { annotations: Some(map(&[("sub", sub)])), ..route(&[]) };
        config.url("digits", &route)
    };
    assert_eq!(url(&config, "eu").unwrap(), "http://eu.digits.ml.example.com:8080");
    for sub in ["victim.ml.example.com:80/", "victim:80", "a@b", "a/b", ""] {
        assert!(url(&config, sub).unwrap_err().starts_with("domain name error"), "{sub}");
    }
    "svc.cluster.local".clone_into(&mut config.domain);
    assert_eq!(url(&config, "eu").unwrap(), "http://digits.ml.svc.cluster.local");
    let read = domains(&[("Example.COM", "")]).unwrap();
    assert_eq!(read.domain, "example.com");
}

#[test]
fn what_cannot_be_used_is_refused_with_what_would_be_right() {
    for (key, value, told) in [
        ("domain-template", "{{.Name}}", "must have {{.Name}} and {{.Namespace}}"),
        ("tag-template", "{{.Name}}-{{.Tag}}", "must be {{.Tag}}-{{.Name}}"),
        ("rollout-duration", "10m", "must be a whole number of seconds, such as 600"),
        ("rollout-duration", "-1", "must be a whole number of seconds, such as 600"),
        ("default-external-scheme", "ftp", "must be http or https"),
    ] {
        let said = network(&[(key, value)]).unwrap_err();
        assert!(said.starts_with(&format!("ConfigMap config-network: {key}: {told}")), "{said}");
    }
    let config = network(&[("tag-template", TAG_TEMPLATE), ("rollout-duration", "600")]).unwrap();
    assert_eq!(config.rollout_duration, Duration::from_mins(10));
}
