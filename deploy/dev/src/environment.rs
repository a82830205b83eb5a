//! What each process of a stack is told: its addresses, stores, secrets and settings.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use crate::ports;
use crate::secrets::Secrets;
use crate::settings::{Service, Settings};

type Environment = BTreeMap<String, String>;

/// The ports of one gateway.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GatewayPorts {
    pub(crate) public: u16,
    pub(crate) admin: u16,
}

/// The ports of a control plane beside the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ControlPlanePorts {
    pub(crate) public: u16,
    pub(crate) internal: u16,
    pub(crate) admin: u16,
}

/// Where the processes of a stack listen, all on the loopback address.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub(crate) gateways: Vec<GatewayPorts>,
    pub(crate) control_plane: u16,
    pub(crate) internal: u16,
    pub(crate) control_plane_admin: u16,
    pub(crate) second_control_plane: ControlPlanePorts,
    pub(crate) relay: u16,
    pub(crate) demo_seller: u16,
}

impl Addresses {
    /// The contract's ports where they are free.
    pub(crate) fn of_the_contract(gateways: usize) -> Result<Self> {
        let mut addresses = Self::free(gateways.saturating_sub(1))?;
        let first = GatewayPorts {
            public: ports::preferred_or_free(Some(8080))?,
            admin: ports::preferred_or_free(Some(9080))?,
        };
        addresses.gateways.insert(0, first);
        addresses.control_plane = ports::preferred_or_free(Some(8081))?;
        addresses.internal = ports::preferred_or_free(Some(8082))?;
        addresses.control_plane_admin = ports::preferred_or_free(Some(9081))?;
        addresses.relay = ports::preferred_or_free(Some(8090))?;
        addresses.demo_seller = ports::preferred_or_free(Some(8091))?;
        Ok(addresses)
    }

    /// Free ports for everything.
    pub(crate) fn free(gateways: usize) -> Result<Self> {
        let gateway = |_| {
            Ok(GatewayPorts {
                public: ports::free()?,
                admin: ports::free()?,
            })
        };
        Ok(Self {
            gateways: (0..gateways).map(gateway).collect::<Result<_>>()?,
            control_plane: ports::free()?,
            internal: ports::free()?,
            control_plane_admin: ports::free()?,
            second_control_plane: ControlPlanePorts {
                public: ports::free()?,
                internal: ports::free()?,
                admin: ports::free()?,
            },
            relay: ports::free()?,
            demo_seller: ports::free()?,
        })
    }

    /// The front door's origin: the first gateway's, which every gateway calls public.
    pub(crate) fn front_door(&self) -> String {
        origin(
            self.gateways
                .first()
                .map_or(self.control_plane, |gateway| gateway.public),
        )
    }
}

/// `http://127.0.0.1:PORT`
pub(crate) fn origin(port: u16) -> String {
    format!("http://{}", listen(port))
}

fn listen(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// All that the environments are made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) addresses: Addresses,
    pub(crate) secrets: Secrets,
    pub(crate) settings: Settings,
    pub(crate) database_url: String,
    pub(crate) redis_url: String,
    /// Where the gateways find the internal API, when not at its own address: a test puts a proxy between.
    pub(crate) internal_through: Option<String>,
}

impl Plan {
    fn public_base_url(&self) -> String {
        self.settings
            .asked("PUBLIC_BASE_URL")
            .map_or_else(|| self.addresses.front_door(), str::to_owned)
    }

    pub(crate) fn control_plane(&self) -> Environment {
        let trusted = match self.settings.asked("TRUSTED_PROXIES") {
            Some(asked) if !asked.is_empty() => format!("127.0.0.0/8,{asked}"),
            _ => "127.0.0.0/8".to_owned(),
        };
        let told = pairs([
            ("DATABASE_URL", self.database_url.clone()),
            ("REDIS_URL", self.redis_url.clone()),
            ("CONTROL_PLANE_LISTEN", listen(self.addresses.control_plane)),
            (
                "CONTROL_PLANE_INTERNAL_LISTEN",
                listen(self.addresses.internal),
            ),
            (
                "CONTROL_PLANE_ADMIN_LISTEN",
                listen(self.addresses.control_plane_admin),
            ),
            ("INTERNAL_SECRETS", self.secrets.internal.clone()),
            ("CROCHET_MASTER_KEYS", self.secrets.master_key.clone()),
            ("GATEWAY_CACHE_KEYS", self.secrets.cache_key.clone()),
            ("PUBLIC_BASE_URL", self.public_base_url()),
            ("RELAY_BASE_URL", origin(self.addresses.relay)),
            ("RELAY_API_KEY", self.secrets.relay_api_key.clone()),
            (
                "SETTLEMENT_ADDRESS",
                self.secrets.settlement_address.clone(),
            ),
        ]);
        // Requests come through the gateway, which is the one proxy the control plane must believe.
        with_settings(
            told,
            self.settings.for_service(Service::ControlPlane),
            &[("TRUSTED_PROXIES", trusted)],
        )
    }

