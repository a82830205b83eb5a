//! What can be said of traces, and what was said, judged.

use http::Uri;

/// Which traces are made, and where they go. The names are OpenTelemetry's own.
#[derive(Clone, Debug, clap::Args)]
pub struct TraceArgs {
    /// Origin of an OpenTelemetry collector that takes OTLP over HTTP (`http://127.0.0.1:4318`), to which
    /// traces are sent; none are made when it is not set.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", global = true)]
    pub otel_exporter_otlp_endpoint: Option<String>,
    /// Share of gateway calls that are traced, from 0 to 1.
    #[arg(
        long,
        env = "OTEL_TRACES_SAMPLER_ARG",
        default_value_t = 0.01,
        global = true
    )]
    pub otel_traces_sampler_arg: f64,
}

/// Where traces go, and how many.
#[derive(Clone, Debug, PartialEq)]
pub struct Traced {
    /// Where spans are posted.
    pub url: Uri,
    /// From 0 to 1.
    pub share: f64,
}

impl TraceArgs {
    /// Judges what was said; nothing when traces are off.
    pub fn check(&self) -> Result<Option<Traced>, String> {
        if !(0.0..=1.0).contains(&self.otel_traces_sampler_arg) {
            return Err("OTEL_TRACES_SAMPLER_ARG must be from 0 to 1".to_owned());
        }
        let Some(endpoint) = self.otel_exporter_otlp_endpoint.as_deref() else {
            return Ok(None);
        };
        if endpoint.is_empty() {
            return Ok(None);
        }
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let bad = "OTEL_EXPORTER_OTLP_ENDPOINT must be an http or https URL";
        let url: Uri = url.parse().map_err(|_| bad.to_owned())?;
        let is_http = matches!(url.scheme_str(), Some("http" | "https"));
        if !is_http || url.host().is_none() {
            return Err(bad.to_owned());
        }
        Ok(Some(Traced {
            url,
            share: self.otel_traces_sampler_arg,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(endpoint: Option<&str>, share: f64) -> Result<Option<Traced>, String> {
        let args = TraceArgs {
            otel_exporter_otlp_endpoint: endpoint.map(str::to_owned),
            otel_traces_sampler_arg: share,
        };
        args.check()
    }

    #[test]
    fn traces_are_off_until_an_endpoint_is_named() {
        assert_eq!(check(None, 1.0), Ok(None));
        assert_eq!(check(Some(""), 1.0), Ok(None));
        let traced = check(Some("http://127.0.0.1:4318/"), 0.5).unwrap().unwrap();
        assert_eq!(traced.url, "http://127.0.0.1:4318/v1/traces");
        assert!(check(Some("127.0.0.1:4318"), 0.5).is_err());
        assert!(check(Some("grpc://127.0.0.1:4317"), 0.5).is_err());
        for share in [-0.1, 1.1, f64::NAN] {
            assert!(check(None, share).unwrap_err().contains("SAMPLER_ARG"));
        }
    }
}
