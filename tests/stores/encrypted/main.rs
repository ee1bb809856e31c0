//! Redis through TLS: `rediss://`.

use std::{path::Path, process::Command};

use qtasks_tests::servers::{free_port, redis::Redis};

/// What becomes of a job at `url`, for a process that trusts whom this certificate vouches for: the result, or the error.
fn visit(url: &str, trusted: &Path) -> Result<String, String> {
    let mut visitor = Command::new(env!("CARGO_BIN_EXE_visitor"));
    let output = visitor.arg(url).env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
#[test]
fn jobs_are_done_through_tls_if_the_certificate_is_good() {
    let port = free_port();
    let (server, certificate) = Redis::start_encrypted(port);
    let url = format!("rediss://tests:secret@127.0.0.1:{port}?timeout=2");
    assert_eq!(visit(&url, &certificate).unwrap(), "42");
    let (_other, stranger) = Redis::start_encrypted(free_port());

    let plain_port = server.port.to_string();
    let port = port.to_string();
    for (url, trusted, why) in [
        (url.clone(), &stranger, "invalid peer certificate: UnknownIssuer"),
        (url.replace("127.0.0.1", "localhost"), &certificate, "certificate not valid for name \"localhost\""),
        (url.replace("secret", "secretive"), &certificate, "invalid username-password pair or user is disabled"),
        (url.replace(&port, &plain_port), &certificate, &format!("no answer from 127.0.0.1:{plain_port} within 2s")),
        (url.replace(&port, &plain_port), &certificate, "; does the server speak TLS? if not, write `redis://`"),
        (url.replace("rediss:", "redis:"), &certificate, &format!("no connection to 127.0.0.1:{port}: ")),
        (url.replace("rediss:", "redis:"), &certificate, "; does the server speak TLS? then write `rediss://`"),
    ] {
        let said = visit(&url, trusted).unwrap_err();
        assert!(said.starts_with("Error: the store could not connect to its server: "), "{said}");
        assert!(said.contains(why) && !said.contains("secret"), "{url}: {said}");
    }
}

#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
#[test]
fn the_url_says_by_which_certificates_a_server_is_trusted() {
    let port = free_port();
    let (_server, certificate) = Redis::start_encrypted(port);
    let (_other, stranger) = Redis::start_encrypted(free_port());
    let url = |certificate: &Path| {
        format!("rediss://tests:secret@127.0.0.1:{port}?timeout=2&sslrootcert={}", certificate.display())
    };
    assert_eq!(visit(&url(&certificate), &stranger).unwrap(), "42");
    assert!(visit(&url(&stranger), &certificate).unwrap_err().contains("invalid peer certificate: UnknownIssuer"));
    let key = certificate.with_file_name("server.key");
    for (url, why) in [
        (url(Path::new("/no/such/file")), "`/no/such/file`: No such file or directory (os error 2)".to_owned()),
        (url(&key), format!("`{}`: it holds no certificate", key.display())),
    ] {
        let said = visit(&url, &certificate).unwrap_err();
        assert_eq!(said, format!("Error: the store could not read the certificates to trust: {why}"));
    }
    let said = visit(&url(&certificate).replace("rediss:", "redis:"), &certificate).unwrap_err();
    assert!(said.ends_with("`sslrootcert` goes with `rediss://`, which is encrypted"), "{said}");
}
