//! nginx as a pass-through.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::child::Child;
use super::free_address;
use super::package::Package;
use super::tls_front::Certificate;

const PACKAGE: Package = Package {
    program: "nginx",
    sets: &[&["nginx"], &["nginx-core"], &["nginx-light"]],
    version: &["-e", "stderr", "-v"],
};

/// How its clients speak to it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Listen<'a> {
    Plain,
    Tls(&'a Certificate),
}

/// Starts nginx in `directory/nginx`.
pub(super) async fn start(directory: &Path, upstream: SocketAddr, workers: usize) -> Result<Child> {
    start_as("nginx", directory, upstream, workers, Listen::Plain).await
}

/// Starts nginx in `directory/NAME`.
pub(super) async fn start_as(
    name: &str,
    directory: &Path,
    upstream: SocketAddr,
    workers: usize,
    listen: Listen<'_>,
) -> Result<Child> {
    let (address, home) = (free_address()?, directory.join(name));
    std::fs::create_dir_all(&home).with_context(|| format!("creating {}", home.display()))?;
    let configuration = home.join("nginx.conf");
    std::fs::write(
        &configuration,
        configure(address, upstream, workers, listen),
    )
    .context("writing nginx.conf")?;
    let mut command = PACKAGE.command(directory)?;
    // `-e` before anything else is read: the built-in error log is in a folder that may not be there.
    command
        .arg("-p")
        .arg(&home)
        .arg("-c")
        .arg(&configuration)
        .args(["-e", "stderr"]);
    Child::start(name, command, address, directory).await
}

/// A pass-through as an operator would tune it: kept connections both ways, nothing logged, and workers that
/// share the connections evenly.
fn configure(
    address: SocketAddr,
    upstream: SocketAddr,
    workers: usize,
    listen: Listen<'_>,
) -> String {
    let (speaks, certificate) = match listen {
        Listen::Plain => ("", String::new()),
        Listen::Tls(files) => (
            " ssl",
            format!(
                "\n        ssl_certificate {};\n        ssl_certificate_key {};",
                files.chain.display(),
                files.key.display()
            ),
        ),
    };
    format!(
        "\
daemon off;
worker_processes {workers};
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path client_body_temp;
    proxy_temp_path proxy_temp;
    fastcgi_temp_path fastcgi_temp;
    uwsgi_temp_path uwsgi_temp;
    scgi_temp_path scgi_temp;
    tcp_nodelay on;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    upstream seller {{
        server {upstream};
        keepalive 512;
        keepalive_timeout 1h;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address}{speaks} reuseport;{certificate}
        location / {{
            proxy_pass http://seller;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
        }}
    }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_both_ends_and_keeps_connections() {
        let text = configure(
            "127.0.0.1:5".parse().unwrap(),
            "127.0.0.1:6".parse().unwrap(),
            2,
            Listen::Plain,
        );
        for line in [
            "listen 127.0.0.1:5 reuseport;",
            "server 127.0.0.1:6;",
            "worker_processes 2;",
            "access_log off;",
            "proxy_set_header Connection \"\";",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }

    #[test]
    fn with_a_certificate_tls_is_spoken() {
        let directory = std::env::temp_dir().join(format!("bench-tls-{}", std::process::id()));
        let certificate = Certificate::make(&directory).unwrap();
        let (address, upstream) = (
            "127.0.0.1:5".parse().unwrap(),
            "127.0.0.1:6".parse().unwrap(),
        );
        let text = configure(address, upstream, 1, Listen::Tls(&certificate));
        assert!(text.contains("listen 127.0.0.1:5 ssl reuseport;"), "{text}");
        assert!(text.contains(&format!(
            "ssl_certificate_key {};",
            certificate.key.display()
        )));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
