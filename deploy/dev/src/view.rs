//! What a running stack tells: addresses, stores, secrets and clients for its parts.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use demo_agent::{Api, DemoSeller, Sandbox};

use crate::environment::origin;
use crate::{DemoKeys, GatewayEntry, Pids, Role, Stack, StackFile};

impl Stack {
    /// The log file of a role.
    pub fn log(&self, role: Role) -> PathBuf {
        self.options
            .directory
            .join("logs")
            .join(format!("{role}.log"))
    }

    /// Where logs, secrets and state are kept.
    pub fn directory(&self) -> &Path {
        &self.options.directory
    }

    /// The URL of this stack's database.
    pub fn database_url(&self) -> &str {
        &self.plan.database_url
    }

    /// The URL of this stack's cache.
    pub fn redis_url(&self) -> &str {
        &self.plan.redis_url
    }

    /// The bearer secret of the internal API.
    pub fn internal_secret(&self) -> &str {
        &self.plan.secrets.internal
    }

    /// The API key by which the provider knows the control plane; it signs webhooks.
    pub fn relay_api_key(&self) -> &str {
        &self.plan.secrets.relay_api_key
    }

    /// The public, internal and operators' origins of both control planes; the second runs where it was
    /// started ([`Stack::start_second_control_plane`]).
    pub fn control_planes(&self) -> [[String; 3]; 2] {
        let (first, second) = (
            &self.plan.addresses,
            self.plan.addresses.second_control_plane,
        );
        [
            [
                first.control_plane,
                first.internal,
                first.control_plane_admin,
            ],
            [second.public, second.internal, second.admin],
        ]
        .map(|ports| ports.map(origin))
    }

    /// The public API through the gateway of this number.
    pub fn api(&self, gateway: usize) -> Result<Api> {
        let ports = self
            .plan
            .addresses
            .gateways
            .get(gateway)
            .with_context(|| format!("there is no gateway {gateway}"))?;
        Ok(Api::with_client(
            &format!("{}/api/v1", origin(ports.public)),
            self.http.clone(),
        ))
    }

    /// The sandbox's controls.
    pub fn sandbox(&self) -> Sandbox {
        Sandbox::new(&origin(self.plan.addresses.relay), self.http.clone())
    }

    /// The demo seller's controls.
    pub fn demo_seller(&self) -> DemoSeller {
        DemoSeller::new(&origin(self.plan.addresses.demo_seller), self.http.clone())
    }

    /// What runs, in the shape of `stack.json`, with `demo` in it.
    pub fn describe(&self, demo: DemoKeys) -> StackFile {
        let addresses = &self.plan.addresses;
        let pid = |role| self.pid(role).unwrap_or_default();
        let entries = addresses.gateways.iter().enumerate();
        let gateways: Vec<GatewayEntry> = entries
            .map(|(number, ports)| GatewayEntry {
                origin: origin(ports.public),
                admin: origin(ports.admin),
                pid: pid(Role::Gateway(number)),
            })
            .collect();
        StackFile {
            base_url: format!("{}/api/v1", addresses.front_door()),
            gateway: addresses.front_door(),
            gateway_admin: gateways
                .first()
                .map(|gateway| gateway.admin.clone())
                .unwrap_or_default(),
            gateways,
            control_plane: origin(addresses.control_plane),
            internal: origin(addresses.internal),
            control_plane_admin: origin(addresses.control_plane_admin),
            relay: origin(addresses.relay),
            demo_seller: origin(addresses.demo_seller),
            database_url: self.plan.database_url.clone(),
            redis_url: self.plan.redis_url.clone(),
            pids: Pids {
                gateway: pid(Role::Gateway(0)),
                control_plane: pid(Role::ControlPlane),
                relay: pid(Role::Relay),
                demo_seller: pid(Role::DemoSeller),
                postgres: pid(Role::Postgres),
                redis: pid(Role::Redis),
            },
            demo,
            data_directory: self.cluster.as_ref().map_or_else(
                || self.options.directory.clone(),
                |cluster| cluster.home().to_path_buf(),
            ),
        }
    }
}
