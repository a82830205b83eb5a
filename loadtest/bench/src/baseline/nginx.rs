//! nginx, found on this machine or taken from the distribution's package without installing it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::child::Child;
use super::free_address;

/// Packages that may hold the program: which one does depends on the distribution and its version.
const PACKAGES: [&str; 3] = ["nginx", "nginx-core", "nginx-light"];
const FOLDERS: [&str; 5] = [
    "/usr/sbin",
    "/usr/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/local/nginx/sbin",
];

/// Starts nginx in `directory/nginx`.
pub(super) async fn start(directory: &Path, upstream: SocketAddr, workers: usize) -> Result<Child> {
    let (address, home) = (free_address()?, directory.join("nginx"));
    std::fs::create_dir_all(&home).with_context(|| format!("creating {}", home.display()))?;
    let configuration = home.join("nginx.conf");
    std::fs::write(&configuration, configure(address, upstream, workers))
        .context("writing nginx.conf")?;
    let mut command = Command::new(find_or_unpack(directory)?);
    // `-e` before anything else is read: the built-in error log is in a folder that may not be there.
    command
        .arg("-p")
        .arg(&home)
        .arg("-c")
        .arg(&configuration)
        .args(["-e", "stderr"]);
    Child::start("nginx", command, address, directory).await
}

/// A pass-through as an operator would tune it: kept connections both ways, nothing logged, and workers that
/// share the connections evenly.
fn configure(listen: SocketAddr, upstream: SocketAddr, workers: usize) -> String {
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
        listen {listen} reuseport;
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

fn find_or_unpack(directory: &Path) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from));
    let unpacked = directory.join("nginx-package/files/usr/sbin/nginx");
    let mut places = folders.map(|folder| folder.join("nginx")).chain([unpacked]);
    match places.find(|place| place.is_file()) {
        Some(nginx) => Ok(nginx),
        None => unpack(&directory.join("nginx-package")),
    }
}

/// Takes the program out of the distribution's package. Installing the package would start a server on port
/// 80 of this machine and needs root; this does neither.
fn unpack(directory: &Path) -> Result<PathBuf> {
    eprintln!(
        "nginx is not here: taking it from apt's package into {}",
        directory.display()
    );
    let files = directory.join("files");
    let nginx = files.join("usr/sbin/nginx");
    for package in PACKAGES {
        // A fresh directory: what an earlier attempt downloaded would be unpacked too.
        drop(std::fs::remove_dir_all(directory));
        std::fs::create_dir_all(&files).with_context(|| format!("creating {}", files.display()))?;
        if download(package, directory).is_err() {
            // The lists are missing or out of date on a machine that was never updated.
            drop(run(Command::new("apt-get").args(["-q", "update"])));
            drop(download(package, directory));
        }
        for entry in std::fs::read_dir(directory)?.flatten() {
            if entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "deb")
            {
                run(Command::new("dpkg-deb")
                    .arg("-x")
                    .arg(entry.path())
                    .arg(&files))?;
            }
        }
        if nginx.is_file() && run(Command::new(&nginx).args(["-e", "stderr", "-v"])).is_ok() {
            return Ok(nginx);
        }
    }
    bail!(
        "nginx is missing and apt did not give it; install it (for example `apt-get install nginx`) and try again"
    )
}

fn download(package: &str, directory: &Path) -> Result<()> {
    run(Command::new("apt-get")
        .args(["-q", "download", package])
        .current_dir(directory))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
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
}