    /// The same on ports of its own.
    pub(crate) fn second_control_plane(&self) -> Environment {
        let ports = self.addresses.second_control_plane;
        let mut told = self.control_plane();
        told.extend(pairs([
            ("CONTROL_PLANE_LISTEN", listen(ports.public)),
            ("CONTROL_PLANE_INTERNAL_LISTEN", listen(ports.internal)),
            ("CONTROL_PLANE_ADMIN_LISTEN", listen(ports.admin)),
        ]));
        told
    }

    pub(crate) fn gateway(&self, ports: GatewayPorts) -> Environment {
        let told = pairs([
            ("GATEWAY_LISTEN", listen(ports.public)),
            ("GATEWAY_ADMIN_LISTEN", listen(ports.admin)),
            ("CONTROL_PLANE_URL", origin(self.addresses.control_plane)),
            (
                "CONTROL_PLANE_INTERNAL_URL",
                self.internal_through
                    .clone()
                    .unwrap_or_else(|| origin(self.addresses.internal)),
            ),
            ("INTERNAL_SECRET", self.secrets.internal.clone()),
            ("REDIS_URL", self.redis_url.clone()),
            ("GATEWAY_CACHE_KEYS", self.secrets.cache_key.clone()),
            ("PUBLIC_BASE_URL", self.public_base_url()),
        ]);
        with_settings(told, self.settings.for_service(Service::Gateway), &[])
    }

    pub(crate) fn relay(&self, directory: &Path) -> Environment {
        let told = pairs([
            ("RELAY_SANDBOX_LISTEN", listen(self.addresses.relay)),
            (
                "RELAY_SANDBOX_STATE",
                directory.join("relay-sandbox.jsonl").display().to_string(),
            ),
            ("RELAY_API_KEY", self.secrets.relay_api_key.clone()),
            // News comes in by the front door, as the provider's would.
            (
                "RELAY_WEBHOOK_URL",
                format!("{}/api/v1/webhooks/relay", self.addresses.front_door()),
            ),
        ]);
        with_settings(told, self.settings.for_service(Service::Relay), &[])
    }

    pub(crate) fn demo_seller(&self) -> Environment {
        let told = pairs([("DEMO_SELLER_LISTEN", listen(self.addresses.demo_seller))]);
        with_settings(told, self.settings.for_service(Service::DemoSeller), &[])
    }
}

