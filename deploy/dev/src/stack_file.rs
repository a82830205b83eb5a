//! `target/dev/stack.json`: what runs, in the contract's shape, there exactly while it runs.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::files;

/// The file's contents.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct StackFile {
    /// Ends in `/api/v1`; all other addresses are origins.
    pub base_url: String,
    /// The first gateway.
    pub gateway: String,
    /// Every gateway.
    pub gateways: Vec<GatewayEntry>,
    /// The control plane's public API.
    pub control_plane: String,
    /// The control plane's internal API.
    pub internal: String,
    /// `/metrics`, `/healthz`, `/readyz` of the first gateway.
    pub gateway_admin: String,
    /// The same of the control plane.
    pub control_plane_admin: String,
    /// The Relay sandbox.
    pub relay: String,
    /// The demo seller.
    pub demo_seller: String,
    /// With its password.
    pub database_url: String,
    /// The cache.
    pub redis_url: String,
    /// The processes.
    pub pids: Pids,
    /// What to try it with.
    pub demo: DemoKeys,
    /// Where Postgres keeps its data; outside the clone when its user cannot reach the clone.
    pub data_directory: PathBuf,
}

/// One gateway.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct GatewayEntry {
    /// Its public origin.
    pub origin: String,
    /// Its operators' origin.
    pub admin: String,
    /// Its process.
    pub pid: u32,
}

/// The process ids; zero for a store that is not ours.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Pids {
    /// The first gateway.
    pub gateway: u32,
    /// The control plane.
    pub control_plane: u32,
    /// The Relay sandbox.
    pub relay: u32,
    /// The demo seller.
    pub demo_seller: u32,
    /// Postgres's first process.
    pub postgres: u32,
    /// Redis.
    pub redis: u32,
}

/// Keys and a listing that the demo call made.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct DemoKeys {
    /// Of an agent with a Solana wallet.
    pub buyer_api_key: String,
    /// Of the listing's owner.
    pub seller_api_key: String,
    /// Answered by the demo seller.
    pub listing_id: String,
    /// Where that listing is called.
    pub gateway_url: String,
}

impl StackFile {
    fn path(directory: &Path) -> PathBuf {
        directory.join("stack.json")
    }

    /// Writes it whole, readable by its owner alone: there are keys in it.
    pub fn write(&self, directory: &Path) -> Result<()> {
        files::write_whole(
            &Self::path(directory),
            serde_json::to_string_pretty(self)?.as_bytes(),
        )
    }

    /// The file of a stack that runs, if one does.
    pub fn read(directory: &Path) -> Result<Option<Self>> {
        let path = Self::path(directory);
        let Some(text) = files::read_if_there(&path)? else {
            return Ok(None);
        };
        Ok(Some(
            serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?,
        ))
    }

    /// Removes it.
    pub fn remove(directory: &Path) -> Result<()> {
        files::remove(&Self::path(directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_contracts_shape() {
        let file = StackFile {
            base_url: "http://127.0.0.1:8080/api/v1".to_owned(),
            gateway: "http://127.0.0.1:8080".to_owned(),
            gateways: vec![GatewayEntry {
                origin: "http://127.0.0.1:8080".to_owned(),
                admin: "http://127.0.0.1:9080".to_owned(),
                pid: 1,
            }],
            control_plane: String::new(),
            internal: String::new(),
            gateway_admin: String::new(),
            control_plane_admin: String::new(),
            relay: String::new(),
            demo_seller: String::new(),
            database_url: String::new(),
            redis_url: String::new(),
            pids: Pids {
                gateway: 1,
                control_plane: 2,
                relay: 3,
                demo_seller: 4,
                postgres: 5,
                redis: 6,
            },
            demo: DemoKeys::default(),
            data_directory: "/data".into(),
        };
        let directory =
            std::env::temp_dir().join(format!("crochet-dev-stack-file-{}", std::process::id()));
        files::make_directory(&directory).unwrap();
        assert_eq!(StackFile::read(&directory).unwrap(), None);
        file.write(&directory).unwrap();
        assert_eq!(StackFile::read(&directory).unwrap().unwrap(), file);
        let json: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(directory.join("stack.json")).unwrap())
                .unwrap();
        let keys = |value: &serde_json::Value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<std::collections::BTreeSet<_>>()
        };
        let named = |names: &str| {
            names
                .split(' ')
                .map(str::to_owned)
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(
            keys(&json),
            named(
                "base_url gateway gateways control_plane internal gateway_admin control_plane_admin relay demo_seller database_url redis_url pids demo data_directory"
            )
        );
        assert_eq!(keys(&json["gateways"][0]), named("origin admin pid"));
        assert_eq!(
            keys(&json["pids"]),
            named("gateway control_plane relay demo_seller postgres redis")
        );
        assert_eq!(
            keys(&json["demo"]),
            named("buyer_api_key seller_api_key listing_id gateway_url")
        );
        StackFile::remove(&directory).unwrap();
        StackFile::remove(&directory).unwrap();
        files::remove(&directory).unwrap();
    }
}