fn pairs<const N: usize>(pairs: [(&str, String); N]) -> Environment {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn with_settings(
    mut told: Environment,
    settings: Environment,
    last: &[(&str, String)],
) -> Environment {
    told.extend(settings);
    told.extend(
        last.iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone())),
    );
    told
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::settings;

    fn plan(settings: Settings) -> Plan {
        let directory = std::env::temp_dir().join(format!(
            "crochet-dev-plan-{}-{}",
            std::process::id(),
            ports::free().unwrap()
        ));
        std::fs::create_dir_all(&directory).unwrap();
        let secrets = Secrets::open(&directory).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        Plan {
            addresses: Addresses::free(2).unwrap(),
            secrets,
            settings,
            database_url: "postgres://d".to_owned(),
            redis_url: "redis://r".to_owned(),
            internal_through: None,
        }
    }

    #[test]
    fn gateways_and_control_plane_agree_on_each_other() {
        let plan = plan(Settings::default());
        let (control_plane, gateway) = (
            plan.control_plane(),
            plan.gateway(plan.addresses.gateways[1]),
        );
        assert_eq!(
            control_plane["INTERNAL_SECRETS"],
            gateway["INTERNAL_SECRET"]
        );
        assert_eq!(
            gateway["CONTROL_PLANE_INTERNAL_URL"],
            format!("http://{}", control_plane["CONTROL_PLANE_INTERNAL_LISTEN"])
        );
        assert_eq!(
            gateway["GATEWAY_CACHE_KEYS"],
            control_plane["GATEWAY_CACHE_KEYS"]
        );
        assert_eq!(
            gateway["PUBLIC_BASE_URL"], control_plane["PUBLIC_BASE_URL"],
            "the second gateway too names the front door"
        );
        assert!(
            !gateway.contains_key("DATABASE_URL"),
            "a gateway holds no database credential"
        );
        assert!(!gateway.contains_key("CROCHET_MASTER_KEYS"));
        assert_eq!(control_plane["TRUSTED_PROXIES"], "127.0.0.0/8");
        assert_eq!(
            control_plane["RELAY_API_KEY"],
            plan.relay(Path::new("/d"))["RELAY_API_KEY"]
        );
    }

    #[test]
    fn a_setting_replaces_what_the_runner_would_have_said() {
        let mut settings = Settings::default();
        settings.set("CROCHET_MASTER_KEYS", "other:key").unwrap();
        settings
            .set("PUBLIC_BASE_URL", "https://crochet.example")
            .unwrap();
        settings.set("TRUSTED_PROXIES", "10.0.0.0/8").unwrap();
        let plan = plan(settings);
        assert_eq!(plan.control_plane()["CROCHET_MASTER_KEYS"], "other:key");
        assert_eq!(
            plan.control_plane()["TRUSTED_PROXIES"],
            "127.0.0.0/8,10.0.0.0/8"
        );
        assert_eq!(
            plan.gateway(plan.addresses.gateways[0])["PUBLIC_BASE_URL"],
            "https://crochet.example"
        );
        assert_eq!(
            plan.gateway(plan.addresses.gateways[0])["TRUSTED_PROXIES"],
            "10.0.0.0/8"
        );
    }

    /// The names a program reads, as the files of its configuration spell them.
    fn read_by(files: &[&str]) -> BTreeSet<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut read = BTreeSet::new();
        for file in files {
            let source = std::fs::read_to_string(root.join(file)).unwrap();
            let names = source.split("env = \"").skip(1);
            read.extend(names.filter_map(|rest| rest.split('"').next().map(str::to_owned)));
        }
        read.remove("RUST_LOG");
        read
    }

    /// A name that a service learns or forgets must be learned or forgotten here, or `--set` lies.
    #[test]
    fn every_name_a_service_reads_is_told_by_the_runner_or_can_be_set() {
        const TRACES: &str = "shared/traces/src/settings.rs";
        let plan = plan(Settings::default());
        let programs = [
            (
                Service::ControlPlane,
                &["control-plane/src/config.rs", TRACES][..],
                plan.control_plane(),
            ),
            (
                Service::Gateway,
                &[
                    "gateway-proxy/src/config.rs",
                    "gateway-proxy/src/config/tls.rs",
                    TRACES,
                ],
                plan.gateway(plan.addresses.gateways[0]),
            ),
            (
                Service::Relay,
                &["loadtest/relay-sandbox/src/config.rs"],
                plan.relay(Path::new("/d")),
            ),
            (
                Service::DemoSeller,
                &["loadtest/demo-seller/src/config.rs"],
                plan.demo_seller(),
            ),
        ];
        // The internal API of a development stack is plain HTTP on the loopback address.
        let left_alone = ["CONTROL_PLANE_CA_FILE"];
        for (service, config, told) in programs {
            let read = read_by(config);
            let settable: BTreeSet<String> = settings::known()
                .filter(|(_, readers)| readers.contains(&service))
                .map(|(name, _)| name.to_owned())
                .collect();
            let known: BTreeSet<String> =
                settable.iter().cloned().chain(told.into_keys()).collect();
            let unknown: Vec<_> = read
                .difference(&known)
                .filter(|name| !left_alone.contains(&name.as_str()))
                .collect();
            assert!(
                unknown.is_empty(),
                "{config:?} reads what the runner does not know: {unknown:?}"
            );
            let unread: Vec<_> = known.difference(&read).collect();
            assert!(unread.is_empty(), "{config:?} does not read {unread:?}");
        }
    }

    #[test]
    fn a_stack_has_as_many_gateways_as_asked_for() {
        for gateways in [1, 3] {
            assert_eq!(
                Addresses::of_the_contract(gateways).unwrap().gateways.len(),
                gateways
            );
        }
    }
}
